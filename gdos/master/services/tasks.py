"""Tasks: what somebody asked for, step by step, closed by what the nodes report and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdos.master.services import views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.store import tasks as table
from gdos.master.store.db import Db, Page, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import Conflict, NotFound
from gdos.model.states import TROUBLED, UP, State

OPEN = ("queued", "running")
GOALS: dict[str, frozenset[State]] = {
    "running": frozenset({State.RUNNING, State.COMPLETED}),
    "stopped": frozenset({State.STOPPED, State.COMPLETED, State.FAILED}),
    "gone": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One instance to be brought to a goal; reached by a report of at least `revision`."""

    instance: Row
    goal: str
    revision: int


def create(db: Db, ctx: Context, who: Who, kind: str, target: str, steps: list[Step]) -> str:
    """A new task in the transaction of the change that it follows. Older open steps on its instances are superseded."""
    task = new_id("t")
    now = ctx.now()
    waiting = all(s.instance["node_state"] != "online" for s in steps)
    insert(
        db,
        "tasks",
        {
            "id": task,
            "kind": kind,
            "target": target,
            "state": "succeeded" if not steps else "queued" if waiting else "running",
            "created_by": who.name,
            "created_at": now,
            "finished_at": None if steps else now,
        },
    )
    for number, step in enumerate(steps):
        for old in table.open_steps(db, step.instance["id"]):
            _close_step(db, ctx, old, "cancelled", f"superseded by {kind} ({task})")
        offline = step.instance["node_state"] != "online"
        insert(
            db,
            "task_steps",
            {
                "task": task,
                "number": number,
                "name": kind,
                "target": f"{step.instance['name']}@{step.instance['node_name']}",
                "instance": step.instance["id"],
                "goal": step.goal,
                "revision": step.revision,
                "state": "queued" if offline else "running",
                "message": f"waits for the node {step.instance['node_name']}, which is not connected"
                if offline
                else "",
            },
        )
    return task


def on_report(db: Db, ctx: Context, before: Row, report: dict[str, Any]) -> set[str]:
    """Move the open steps of an instance along; returns the tasks that changed.

    `report`: event, state, revision, reason, is_settled, is_gone, and is_current: the release is the wanted one.
    """
    touched = set()
    for step in table.open_steps(db, before["id"]):
        if report["revision"] < step["revision"]:
            continue
        state, message = _judge(step, report)
        if state in OPEN:
            if (state, message) != (step["state"], step["message"]):
                update(db, "task_steps", _key(step), {"state": state, "message": message})
                update(db, "tasks", {"id": step["task"], "state": "queued"}, {"state": "running"})
                touched.add(step["task"])
        else:
            _close_step(db, ctx, step, state, message)
            touched.add(step["task"])
    return touched


def _judge(step: Row, report: dict[str, Any]) -> tuple[str, str]:
    """What a report means for a step: its new state and message."""
    goal, state = step["goal"], State(report["state"])
    if goal == "gone":
        if report["is_gone"]:
            return "succeeded", "gone"
        return "running", report["reason"] or state.value
    needs_release = goal == "running" or step["name"] in ("upgrade", "rollback")
    if report["is_settled"] and needs_release and not report["is_current"]:
        return "failed", report["reason"] or "another version runs"
    if state in GOALS[goal] and report["is_settled"]:
        return "succeeded", state.value
    has_failed = state in TROUBLED and report["event"] != ""  # else it was in trouble before this was asked
    if goal == "running" and (has_failed or (report["is_settled"] and state not in UP)):
        return "failed", report["reason"] or f"is {state.value}"
    return "running", report["reason"] or state.value


def _close_step(db: Db, ctx: Context, step: Row, state: str, message: str) -> None:
    update(db, "task_steps", _key(step), {"state": state, "message": message})
    all_steps = table.step_states(db, step["task"])
    if any(s["state"] in OPEN for s in all_steps):
        return
    states = {s["state"] for s in all_steps}
    result = next(s for s in ("failed", "cancelled", "succeeded") if s in states)
    bad = [f"{s['target']}: {s['message']}" for s in all_steps if s["state"] != "succeeded"]
    update(db, "tasks", {"id": step["task"]}, {"state": result, "error": "; ".join(bad[:5]), "finished_at": ctx.now()})


def forget_instance(db: Db, ctx: Context, instance: str, reason: str) -> None:
    """Nobody will ever report of it: its open steps end."""
    for step in table.open_steps(db, instance):
        _close_step(db, ctx, step, "failed", reason)


def _key(step: Row) -> dict[str, Any]:
    return {"task": step["task"], "number": step["number"]}


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    db = ctx.store.read()
    found, cursor = table.page(db, asked)
    steps = table.steps(db, [r["id"] for r in found])
    return [views.task(r, steps[r["id"]]) for r in found], cursor


def get(ctx: Context, id_: str) -> views.View:
    """Raises NotFound."""
    db = ctx.store.read()
    found = table.get(db, id_)
    if found is None:
        raise NotFound(f"there is no task {id_}")
    return views.task(found, table.steps(db, [id_])[id_])


def cancel(ctx: Context, who: Who, id_: str) -> views.View:
    """Stop following a task. What is wanted of its instances stays: a deploy is undone by destroy, not by this."""

    def write(db: Db) -> None:
        found = table.get(db, id_)
        if found is None:
            raise NotFound(f"there is no task {id_}")
        if found["finished_at"] is not None:
            raise Conflict(f"the task {id_} has ended already ({found['state']})")
        for step in table.steps(db, [id_])[id_]:
            if step["state"] in OPEN:
                _close_step(db, ctx, step, "cancelled", f"cancelled by {who.name}; what is wanted stays as it is")
        audit(db, ctx, who, "task.cancel", id_)

    ctx.store.write(write)
    ctx.changed("task", id_)
    return get(ctx, id_)
