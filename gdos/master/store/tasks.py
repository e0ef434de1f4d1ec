"""Rows of tasks and their steps."""

from __future__ import annotations

from gdos.master.store.db import Db, Listing, Page, listing, row, rows
from gdos.master.store.reader import Row

LIST = Listing(
    select="SELECT * FROM tasks",
    key="id",
    sorts={"created_at": "created_at", "kind": "kind", "state": "state"},
    filters={"state": "state", "kind": "kind", "target": "target"},
    search=("kind", "target", "error", "created_by"),
    default_sort="-created_at",
)


def page(db: Db, asked: Page) -> tuple[list[Row], str | None]:
    return listing(db, LIST, asked)


def get(db: Db, id_: str) -> Row | None:
    return row(db, "SELECT * FROM tasks WHERE id = ?", (id_,))


def steps(db: Db, tasks: list[str]) -> dict[str, list[Row]]:
    """The steps of each of these tasks, in order."""
    marks = ", ".join("?" * len(tasks))
    found: dict[str, list[Row]] = {task: [] for task in tasks}
    for step in rows(db, f"SELECT * FROM task_steps WHERE task IN ({marks}) ORDER BY task, number", tasks):
        found[step["task"]].append(step)
    return found


def open_steps(db: Db, instance: str) -> list[Row]:
    return rows(db, "SELECT * FROM task_steps WHERE instance = ? AND state IN ('queued', 'running')", (instance,))


def step_states(db: Db, task: str) -> list[Row]:
    return rows(db, "SELECT state, message, target FROM task_steps WHERE task = ? ORDER BY number", (task,))


def counts(db: Db) -> dict[str, int]:
    return {r["state"]: r["n"] for r in rows(db, "SELECT state, count(*) AS n FROM tasks GROUP BY state")}


def trim(db: Db, keep: int) -> None:
    """Keep the newest `keep` finished tasks."""
    db.execute(
        "DELETE FROM tasks WHERE finished_at IS NOT NULL AND id NOT IN"
        " (SELECT id FROM tasks ORDER BY created_at DESC LIMIT ?)",
        (keep,),
    )
