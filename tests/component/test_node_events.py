"""What nodes go through stands in the timelines of their instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdos.master.services import nodes, why
from gdos.master.services.context import Context
from gdos.master.services.vault import Vault
from gdos.master.store.db import Store, insert
from gdos.wire.messages import Hello

HOUR = 3_600_000


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    clock = iter(range(100 * HOUR, 1000 * HOUR, HOUR))
    made = Context(Store(tmp_path / "gdos.db"), None, Vault(tmp_path / "key"), now=lambda: next(clock))  # type: ignore[arg-type]

    def write(db: object) -> None:
        insert(db, "nodes", {"id": "n-1", "name": "w1", "state": "online", "joined_at": 1, "last_seen": 1})  # type: ignore[arg-type]
        insert(db, "systems", {"id": "s", "name": "s", "created_at": 1})  # type: ignore[arg-type]
        insert(db, "modules", {"id": "m", "system": "s", "name": "m", "package": "p", "version": "1", "created_at": 1})  # type: ignore[arg-type]
        row = {"id": "i-1", "name": "m-1", "system": "s", "module": "m", "node": "n-1", "package": "p", "version": "1"}
        insert(db, "instances", {**row, "sha256": "x", "size": 1, "revision": 1, "created_at": 1, "state": "running"})  # type: ignore[arg-type]

    made.store.write(write)
    return made


def hello(boot: int) -> Hello:
    facts = {"boot_time": boot, "hostname": "h"}
    return Hello(protocol=1, version="0", run="r", epoch="e", revision=0, work_dir="/", hostname="h", facts=facts)


def test_absence_return_and_reboot_are_told(ctx: Context) -> None:
    nodes.connected(ctx, "n-1", hello(50 * HOUR), "127.0.0.1")
    nodes.set_state(ctx, "offline", {"n-1": 90 * HOUR})
    nodes.connected(ctx, "n-1", hello(50 * HOUR + 2000), "127.0.0.1")  # the clock was set: no reboot
    nodes.connected(ctx, "n-1", hello(99 * HOUR), "127.0.0.1")
    told = [(e["kind"], e["reason"]) for e in why.why(ctx, "m-1", 50)["timeline"]]
    assert [kind for kind, _ in told] == ["node reboot", "node online", "node offline"]
    assert told[0][1].startswith("the machine was started anew at 1970-01-05T03:00:00")
    assert told[2][1].startswith("nothing was heard of it since")
    ctx.store.close()
