"""Starts that cannot work: one clear sentence, the right exit code, nothing half-done left."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket

from gdos.cli.client import Client
from gdos.wire import codec
from gdos.wire import messages as m
from tests.conftest import need
from tests.kit.cluster import ROOT, Cluster
from tests.kit.wait import wait_until


def start(tmp_path: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A program that is expected to end by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPS_", "GDOS_"))}
    return subprocess.run(
        [sys.executable, "-m", "gdos", *args], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**clean, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state"), **env},
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("master", "--port", "99999"), ("server.port (flag --port)", "a port from 0 to 65535", "'99999'")),
        (("master", "--offline-threshold", "0s"), ("from 2s to 3600s",)),
        (("master", "--store-type", "floppy"), ("expected one of local, minio",)),
        (("master", "--store-type", "minio"), ("--minio-endpoint HOST:PORT",)),
        (("master", "--tls-cert", "x.pem"), ("give both --tls-cert and --tls-key",)),
        (("master", "--config", "nowhere.yaml"), ("nowhere.yaml: cannot be read",)),
        (("worker", "--master", "ftp://x"), ('expected a URL such as "http://10.0.0.1:8080"',)),
        (("worker", "--allow", "everything"), ("expected some of deploy, supervise",)),
        (("worker", "--label", "novalue"), ("expected labels as key=value",)),
        (("worker", "--port", "-5"), ("a port from 0 to 65535",)),
        (("master", "--colour", "red"), ("No such option",)),
        (("logs",), ("Missing argument",)),
    ],
)
def test_flags_out_of_range(tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    said(start(tmp_path, *args), 2, *words)


def test_all_wrong_settings_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: x}\nstorage: {type: tape}\nlogic: {upload_max: much}\n")
    done = start(tmp_path, "master")
    said(done, 2, "server.port (file config.yaml)", "storage.type (file config.yaml)", "logic.upload_max")


def test_where_settings_come_from(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: 9091}\nstorage: {minio: {sk: hidden}}\nlgoic: {x: 1}\n")
    done = start(tmp_path, "config", "show", "master", "--origin", OPS_MASTER_SERVER_HOST="10.1.1.1")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "9091" in lines["server.port"]
    assert "file config.yaml" in lines["server.port"]
    assert "environment OPS_MASTER_SERVER_HOST" in lines["server.host"]
    assert "hidden" not in done.stdout
    assert "lgoic.x is not a known setting" in done.stderr or "lgoic is not a known setting" in done.stderr


def test_a_database_from_a_newer_version(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "gdos.db") as db:
        db.execute("PRAGMA user_version=99")
    before = (tmp_path / "gdos.db").read_bytes()
    said(start(tmp_path, "master", "--port", "0"), 1, "has version 99, this gdos knows up to 2")
    assert (tmp_path / "gdos.db").read_bytes() == before


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "gdos.db").write_bytes(b"this is not a database" * 100)
    said(start(tmp_path, "master", "--port", "0"), 2, "is not a database of gdos, or it is damaged")


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said(start(tmp_path, "master", "--data-dir", "file/below"), 3, "cannot be written", "--data-dir")
    said(
        start(tmp_path, "worker", "--work-dir", "file/below", "--join-token", "x"), 3, "cannot be written", "--work-dir"
    )
    said(start(tmp_path, "master", "--data-dir", "ok", "--upload-dir", "file/below"), 3, "package folder")


def test_a_folder_of_another_user(tmp_path: Path) -> None:
    need("root", os.geteuid() == 0, "becoming another user needs root")
    tmp_path.chmod(0o755)
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o700)
    code = (
        "import os\n"
        "from gdos.master.app import _lock\n"
        "from pathlib import Path\n"
        "from gdos.model.errors import GdosError\n"
        "os.setuid(65534)\n"
        f"try:\n    _lock(Path({str(folder / 'x')!r}))\nexcept GdosError as e:\n    print(e.detail)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "cannot be written (Permission denied)" in done.stdout, done.stderr


def test_two_masters_on_one_folder(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=0)
    done = start(cluster.folder, "master", "--data-dir", "master", "--port", "0")
    said(done, 1, "another master uses the data folder")
    other = start(cluster.folder, "master", "--data-dir", "other", "--host", "127.0.0.1", "--port", str(cluster.port))
    said(other, 1, f"port {cluster.port} on 127.0.0.1 is taken by another program")


def test_a_short_admin_password(tmp_path: Path) -> None:
    done = start(tmp_path, "master", "--port", "0", GDOS_ADMIN_PASSWORD="short")
    said(done, 2, "GDOS_ADMIN_PASSWORD: expected at least 8 characters")


@pytest.mark.parametrize("kind", ["unknown", "used up", "mistyped"])
def test_a_worker_with_a_wrong_token(make_cluster: Callable[..., Cluster], kind: str) -> None:
    cluster = make_cluster(workers=0)
    token = cluster.join_token(uses=1)
    if kind == "used up":
        Client(cluster.url, token).post("/join", {})
    token = {"unknown": "nonsense", "used up": token, "mistyped": token[:-2]}[kind]
    args = ["--master", cluster.url, "--port", "0", "--work-dir", "w", "--join-token", token]
    words = {"unknown": "is not known here", "used up": "is used up", "mistyped": "mistyped or cut off"}[kind]
    said(start(cluster.folder, "worker", *args), 4, words)
    assert not (cluster.folder / "w" / "node.json").exists()


def test_a_worker_without_a_token(tmp_path: Path) -> None:
    done = start(tmp_path, "worker", "--master", "http://gdos.invalid:1", "--port", "0")
    said(done, 4, "has not joined http://gdos.invalid:1 yet: start it with --join-token TOKEN")


def test_a_damaged_node_json(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "node.json").write_text("{")
    done = start(tmp_path, "worker", "--work-dir", "w", "--port", "0")
    said(done, 2, "node.json: cannot be read", "delete it to join as a new node")


def test_a_worker_of_a_newer_protocol_is_refused_in_words(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=0)
    joined = Client(cluster.url, cluster.join_token()).post("/join", {})
    header = [f"Authorization: Bearer {joined['credential']}"]
    link = websocket.create_connection(cluster.url.replace("http", "ws") + "/ws/worker", header=header, timeout=10)
    facts: dict[str, Any] = {}
    hello = m.Hello(protocol=99, version="9.9", run="r", epoch="e", revision=0, work_dir="/", hostname="h", facts=facts)
    link.send(codec.encode(hello))
    answer = codec.from_master(link.recv().encode())
    link.close()
    assert isinstance(answer, m.Refused)
    assert "this master speaks protocol 1" in answer.reason
    assert "update the master first" in answer.reason
    assert answer.is_final
    assert cluster.client.all("/nodes")[0]["state"] == "offline"


def test_garbage_on_a_workers_link_ends_that_link_only(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=1)
    joined = Client(cluster.url, cluster.join_token()).post("/join", {})
    url = cluster.url.replace("http", "ws") + "/ws/worker"
    for data in ("{", '{"t":"WantedAck","revision":1}', "x" * 100_000, '{"t":"Hello"}'):
        link = websocket.create_connection(url, header=[f"Authorization: Bearer {joined['credential']}"], timeout=10)
        link.send(data)
        opcode, _ = link.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        link.shutdown()
    wait_until(lambda: (cluster.node("w1") or {})["state"] == "online", "the other to be untouched")
