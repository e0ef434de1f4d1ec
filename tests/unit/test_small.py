"""Restart policy, placeholders, sizes, settings, secrets, the original's spellings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos import settings
from gdos.cli.original import translate
from gdos.master import config as master_config
from gdos.master.services import access
from gdos.model import restart
from gdos.model.errors import BadConfig, BadInput
from gdos.model.manifest import Manifest
from gdos.model.placeholders import fill, names_in
from gdos.model.restart import Verdict
from gdos.model.values import Exit, format_duration, parse_duration, parse_size
from gdos.worker import config as worker_config


def manifest(**changes: Any) -> Manifest:
    return Manifest(name="a", version="1", entrypoint="x", **changes)


@pytest.mark.parametrize(
    ("policy", "exit_", "verdict"),
    [
        ("on-failure", Exit(code=0), Verdict.ENDED),
        ("on-failure", Exit(code=3), Verdict.RETRY),
        ("on-failure", Exit(signal=9), Verdict.RETRY),
        ("on-failure", Exit(), Verdict.RETRY),
        ("always", Exit(code=0), Verdict.RETRY),
        ("never", Exit(code=0), Verdict.ENDED),
        ("never", Exit(code=1), Verdict.GIVE_UP),
    ],
)
def test_the_restart_policy(policy: str, exit_: Exit, verdict: Verdict) -> None:
    assert restart.after_exit(manifest(restart=policy), exit_, 0) is verdict


def test_a_job_completes_and_retries_end() -> None:
    assert restart.after_exit(manifest(kind="job"), Exit(code=0), 0) is Verdict.COMPLETE
    limited = manifest(restart_max_retries=2)
    assert [restart.after_exit(limited, Exit(code=1), n) for n in (0, 1, 2)] == [
        Verdict.RETRY, Verdict.RETRY, Verdict.GIVE_UP,
    ]  # fmt: skip


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_grows_to_its_maximum_and_never_beyond(tries: int, chance: float) -> None:
    wait = restart.delay_s(manifest(restart_delay=0.5, restart_max_delay=20.0), tries, chance)
    assert 0.45 <= wait <= 22.0


def test_no_delay_stays_no_delay() -> None:
    assert restart.delay_s(manifest(restart_delay=0.0), 50, 0.9) == 0.0


@given(st.text())
def test_text_without_a_dollar_is_left_alone(text: str) -> None:
    plain = text.replace("$", "")
    assert fill(plain, {}, "x") == plain
    assert fill(text.replace("$", "$$"), {}, "x") == text


def test_an_unknown_placeholder_names_where_and_what_is_known() -> None:
    assert fill("${A}-${B}$$", {"A": "1", "B": "2"}, "args[0]") == "1-2$"
    with pytest.raises(BadInput, match=r"args\[0\]: \$\{C\} is not known here; known are A, B"):
        fill("${C}", {"A": "1", "B": "2"}, "args[0]")
    with pytest.raises(ValueError, match="expected"):
        names_in("${")


def test_sizes_and_durations() -> None:
    assert (parse_size("512M"), parse_size("1.5 GiB"), parse_size("7")) == (512 << 20, 1536 << 20, 7)
    assert (parse_duration("1h30m"), parse_duration("250ms"), parse_duration("45")) == (5400, 0.25, 45)
    for bad in ("", "abc", "5 x", "-3s"):
        with pytest.raises(BadInput):
            parse_duration(bad)
    assert [format_duration(x) for x in (0.25, 65, 90061)] == ["250ms", "1m5s", "1d1h"]


def load_master(flags: dict[str, Any], environ: dict[str, str], text: str = "") -> settings.Resolved:
    file = ("config.yaml", text) if text else None
    return settings.resolve(master_config.TABLE, master_config.PREFIX, flags, environ, file)


def test_flag_before_environment_before_file_before_default() -> None:
    text = "server: {port: 1001, host: 10.0.0.1}\nlogic: {node_offline_threshold: 45s}\n"
    environ = {"OPS_MASTER_SERVER_PORT": "1002"}
    found = load_master({"port": ":1003"}, environ, text)
    assert found["server.port"] == 1003
    assert found["server.host"] == "10.0.0.1"
    assert found["logic.node_offline_threshold"] == 45
    assert load_master({}, environ, text)["server.port"] == 1002
    assert found.origins["server.host"] == "file config.yaml"
    assert found.origins["storage.type"] == "default"


def test_an_unknown_key_is_a_warning_that_names_the_nearest() -> None:
    found = load_master({}, {}, "server: {prot: 1}\n")
    assert found.warnings == [
        "config.yaml: server.prot is not a known setting and has no effect; did you mean server.port?"
    ]


def test_wrong_values_stop_the_start_all_at_once() -> None:
    with pytest.raises(BadConfig) as caught:
        load_master({"port": "99999", "tls": "maybe", "offline-threshold": "1ms"}, {})
    assert [p.path for p in caught.value.problems] == [
        "server.port (flag --port)", "tls.mode (flag --tls)", "logic.node_offline_threshold (flag --offline-threshold)",
    ]  # fmt: skip
    with pytest.raises(BadConfig, match="stands there twice"):
        load_master({}, {}, "server: {port: 1}\nserver: {port: 2}\n")
    with pytest.raises(BadConfig, match="not YAML"):
        load_master({}, {}, "server: [")


def test_the_workers_settings() -> None:
    found = worker_config.load({"label": ["a=1", "b=2"], "master": "10.0.0.1:8080"}, {"GDOS_JOIN_TOKEN": "t"}, None)
    assert (found.labels, found.master, found.join_token) == ({"a": "1", "b": "2"}, "http://10.0.0.1:8080", "t")
    with pytest.raises(BadConfig, match="expected some of"):
        worker_config.load({"allow": "everything"}, {}, None)


@pytest.mark.parametrize(
    ("program", "given", "expected"),
    [
        ("master", "-port :9090 -db_path /data/ops.db", "master --port :9090 --db-path /data/ops.db"),
        ("master", "-store_type minio -minio_endpoint h:9000", "master --store-type minio --minio-endpoint h:9000"),
        ("master", "-minio_secure=true --db_path=x", "master --minio-secure --db-path=x"),
        ("worker", "-port 8082 -master http://m:8080 -work_dir /opt/i -autostart 1",
         "worker --port 8082 --master http://m:8080 --work-dir /opt/i --autostart 1"),
        ("gdos", "worker -master http://m", "worker --master http://m"),
        ("pack-tool", "build ./p -o x.zip", "pack build ./p -o x.zip"),
        ("gdos", "logs web-1 -f -n 5", "logs web-1 -f -n 5"),
    ],
)  # fmt: skip
def test_the_originals_command_lines(program: str, given: str, expected: str) -> None:
    assert translate(program, given.split()) == expected.split()


def test_tokens_carry_a_checksum() -> None:
    secret = access.make_secret("join")
    assert access.is_well_formed(secret)
    assert not access.is_well_formed(secret[:-1] + ("0" if secret[-1] != "0" else "1"))
    assert not access.is_well_formed("gdos_join_x")
