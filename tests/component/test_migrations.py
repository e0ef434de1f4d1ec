"""A database of an older version, with what people had in it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from gdos.master.services import values
from gdos.master.services.context import Context
from gdos.master.services.vault import Vault
from gdos.master.store.db import Store, rows
from gdos.master.store.migrate import migrations


def test_configuration_and_start_order_of_version_1_live_on(tmp_path: Path) -> None:
    path = tmp_path / "gdos.db"
    with sqlite3.connect(path) as db:
        db.executescript(migrations()[0][1] + "\nPRAGMA user_version=1;")
        db.execute("INSERT INTO nodes (id, name, state, joined_at) VALUES ('n-1', 'w1', 'offline', 1)")
        db.execute("INSERT INTO systems (id, name, created_at) VALUES ('s-1', 'shop', 1)")
        module = "INSERT INTO modules (id, system, name, package, version, depends_on, config, created_at) VALUES"
        db.execute(f"{module} ('m-1', 's-1', 'db', 'pg', '1', '[]', '{{}}', 1)")
        env = json.dumps({"env": {"A": "module", "B": 'with "quotes"'}})
        db.execute(f"{module} ('m-2', 's-1', 'web', 'web', '1', '[\"db\"]', ?, 1)", (env,))
        db.execute(
            "INSERT INTO instances (id, name, system, module, node, package, version, sha256, size, env, revision,"
            " created_at) VALUES ('i-1', 'web-1', 's-1', 'm-2', 'n-1', 'web', '1', 'x', 1, ?, 1, 1)",
            (json.dumps({"A": "instance"}),),
        )
        task = "INSERT INTO tasks (id, kind, target, state, created_by, created_at) VALUES"
        db.execute(f"{task} ('t', 'start', 'x', 'running', 'a', 1)")
        db.execute("INSERT INTO task_steps VALUES ('t', 0, 'start', 'web-1@w1', 'i-1', 'running', 1, 'running', '')")
    db.close()
    store = Store(path)
    try:
        ctx = Context(store, None, Vault(tmp_path / "key"), now=lambda: 1)  # type: ignore[arg-type]
        read = store.read()
        assert rows(read, "SELECT depends_on FROM modules ORDER BY id") == [
            {"depends_on": "[]"}, {"depends_on": '[{"module":"db"}]'},
        ]  # fmt: skip
        instance = rows(read, "SELECT * FROM instances")
        assert values.effective(read, ctx, instance) == {"i-1": {"A": "instance", "B": 'with "quotes"'}}
        assert rows(read, "SELECT is_issued, needs FROM task_steps") == [{"is_issued": 1, "needs": "[]"}]
    finally:
        store.close()
    assert (tmp_path / "gdos.db.before-0002").exists()
