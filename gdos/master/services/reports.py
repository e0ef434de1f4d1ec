"""What the nodes say: states of instances, stored once each, in one write for all reports of a moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gdos.master.services import tasks
from gdos.master.services.context import Context
from gdos.master.store import instances as table
from gdos.master.store.db import Db, dumps, insert, row, update
from gdos.model.states import State
from gdos.wire.messages import Report, Run


@dataclass(frozen=True, slots=True)
class Batch:
    """Reports of one node, in order, under the numbering `epoch`."""

    node: str
    epoch: str
    items: list[Report]


@dataclass(slots=True)
class Outcome:
    acked: dict[str, int] = field(default_factory=dict)  # node -> the last stored number
    touched: tasks.Touched = field(default_factory=tasks.Touched)


def store(ctx: Context, batches: list[Batch]) -> Outcome:
    """Write all batches in one transaction, then tell of it. A report that is there already is skipped."""
    done = ctx.store.write(lambda db: _store(db, ctx, batches))
    tasks.tell(ctx, done.touched)
    return done


def _store(db: Db, ctx: Context, batches: list[Batch]) -> Outcome:
    out = Outcome()
    for batch in batches:
        node = row(db, "SELECT id, report_epoch, report_seq FROM nodes WHERE id = ?", (batch.node,))
        if node is None:
            continue
        last = node["report_seq"] if node["report_epoch"] == batch.epoch else 0
        for report in batch.items:
            if report.seq > last:
                _apply(db, ctx, batch.node, report, out)
                last = report.seq
        update(db, "nodes", {"id": batch.node}, {"report_epoch": batch.epoch, "report_seq": last})
        out.acked[batch.node] = last
    tasks.settle(db, ctx, out.touched)
    return out


def _apply(db: Db, ctx: Context, node: str, report: Report, out: Outcome) -> None:
    before = table.get(db, report.instance)
    if before is None or before["node"] != node:
        return  # forgotten by the master, or not this node's to speak of
    values: dict[str, Any] = {
        "state": State(report.state).value,
        "reason": report.reason,
        "pid": report.pid,
        "started_at": report.started_at,
        "restarts": report.restarts,
        "reported_sha256": report.sha256,
        "reported_revision": report.revision,
        "reported_at": report.at,
        "log_tail": dumps(report.log_tail),
        "reported_config": report.config,
        "reported_staged": report.staged,
        "staged_error": report.staged_error,
        "next_due": report.next_due,
    }
    update(db, "instances", {"id": report.instance}, values)
    if (before["state"], before["reason"], before["pid"]) != (values["state"], values["reason"], values["pid"]):
        kind = report.event or "state"
        table.add_event(db, report.instance, report.at, kind, values["state"], report.reason)
    if report.run is not None:
        _add_run(db, report.instance, report.run)
    seen = {
        "event": report.event,
        "state": values["state"],
        "reason": report.reason,
        "revision": report.revision,
        "is_settled": report.is_settled,
        "is_gone": report.is_gone,
        "is_current": report.sha256 == before["sha256"] or bool(before["external"]),
        "is_newest": report.revision >= before["revision"],
        "restarts": report.restarts,
        "staged": report.staged,
        "staged_error": report.staged_error,
    }
    tasks.on_report(db, ctx, before, seen, out.touched)
    out.touched.instances.add(report.instance)
    if report.is_gone and not before["present"]:
        table.delete(db, before["id"])


def _add_run(db: Db, instance: str, run: Run) -> None:
    values = {
        k: getattr(run, k) for k in ("number", "started_at", "ended_at", "due", "code", "signal", "reason", "log")
    }
    flags = {k: int(getattr(run, k)) for k in ("is_oom", "is_asked", "skipped")}
    insert(db, "instance_runs", {"instance": instance, **values, **flags, "log_tail": dumps(run.log_tail)})
