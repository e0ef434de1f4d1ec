"""The corpus of hostile ZIPs: each refused with the name of what is wrong, nothing ever written outside."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdos.model.errors import BadPackage
from gdos.pack.check import check_zip
from gdos.pack.zipguard import Archive, Limits

MANIFEST = b'{"name": "x", "version": "1", "entrypoint": "run.sh"}'


def make(*entries: tuple[str, bytes], mode: int = 0, **info: int) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            if mode:
                entry.external_attr = mode << 16
            for key, value in info.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    out.seek(0)
    return out


def refused(file: io.BytesIO, limits: Limits | None = None) -> str:
    with pytest.raises(BadPackage) as caught:
        Archive(file, limits)
    return caught.value.detail


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/passwd", "C:/x", "c:x", "a\\..\\b", "..", "a/./b", "a//b", "con", "a/NUL.txt",
     "lpt1", "x.", "x ", "a:b", "bell\x07", "n" * 2000],
)  # fmt: skip
def test_hostile_names(name: str) -> None:
    assert "refused" in refused(make((name, b"x")))


def test_an_entry_without_a_name() -> None:
    data = make(("AB", b"x")).getvalue().replace(b"AB", b"\0B")
    assert "refused" in refused(io.BytesIO(data))


def test_names_that_collide() -> None:
    assert "differs from" in refused(make(("A.txt", b"1"), ("a.TXT", b"2")))
    assert "differs from" in refused(make(("caf\u00e9", b"1"), ("cafe\u0301", b"2")))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = make(("same", b"1"), ("same", b"2"))
    assert "twice" in refused(twice)
    assert "lies below" in refused(make(("a", b"file"), ("a/b", b"x")))


def test_links_and_devices() -> None:
    for kind in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK):
        assert "device" in refused(make(("x", b""), mode=kind | 0o644))


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "..", "sub/../../x"])
def test_a_link_that_leaves_is_refused_and_removed(tmp_path: Path, target: str) -> None:
    file = make(("link", target.encode()), mode=stat.S_IFLNK | 0o777)
    with Archive(file) as archive, pytest.raises(BadPackage, match="leaves the package"):
        archive.extract(tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


def test_a_chain_of_links_cannot_leave(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, target in (("a", "."), ("b", "a/../..")):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    out.seek(0)
    with Archive(out) as archive, pytest.raises(BadPackage, match="leaves the package"):
        archive.extract(tmp_path / "out")


def test_a_good_link_is_kept(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("real", "data")
        entry = zipfile.ZipInfo("link")
        entry.create_system = 3
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "real")
    out.seek(0)
    with Archive(out) as archive:
        archive.extract(tmp_path / "out")
    assert (tmp_path / "out" / "link").read_text() == "data"


def test_bombs() -> None:
    bomb = make(("zeros", bytes(64 << 20)))
    assert "times its size" in refused(bomb)
    assert "entries" in refused(make(*[(f"f{i}", b"") for i in range(11)]), Limits(entries=10))
    assert "unpacks to" in refused(make(("f", bytes(2000))), Limits(total_bytes=1000))


def test_a_lying_size_is_counted_while_reading(tmp_path: Path) -> None:
    data = bytearray(make(("f", bytes(5000))).getvalue())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(signature)
        data[at + offset : at + offset + 4] = struct.pack("<I", 100)
    with pytest.raises(BadPackage), Archive(io.BytesIO(bytes(data))) as archive:
        archive.extract(tmp_path / "out")


def test_overlapping_entries() -> None:
    data = bytearray(make(("a", os.urandom(3000)), ("b", os.urandom(3000))).getvalue())
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    assert "overlaps" in refused(io.BytesIO(bytes(data)))


def test_encrypted_and_unknown_methods() -> None:
    data = bytearray(make(("a", b"x")).getvalue())
    at = data.find(b"PK\x01\x02")
    encrypted = data[:]
    encrypted[at + 8] |= 1
    assert "encrypted" in refused(io.BytesIO(bytes(encrypted)))
    odd = data[:]
    odd[at + 10] = 12
    assert "method 12" in refused(io.BytesIO(bytes(odd)))


def test_not_a_zip_and_a_cut_one() -> None:
    assert "not a ZIP" in refused(io.BytesIO(b"hello"))
    assert "not a ZIP" in refused(io.BytesIO(make(("a", b"x" * 1000)).getvalue()[:-30]))
    assert "not a ZIP" in refused(io.BytesIO(b""))


def test_chinese_names_of_old_tools(tmp_path: Path) -> None:
    name = "配置.txt"
    data = make(("AAAAAAAA", b"x")).getvalue()
    raw = name.encode("gbk")
    data = data.replace(b"AAAAAAAA", raw.ljust(8, b"_")[:8])
    with Archive(io.BytesIO(data)) as archive:
        (found,) = archive.names
        assert found.encode("gbk") == raw.ljust(8, b"_")[:8]


def test_mode_bits_are_kept_without_the_dangerous_ones(tmp_path: Path) -> None:
    with Archive(make(("run.sh", b"x"), mode=stat.S_IFREG | 0o6777)) as archive:
        archive.extract(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "run.sh").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("run.sh", b"")], "service.json is missing"),
        ([("wrap/service.json", MANIFEST), ("wrap/run.sh", b"")], "pack what is in wrap/"),
        ([("service.json", b"{")], "broken JSON at line 1"),
        ([("service.json", b'{"name": 1, "version": [], "entrypoint": "a/b"}')], "name: expected a string like"),
        ([("service.json", b'{"name":"x","version":"1","entrypoint":"bin/run"}')], "bin/run is not in the package"),
    ],
)
def test_packages_that_cannot_run(entries: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(BadPackage) as caught:
        check_zip(make(*entries))
    assert said in caught.value.detail


parts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(["..", ".", "a", "A", "con"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(entries=st.lists(st.tuples(names, st.binary(max_size=50)), max_size=6))
def test_any_zip_never_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("zip")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = make(*entries)
        except (ValueError, UnicodeError, IndexError):
            return  # zipfile itself will not write such a name
    try:
        with Archive(file) as archive:
            archive.extract(root / "in" / "out")
    except BadPackage:
        pass
    except OSError:
        pass  # a name that this file system cannot hold
    outside = [p for p in root.rglob("*") if not p.is_relative_to(root / "in" / "out") and p != root / "in"]
    assert outside == []
