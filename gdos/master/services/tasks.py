"""Tasks: what somebody asked for, step by step. A step is asked for when what it needs is so; reports of the nodes
close it, and nothing else; a step on trial is closed by the clock. All of it is in the database: a master that dies
in between carries on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gdos.master.services import changes, views
from gdos.master.services.context import Context, Who, audit, new_id
from gdos.master.services.judging import VERSIONS, judge
from gdos.master.store import instances as instance_table
from gdos.master.store import tasks as table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model import flow, rollout
from gdos.model.errors import Conflict, GdosError, NotFound
from gdos.model.flow import Need
from gdos.model.rollout import Strategy
from gdos.model.states import UP, State

OPEN = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Planned:
    """A step to be. `needs` name steps by their place in the same plan."""

    action: str
    instance: Row
    needs: tuple[Need, ...] = ()
    value: str = ""
    phase: str = ""
    hold_ms: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `options`: how a rollout goes; `modules` are the versions that it plans and may take back."""

    kind: str
    target: str
    steps: Sequence[Planned]
    options: Strategy | None = None
    note: str = ""
    modules: tuple[dict[str, str], ...] = ()  # {module, from, to, before}; before: what it could go back to then


@dataclass(slots=True)
class Touched:
    """What a change of tasks has moved: for waking nodes and telling those who look.

    `due`: tasks in which a step was closed, to be moved on once, however many of their steps were (`settle`).
    """

    tasks: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)


def create(db: Db, ctx: Context, who: Who, order: Order) -> tuple[str, Touched]:
    """A new task in the transaction of the change that it follows; what needs nothing is asked for at once."""
    task, now = new_id("t"), ctx.now()
    options = {"strategy": msgspec.to_builtins(order.options), "modules": order.modules} if order.options else {}
    values = {"id": task, "kind": order.kind, "target": order.target, "state": "queued", "note": order.note}
    insert(db, "tasks", {**values, "created_by": who.name, "created_at": now, "options": dumps(options)})
    _add_steps(db, task, order.steps, 0)
    touched = Touched({task})
    if not order.steps:
        update(db, "tasks", {"id": task}, {"state": "succeeded", "finished_at": now})
    else:
        touched.due.add(task)
        settle(db, ctx, touched)
    return task, touched


def _add_steps(db: Db, task: str, steps: Sequence[Planned], first: int) -> None:
    for number, step in enumerate(steps, first):
        row = step.instance
        insert(
            db,
            "task_steps",
            {
                "task": task,
                "number": number,
                "name": step.action,
                "target": f"{row['name']}@{row['node_name']}",
                "instance": row["id"],
                "goal": "",
                "revision": 0,
                "state": "queued",
                "message": "",
                "value": step.value,
                "phase": step.phase,
                "needs": msgspec.json.encode(step.needs).decode(),
                "is_issued": 0,
                "hold_ms": step.hold_ms,
            },
        )


# --- moving on


def settle(db: Db, ctx: Context, touched: Touched) -> None:
    """Move on every task that is due; that may make others due."""
    while touched.due:
        advance(db, ctx, touched.due.pop(), touched)


def advance(db: Db, ctx: Context, task: str, touched: Touched, opened: Collection[tuple[int, int]] = ()) -> None:
    """Ask for all that may be asked for now, call off what can never be, end the task when nothing is left."""
    head = table.get(db, task)
    if head is None or head["finished_at"] is not None:
        return
    touched.tasks.add(task)
    while True:
        rows = table.with_instances(db, task)
        if _waits_after_canary(db, head, rows):
            head = {**head, "is_paused": 1}
        moves = flow.decide(_as_flow(rows), opened, ctx.now())
        for number, reason in moves.cancel.items():
            _set(db, ctx, task, number, "cancelled", reason)
        if not head["is_paused"]:
            for number in moves.issue:
                _issue(db, ctx, head, number, touched)
        if not moves.cancel and (head["is_paused"] or not moves.issue):
            break
    _finish(db, ctx, head, touched)


def _as_flow(rows: list[Row]) -> dict[int, flow.Step]:
    found = {}
    for r in rows:
        state = State(r["instance_state"]) if r["instance_state"] else None
        is_here = state is not None and r["reported_revision"] >= r["revision"] and bool(r["is_issued"])
        found[r["number"]] = flow.Step(
            number=r["number"],
            name=r["target"],
            state=r["state"],
            is_issued=bool(r["is_issued"]),
            needs=msgspec.json.decode(r["needs"], type=list[Need]),
            message=r["message"],
            closed_at=r["closed_at"],
            is_up=is_here and state in UP | {State.COMPLETED},
            is_completed=is_here and state is State.COMPLETED,
            is_failed=is_here and state is State.FAILED,
        )
    return found


def gates_to_probe(db: Db, ctx: Context, task: str) -> list[tuple[tuple[int, int], Row, Need]]:
    """The gates of a task that a node must be asked about: (which, the step that it is a gate of, the gate)."""
    rows = table.with_instances(db, task)
    by_number = {r["number"]: r for r in rows}
    steps = _as_flow(rows)
    found = []
    for number, index in flow.decide(steps, (), ctx.now()).probe:
        need = steps[number].needs[index]
        found.append(((number, index), by_number[need.step], need))
    return found


def _issue(db: Db, ctx: Context, task: Row, number: int, touched: Touched) -> None:
    """Make the change that a step stands for. One that is not possible any more fails this step only."""
    step = table.step(db, task["id"], number)
    instance = instance_table.get(db, step["instance"])
    if instance is None:
        _set(db, ctx, task["id"], number, "failed", "the instance is gone")
        return
    for old in [*table.open_steps(db, instance["id"]), *table.waiting_steps(db, instance["id"])]:
        if old["task"] != task["id"] and _is_superseded(old, step["name"]):
            _set(db, ctx, old["task"], old["number"], "cancelled", f"superseded by {task['kind']} ({task['id']})")
            touched.due.add(old["task"])
    try:
        done = changes.apply(db, ctx, task["created_by"], step["name"], instance, step["value"])
    except GdosError as e:
        _set(db, ctx, task["id"], number, "failed", e.detail)
        return
    if step["name"] not in VERSIONS and done.goal in (changes.RUNNING, changes.STOPPED):
        for old in table.open_steps(db, instance["id"]):  # an upgrade goes on, and ends in the run state that holds now
            if old["name"] in VERSIONS and old["goal"] in (changes.RUNNING, changes.STOPPED):
                values = {"goal": done.goal, "revision": done.revision, "good_since": None}
                update(db, "task_steps", {"task": old["task"], "number": old["number"]}, values)
    offline = instance["node_state"] != "online"
    waits = f"waits for the node {instance['node_name']}, which is not connected" if offline else ""
    values = {"is_issued": 1, "goal": done.goal, "revision": done.revision, "message": waits}
    values |= {"state": "queued" if offline else "running", "restarts": instance["restarts"]}
    values["before"] = instance["version"]
    update(db, "task_steps", {"task": task["id"], "number": number}, values)
    if not offline:
        update(db, "tasks", {"id": task["id"], "state": "queued"}, {"state": "running"})
    touched.nodes.add(instance["node"])
    touched.instances.add(instance["id"])


def _is_superseded(old: Row, action: str) -> bool:
    """Run state and version are two things: neither kind of action ends what is under way of the other."""
    return action == "destroy" or (old["name"] in VERSIONS) == (action in VERSIONS)


def _set(db: Db, ctx: Context, task: str, number: int, state: str, message: str) -> None:
    """Close a step."""
    values = {"state": state, "message": message, "closed_at": ctx.now(), "good_since": None}
    update(db, "task_steps", {"task": task, "number": number}, values)


def _finish(db: Db, ctx: Context, task: Row, touched: Touched) -> None:
    """When every step is closed: go back where that was asked for, or end."""
    steps = table.steps(db, [task["id"]])[task["id"]]
    if any(s["state"] in OPEN for s in steps):
        return
    options = msgspec.json.decode(task["options"], type=dict[str, Any])
    bad = [s for s in steps if s["state"] != "succeeded"]
    if bad and options and _go_back(db, ctx, task, steps, options, touched):
        return
    states = {s["state"] for s in steps}
    result = next(s for s in ("failed", "cancelled", "succeeded") if s in states)
    shown = [s for s in bad if not s["message"].startswith("not done:")] or bad
    error = "; ".join(f"{s['target']}: {s['message']}" for s in shown[:5])
    note = task["note"]
    if bad and any(s["phase"] == rollout.BACK for s in steps):
        back = [s for s in steps if s["phase"] == rollout.BACK]
        good = sum(s["state"] == "succeeded" for s in back)
        note = f"rolled back {good} of {len(back)} instances"
        error = f"{note}: {error}"
    elif bad and options and all(s["phase"] == rollout.CHECK for s in steps if s["is_issued"]):
        note = "nothing was changed, the old version runs on"
        error = f"{note}: {error}"
    values = {"state": result, "error": error, "note": note, "finished_at": ctx.now()}
    update(db, "tasks", {"id": task["id"]}, values)
    if bad and options:
        _replan(db, ctx, options)
    for step in steps:
        if step["name"] == "stage" and not any(s["name"] == "stage" for s in table.open_steps(db, step["instance"])):
            update(db, "instances", {"id": step["instance"]}, {"staged": "", "staged_error": ""})


def _waits_after_canary(db: Db, task: Row, steps: list[Row]) -> bool:
    """The canary is healthy and somebody wants to look at it before the rest follows: from now on it is paused."""
    options = msgspec.json.decode(task["options"], type=dict[str, Any])
    if not options or task["is_paused"] or msgspec.convert(options["strategy"], Strategy).promote != "manual":
        return False
    canary = [s for s in steps if s["phase"] == "canary"]
    rest = [s for s in steps if s["phase"].startswith("batch")]
    if not canary or not rest or any(s["is_issued"] for s in rest) or any(s["state"] != "succeeded" for s in canary):
        return False
    note = f"the canary is healthy; `gdos task resume {task['id']}` goes on, `gdos task cancel` stops here"
    update(db, "tasks", {"id": task["id"]}, {"is_paused": 1, "note": note})
    return True


def _go_back(db: Db, ctx: Context, task: Row, steps: list[Row], options: dict[str, Any], touched: Touched) -> bool:
    """Steps that bring back all that this rollout touched; False when there is nothing to bring back."""
    strategy = msgspec.convert(options["strategy"], Strategy)
    failed = next((s for s in steps if s["state"] == "failed" and s["name"] in ("stage", "upgrade")), None)
    if strategy.on_failure != "rollback" or failed is None or any(s["phase"] == rollout.BACK for s in steps):
        return False
    moved = [s for s in steps if s["name"] == "upgrade" and s["is_issued"] and s["before"] != s["value"]]
    rows = [(s, instance_table.get(db, s["instance"])) for s in moved]
    there = [(s, r) for s, r in rows if r is not None and r["present"] and r["version"] == s["value"]]
    if not there:
        return False
    planned = rollout.back(range(len(there)), strategy, len(steps))
    back = [
        Planned("revert", there[p.instance][1], p.needs, there[p.instance][0]["before"], p.phase, p.hold_ms)
        for p in planned
    ]
    _add_steps(db, task["id"], back, len(steps))
    note = f"{failed['target']} failed ({failed['message'][:200]}): all {len(back)} that were touched go back"
    update(db, "tasks", {"id": task["id"]}, {"note": note})
    for step, row in there:
        said = f"the upgrade failed at {failed['target']}: it goes back to {step['before']}"
        instance_table.add_event(db, row["id"], ctx.now(), "rollback", row["state"], said, "gdos")
    touched.due.add(task["id"])
    return True


def _replan(db: Db, ctx: Context, options: dict[str, Any]) -> None:
    """What a module plans is what its instances run: after a failure that may be the old version again."""
    for moved in options["modules"]:
        now = instance_table.of_module(db, moved["module"])
        if now and all(r["version"] == moved["from"] for r in now):
            values = {"version": moved["from"], "previous_version": moved["before"]}
            update(db, "modules", {"id": moved["module"], "version": moved["to"]}, values)
            for row in now:
                if not row["previous_version"]:
                    update(db, "instances", {"id": row["id"]}, {"previous_version": moved["before"]})


# --- what the nodes say


def on_report(db: Db, ctx: Context, before: Row, report: dict[str, Any], touched: Touched) -> None:
    """Move the open steps of an instance along; `settle` follows when all reports of a moment are in.

    `report`: event, state, revision, reason, restarts, is_settled, is_gone, staged, staged_error, is_current: the
    release is the wanted one, and is_newest: it answers the newest wish.
    """
    for step in table.open_steps(db, before["id"]):
        if report["revision"] < step["revision"]:
            continue
        state, message = judge(step, before, report)
        key = {"task": step["task"], "number": step["number"]}
        is_trial = step["hold_ms"] and step["goal"] == changes.RUNNING and before["kind"] == "service"
        if state == "succeeded" and is_trial:
            state, message = _on_trial(db, ctx, step, report)
        if state in OPEN:
            if (state, message) != (step["state"], step["message"]):
                update(db, "task_steps", key, {"state": state, "message": message})
                update(db, "tasks", {"id": step["task"], "state": "queued"}, {"state": "running"})
                touched.tasks.add(step["task"])
        else:
            _set(db, ctx, step["task"], step["number"], state, message)
            touched.due.add(step["task"])
    touched.due.update(table.tasks_needing(db, before["id"]))  # gates such as `started` open without a step's end


def _on_trial(db: Db, ctx: Context, step: Row, report: dict[str, Any]) -> tuple[str, str]:
    """Healthy: from now on it has to stay so for a while."""
    key = {"task": step["task"], "number": step["number"]}
    if step["good_since"] is None:
        update(db, "task_steps", key, {"good_since": ctx.now(), "restarts": report["restarts"]})
    return "running", f"healthy; has to stay so for {step['hold_ms'] / 1000:g} s"


def tick(ctx: Context) -> None:
    """By the clock, a few times a second: trials that are over, gates that nodes are asked about, gates too late."""
    db = ctx.store.read()
    for task in table.under_way(db):
        opened = {key for key, step, need in gates_to_probe(db, ctx, task) if _is_open(ctx, step, need)}
        rows = table.with_instances(db, task)
        proved = [r["number"] for r in rows if _is_proved(ctx, r)]
        moves = flow.decide(_as_flow(rows), opened, ctx.now())
        if not (proved or moves.issue or moves.cancel):
            continue
        touched = Touched()

        def write(db: Db, task: str = task, touched: Touched = touched, opened: set[tuple[int, int]] = opened) -> None:
            for step in table.with_instances(db, task):
                if _is_proved(ctx, step):
                    said = f"healthy for {step['hold_ms'] / 1000:g} s"
                    _set(db, ctx, task, step["number"], "succeeded", said)
            advance(db, ctx, task, touched, opened)
            settle(db, ctx, touched)

        ctx.store.write(write)
        tell(ctx, touched)


def _is_proved(ctx: Context, step: Row) -> bool:
    """Its trial is over."""
    since = step["good_since"]
    return step["state"] == "running" and since is not None and ctx.now() >= since + step["hold_ms"]


def _is_open(ctx: Context, step: Row, need: Need) -> bool:
    """Whether a node says that a gate is open; one that does not answer says no."""
    from gdos.wire.messages import Gate

    instance = instance_table.get(ctx.store.read(), step["instance"])
    if instance is None:
        return False
    try:
        said = ctx.ask(instance["node"], Gate(id=0, instance=instance["id"], kind=need.gate, target=need.target), 5.0)
    except GdosError:
        return False
    return said is None


def tell(ctx: Context, touched: Touched) -> None:
    """After the commit: wake the nodes, tell those who look."""
    for node in touched.nodes:
        ctx.wake(node)
    for instance in touched.instances:
        ctx.changed("instance", instance)
    for task in touched.tasks:
        ctx.changed("task", task)


def forget_instance(db: Db, ctx: Context, instance: str, reason: str, touched: Touched) -> None:
    """Nobody will ever report of it: its steps end; `settle` follows."""
    for step in [*table.open_steps(db, instance), *table.waiting_steps(db, instance)]:
        _set(db, ctx, step["task"], step["number"], "failed", reason)
        touched.due.add(step["task"])


# --- reading, and a person's word


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    db = ctx.store.read()
    found, cursor = table.page(db, asked)
    steps = table.steps(db, [r["id"] for r in found])
    return [views.task(r, steps[r["id"]]) for r in found], cursor


def get(ctx: Context, id_: str) -> views.View:
    """Raises NotFound."""
    return view(ctx.store.read(), id_)


def view(db: Db, id_: str) -> views.View:
    return views.task(_find(db, id_), table.steps(db, [id_])[id_])


def steps_of(db: Db, id_: str) -> list[Row]:
    return table.steps(db, [id_])[id_]


def _find(db: Db, id_: str) -> Row:
    found = table.get(db, id_)
    if found is None:
        raise NotFound(f"there is no task {id_}")
    return found


def _decide(ctx: Context, who: Who, id_: str, word: str, act: Callable[[Db, Row, Touched], None]) -> views.View:
    touched = Touched()

    def write(db: Db) -> None:
        found = _find(db, id_)
        if found["finished_at"] is not None:
            raise Conflict(f"the task {id_} has ended already ({found['state']})")
        act(db, found, touched)
        settle(db, ctx, touched)
        audit(db, ctx, who, f"task.{word}", id_)

    ctx.store.write(write)
    touched.tasks.add(id_)
    tell(ctx, touched)
    return get(ctx, id_)


def pause(ctx: Context, who: Who, id_: str) -> views.View:
    """What was asked for goes on; nothing more is, until `resume`. Raises NotFound, Conflict."""

    def act(db: Db, task: Row, touched: Touched) -> None:
        update(db, "tasks", {"id": id_}, {"is_paused": 1, "note": f"paused by {who.name}"})

    return _decide(ctx, who, id_, "pause", act)


def resume(ctx: Context, who: Who, id_: str) -> views.View:
    """Go on with a paused task. Raises NotFound, Conflict."""

    def act(db: Db, task: Row, touched: Touched) -> None:
        if not task["is_paused"]:
            raise Conflict(f"the task {id_} is not paused")
        strategy = msgspec.json.decode(task["options"], type=dict[str, Any])
        if strategy:
            strategy["strategy"] = {**strategy["strategy"], "promote": "auto"}
        update(db, "tasks", {"id": id_}, {"is_paused": 0, "note": "", "options": dumps(strategy)})
        touched.due.add(id_)

    return _decide(ctx, who, id_, "resume", act)


def cancel(ctx: Context, who: Who, id_: str) -> views.View:
    """Ask for nothing more and stop following. What is wanted stays: a deploy is undone by destroy, not by this."""

    def act(db: Db, task: Row, touched: Touched) -> None:
        said = f"cancelled by {who.name}; what is wanted stays as it is"
        for step in table.steps(db, [id_])[id_]:
            if step["state"] in OPEN:
                _set(db, ctx, id_, step["number"], "cancelled", said if step["is_issued"] else "not done: cancelled")
        update(db, "tasks", {"id": id_}, {"is_paused": 0})
        touched.due.add(id_)

    return _decide(ctx, who, id_, "cancel", act)
