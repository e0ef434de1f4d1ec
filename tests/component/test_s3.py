"""Packages on a real S3 server (versitygw), which the test starts itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gdos.model.errors import GdosError
from tests.conftest import need
from tests.kit.cluster import Cluster
from tests.kit.packages import make_package
from tests.kit.wait import wait_until

GATEWAY = os.environ.get("GDOS_TEST_S3") or shutil.which("versitygw") or ""


class Gateway:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        env = {**os.environ, "ROOT_ACCESS_KEY": "gdos", "ROOT_SECRET_KEY": "gdos-secret-key"}
        command = [GATEWAY, "--port", f"127.0.0.1:{self.port}", "posix", "--nometa", str(self.folder)]
        with open(self.folder.parent / "s3.log", "ab") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        wait_until(self.is_up, "the S3 server")

    def is_up(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    need("s3", bool(GATEWAY), "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0, or set GDOS_TEST_S3")
    made = Gateway(tmp_path / "s3" / "data")
    yield made
    made.stop()


def options(gateway: Gateway, secret: str = "gdos-secret-key") -> list[str]:
    return [
        "--store-type", "minio", "--minio-endpoint", f"127.0.0.1:{gateway.port}",
        "--minio-ak", "gdos", "--minio-sk", secret, "--minio-bucket", "gdos-packages",
    ]  # fmt: skip


def test_packages_live_in_the_bucket(make_cluster: Callable[..., Cluster], gateway: Gateway, tmp_path: Path) -> None:
    cluster = make_cluster(*options(gateway))
    path = make_package(tmp_path, "sleeper")
    found = cluster.upload_file(path)
    assert (gateway.folder / "gdos-packages" / "packages" / found["sha256"]).read_bytes() == path.read_bytes()
    answer = cluster.client.request("GET", "/packages/sleeper/1.0.0/download", headers={"Range": "bytes=5-99"})
    assert answer.data == path.read_bytes()[5:100]
    task = cluster.deploy("s/x", "sleeper:1.0.0")
    assert task["state"] == "succeeded"
    cluster.act("s/x", "destroy")
    cluster.client.call("DELETE", "/systems/s")
    cluster.client.call("DELETE", "/packages/sleeper/1.0.0")
    assert not (gateway.folder / "gdos-packages" / "packages" / found["sha256"]).exists()
    assert list((cluster.folder / "master" / "incoming" / "tmp").iterdir()) == []


def test_a_server_that_is_away_is_said_and_waited_for(
    make_cluster: Callable[..., Cluster], gateway: Gateway, tmp_path: Path
) -> None:
    gateway.stop()
    cluster = make_cluster(*options(gateway))
    path = make_package(tmp_path, "sleeper")
    with pytest.raises(GdosError, match=f"the S3 service 127.0.0.1:{gateway.port} cannot be reached") as caught:
        cluster.upload_file(path)
    assert caught.value.code == "unavailable"
    assert cluster.client.all("/packages") == []
    gateway.start()
    cluster.upload_file(path)
    gateway.stop()
    task = cluster.deploy("s/x", "sleeper:1.0.0", wait=False)
    wait_until(lambda: "cannot be reached" in cluster.instance("x-1")["reason"], "the reason on the instance")
    gateway.start()
    assert cluster.ended(task)["state"] == "succeeded"


def test_a_wrong_key_is_said(make_cluster: Callable[..., Cluster], gateway: Gateway, tmp_path: Path) -> None:
    cluster = make_cluster(*options(gateway, "wrong"), workers=0)
    with pytest.raises(GdosError, match="refused: .*check key, bucket and clock"):
        cluster.upload_file(make_package(tmp_path, "sleeper"))
    assert cluster.client.all("/packages") == []
