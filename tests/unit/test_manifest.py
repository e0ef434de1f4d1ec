from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model import jsonc
from gdos.model.errors import BadPackage
from gdos.model.manifest import Manifest, check, read

GOOD: dict[str, Any] = {"name": "web", "version": "1.0", "entrypoint": "bin/web"}


def problems(**changes: Any) -> dict[str, str]:
    with pytest.raises(BadPackage) as caught:
        check({**GOOD, **changes})
    return {p.path: p.message for p in caught.value.problems}


def test_the_smallest_manifest_has_the_originals_defaults() -> None:
    m = check(GOOD).manifest
    assert (m.readiness_type, m.readiness_timeout, m.stop_timeout, m.restart, m.kind) == (
        "none", 30, 10, "on-failure", "service",
    )  # fmt: skip


def test_an_original_manifest_with_comments_is_accepted_unchanged() -> None:
    text = b"""\xef\xbb\xbf{
      // the service
      "name": "order-service", /* unique */
      "version": "1.0.2", "os": "linux",
      "entrypoint": "./start.sh", "args": ["-c", "http://x/y", "/* not a comment */"],
      "env": {"A": "b"}, "stop_entrypoint": "", "stop_args": null,
      "readiness_type": "tcp", "readiness_target": "127.0.0.1:8080", "readiness_timeout": 0,
      "log_paths": {"access": "logs/access.log"}, "is_external": false,
    }"""
    checked = read(text)
    assert checked.manifest.args == ["-c", "http://x/y", "/* not a comment */"]
    assert checked.manifest.readiness_timeout == 30
    assert any("readiness_timeout" in w for w in checked.warnings)


def test_a_wrong_type_is_said_with_path_found_and_allowed() -> None:
    assert problems(readiness_timeout="abc") == {
        "readiness_timeout": 'expected an integer number of seconds from 1 to 3600, got "abc"'
    }


def test_all_problems_come_at_once() -> None:
    found = problems(name="", version=3, args="x", env={"A": 1}, ports={"http": 70000}, os="beos", kind=None)
    assert set(found) == {"name", "version", "args", "env.A", "ports.http", "os"}
    assert found["ports.http"] == "expected a port from 1 to 65535, got 70000"


@pytest.mark.parametrize("path", ["/bin/sh", "../x", "a/../../b", "C:\\x", "a\\b", "~/x"])
def test_paths_stay_inside_the_package(path: str) -> None:
    assert "entrypoint" in problems(entrypoint=path)


@pytest.mark.parametrize(
    ("kind", "target"),
    [("tcp", "nohost"), ("http", "ftp://x"), ("time", "soon"), ("exec", ""), ("log", "("), ("tcp", "")],
)
def test_a_probe_needs_a_target_of_its_kind(kind: str, target: str) -> None:
    assert "readiness_target" in problems(readiness_type=kind, readiness_target=target)


def test_placeholders_are_judged_later() -> None:
    assert check({**GOOD, "readiness_type": "tcp", "readiness_target": "127.0.0.1:${PORT}"}).manifest
    assert "args[0]" in problems(args=["${"])


def test_unknown_fields_are_a_warning() -> None:
    checked = check({**GOOD, "colour": "red"})
    assert checked.warnings == ["colour: is not a known field; it is kept and has no effect"]


def test_go_matched_keys_without_case() -> None:
    assert check({"Name": "web", "Version": "1", "Entrypoint": "x/y"}).manifest.name == "web"


def test_broken_json_names_line_and_column() -> None:
    with pytest.raises(BadPackage, match=r"line 2, column 11"):
        read(b'{\n  "name": web\n}')
    with pytest.raises(BadPackage, match="stands there twice"):
        read(b'{"name": "a", "name": "b"}')
    with pytest.raises(BadPackage, match="not UTF-8"):
        read("{'name': 'é'}".encode("latin1"))
    with pytest.raises(BadPackage, match="expected a JSON object"):
        read(b"[]")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_comments_and_commas_never_change_a_value(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1)
    loose = "// one\n" + text.replace("\n]", ",/*x*/\n]").replace("\n}", ", // y\n}") + "/* end */"
    assert json.loads(jsonc.strip(text)) == value
    if not any(c in text for c in ("\\n]", "\\n}")):
        assert json.loads(jsonc.strip(loose)) == value


@given(st.dictionaries(st.sampled_from(sorted(Manifest.__struct_fields__)), json_values))
def test_any_input_is_a_manifest_or_a_list_of_problems(raw: dict[str, Any]) -> None:
    try:
        assert check(raw).manifest.name
    except BadPackage as e:
        assert e.problems
