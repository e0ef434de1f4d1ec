"""`gdos why`: a verdict in one line, then what happened when, from every trail that there is."""

from __future__ import annotations

import json
from typing import Any

from gdos.master.services import changes, instances, views
from gdos.master.services.context import Context, rfc3339
from gdos.master.store import instances as table
from gdos.master.store import nodes as node_table
from gdos.master.store import tasks as task_table
from gdos.master.store.db import Db, Page
from gdos.master.store.reader import Row
from gdos.model.states import State
from gdos.model.verdict import Known, verdict

HOUR_MS = 3_600_000
ASKED = ("start", "stop", "restart", "run", "upgrade", "rollback", "deploy", "destroy")


def why(ctx: Context, name: str, limit: int) -> views.View:
    """{verdict, instance, timeline}; the timeline is newest first. Raises NotFound."""
    db = ctx.store.read()
    row = instances.find_instance(db, name)
    events = table.events(db, row["id"], limit)
    runs = table.runs_page(db, Page(limit=min(limit, 1000), filters={"instance": row["id"]}))[0]
    node = table.events(db, row["node"], limit)
    trail = [_event(e) for e in events] + [_run(r) for r in runs]
    trail += [{**_event(e), "kind": f"node {e['kind']}"} for e in node]
    first = min((e["at"] for e in events), default=row["created_at"])
    trail = sorted((t for t in trail if t["at"] >= min(first, row["created_at"])), key=lambda t: t["at"], reverse=True)
    known = _known(ctx, db, row, events, runs)
    return {
        "verdict": f"{row['system_name']}/{row['name']}: {verdict(known)}",
        "instance": views.instance(ctx, row),
        "timeline": [{**t, "at": rfc3339(t["at"])} for t in trail[:limit]],
    }


def _event(e: Row) -> dict[str, Any]:
    return {k: e[k] for k in ("at", "kind", "state", "reason", "who")}


def _run(r: Row) -> dict[str, Any]:
    seconds = max(r["ended_at"] - r["started_at"], 0) / 1000
    said = r["reason"] if r["skipped"] else f"run {r['number']} was over after {seconds:.1f} s: {r['reason']}"
    if r["log_tail"] not in ("", "[]"):
        said += f"; its log ended with: {json.loads(r['log_tail'])[-1][:300]}"
    return {"at": r["ended_at"], "kind": "skipped" if r["skipped"] else "exit", "state": "", "reason": said, "who": ""}


def _known(ctx: Context, db: Db, row: Row, events: list[Row], runs: list[Row]) -> Known:
    now = ctx.now()
    asked = next((e for e in events if e["who"] and e["kind"] in ASKED), None)
    exits = [r for r in runs if not r["skipped"] and not r["is_asked"]]
    seen = ctx.live.last_seen(row["node"]) or row["reported_at"]
    node = node_table.get(db, row["node"])
    return Known(
        state=State(row["state"]),
        reason=row["reason"],
        wants_run=bool(row["run"]),
        is_present=bool(row["present"]),
        node=row["node_name"],
        node_state=row["node_state"],
        silent_s=(now - seen) / 1000 if seen else None,
        up_s=(now - row["started_at"]) / 1000 if row["started_at"] else None,
        restarts=row["restarts"],
        recent_exits=sum(now - r["ended_at"] < HOUR_MS for r in exits),
        last_exit=exits[0]["reason"] if exits else "",
        asked_by=asked["who"] if asked else "",
        asked=asked["kind"] if asked else "",
        asked_age_s=(now - asked["at"]) / 1000 if asked else None,
        is_stale=bool(row["reported_config"]) and row["reported_config"] != row["config"],
        is_acknowledged=node is None or row["reported_revision"] >= row["revision"],
        kind=row["kind"],
        next_run=rfc3339(row["next_due"]) or "",
        is_watched=not changes.is_managed(row),
        task=_task(db, row["id"]),
    )


def _task(db: Db, instance: str) -> str:
    """What an open task wants of it, or waits for."""
    steps = [*task_table.open_steps(db, instance), *task_table.waiting_steps(db, instance)]
    for step in steps:
        task = task_table.get(db, step["task"])
        if task is None:
            continue
        if not step["is_issued"]:
            paused = f", which is paused: {task['note']}" if task["is_paused"] else ""
            return f"its {step['name']} waits for other steps of the task {task['id']}{paused}"
        return f"its {step['name']} ({task['id']}) is under way: {step['message'] or step['state']}"
    return ""
