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


_OPEN = "state IN ('queued', 'running')"


def open_steps(db: Db, instance: str) -> list[Row]:
    """What was asked of an instance and is not done."""
    return rows(db, f"SELECT * FROM task_steps WHERE instance = ? AND {_OPEN} AND is_issued", (instance,))


def waiting_steps(db: Db, instance: str) -> list[Row]:
    """What is planned of an instance and was not asked for yet."""
    return rows(db, f"SELECT * FROM task_steps WHERE instance = ? AND {_OPEN} AND NOT is_issued", (instance,))


def step(db: Db, task: str, number: int) -> Row:
    found = row(db, "SELECT * FROM task_steps WHERE task = ? AND number = ?", (task, number))
    assert found is not None
    return found


def tasks_needing(db: Db, instance: str) -> list[str]:
    """Open tasks with planned steps and a step of this instance: what it has become may open a gate."""
    sql = (
        "SELECT DISTINCT o.task FROM task_steps o WHERE o.instance = ? AND o.is_issued AND EXISTS (SELECT 1 FROM"
        f" task_steps w WHERE w.task = o.task AND NOT w.is_issued AND w.{_OPEN})"
    )
    return [r["task"] for r in rows(db, sql, (instance,))]


def with_instances(db: Db, task: str) -> list[Row]:
    """The steps of a task, each with the state of its instance (null when that is gone)."""
    return rows(
        db,
        "SELECT t.*, i.state AS instance_state, i.reported_revision, i.restarts AS instance_restarts"
        " FROM task_steps t LEFT JOIN instances i ON i.id = t.instance WHERE t.task = ? ORDER BY t.number",
        (task,),
    )


def under_way(db: Db) -> list[str]:
    """Open tasks in which something may have to be done by the clock: planned steps, or steps on trial."""
    sql = (
        "SELECT DISTINCT t.id FROM tasks t JOIN task_steps s ON s.task = t.id WHERE t.finished_at IS NULL"
        " AND s.state IN ('queued', 'running') AND (NOT s.is_issued OR s.good_since IS NOT NULL)"
    )
    return [r["id"] for r in rows(db, sql)]


def counts(db: Db) -> dict[str, int]:
    return {r["state"]: r["n"] for r in rows(db, "SELECT state, count(*) AS n FROM tasks GROUP BY state")}


def trim(db: Db, keep: int) -> None:
    """Keep the newest `keep` finished tasks."""
    db.execute(
        "DELETE FROM tasks WHERE finished_at IS NOT NULL AND id NOT IN"
        " (SELECT id FROM tasks ORDER BY created_at DESC LIMIT ?)",
        (keep,),
    )
