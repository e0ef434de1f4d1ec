"""Rows as the objects that the API, the sockets and `--json` show. The shapes are a contract: docs/api.md."""

from __future__ import annotations

import json
from typing import Any

from gdos.master.services.context import Context, rfc3339
from gdos.master.store.reader import Row

View = dict[str, Any]


def node(ctx: Context, r: Row) -> View:
    online = r["state"] == "online"
    seen = ctx.live.last_seen(r["id"]) or r["last_seen"]
    return {
        "id": r["id"],
        "name": r["name"],
        "hostname": r["hostname"],
        "state": r["state"],
        "os": r["os"],
        "arch": r["arch"],
        "labels": json.loads(r["labels"]),
        "address": r["address"],
        "version": r["version"],
        "last_seen": rfc3339(seen),
        "joined_at": rfc3339(r["joined_at"]),
        "allow": json.loads(r["allow"]),
        "work_dir": r["work_dir"],
        "facts": json.loads(r["facts"]),
        "metrics": ctx.live.node_metrics(r["id"]) if online else None,
    }


def package(r: Row) -> View:
    return {
        "name": r["name"],
        "version": r["version"],
        "sha256": r["sha256"],
        "size": r["size"],
        "os": r["os"],
        "description": r["description"],
        "uploaded_at": rfc3339(r["uploaded_at"]),
        "uploaded_by": r["uploaded_by"],
        "in_use": bool(r["in_use"]),
    }


def package_detail(r: Row) -> View:
    return {**package(r), "manifest": json.loads(r["manifest"])}


def system(r: Row) -> View:
    return {
        "id": r["id"],
        "name": r["name"],
        "description": r["description"],
        "modules": r["modules"],
        "instances": r["instances"],
        "created_at": rfc3339(r["created_at"]),
    }


def module(r: Row) -> View:
    return {
        "id": r["id"],
        "system": r["system_name"],
        "system_id": r["system"],
        "name": r["name"],
        "package": r["package"],
        "version": r["version"],
        "previous_version": r["previous_version"] or None,
        "count": r["count"],
        "depends_on": [{"gate": "ready", "target": "", "timeout": 300, **d} for d in json.loads(r["depends_on"])],
        "config": {"env": plain_values(r["entries"])},
        "placement": json.loads(r["placement"]),
        "strategy": json.loads(r["strategy"]),
        "external": json.loads(r["external"]) if r["external"] else None,
        "instances": r["instances"],
        "created_at": rfc3339(r["created_at"]),
    }


def plain_values(entries: str | None) -> dict[str, str]:
    """The values of a configuration that are no secrets."""
    return {k: e["v"] for k, e in json.loads(entries or "{}").items() if "v" in e}


def instance(ctx: Context, r: Row) -> View:
    reachable = r["node_state"] == "online"
    reason = r["reason"]
    if not reachable:
        seen = rfc3339(ctx.live.last_seen(r["node"]) or r["reported_at"]) or "never"
        reason = f"the node {r['node_name']} is {r['node_state']}; last report {seen}. {reason}".strip()
    return {
        "id": r["id"],
        "name": r["name"],
        "system": r["system_name"],
        "module": r["module_name"],
        "node": r["node_name"],
        "node_id": r["node"],
        "state": r["state"],
        "reachable": reachable,
        "reason": reason,
        "pid": r["pid"],
        "started_at": rfc3339(r["started_at"]),
        "package": r["package"],
        "version": r["version"],
        "previous_version": r["previous_version"] or None,
        "restarts": r["restarts"],
        "kind": r["kind"],
        "next_run": rfc3339(r["next_due"]) if reachable else None,
        "is_adopted": bool(r["external"]),
        "is_stale": bool(r["reported_config"]) and r["reported_config"] != r["config"],
        "ports": json.loads(r["ports"]),
        "reported_at": rfc3339(r["reported_at"]),
        "wanted": {
            "run": "running" if r["run"] else "stopped",
            "present": bool(r["present"]),
            "version": r["version"],
            "revision": r["revision"],
        },
        "metrics": ctx.live.instance_metrics(r["id"]) if reachable and r["pid"] else None,
        "log_tail": json.loads(r["log_tail"]),
    }


def task(r: Row, steps: list[Row]) -> View:
    done = sum(s["state"] not in ("queued", "running") for s in steps)
    return {
        "id": r["id"],
        "kind": r["kind"],
        "target": r["target"],
        "state": r["state"],
        "progress": done / len(steps) if steps else 1.0,
        "is_paused": bool(r["is_paused"]),
        "note": r["note"],
        "steps": [_step(s, steps) for s in steps],
        "created_by": r["created_by"],
        "created_at": rfc3339(r["created_at"]),
        "finished_at": rfc3339(r["finished_at"]),
        "error": r["error"] or None,
    }


def _step(s: Row, steps: list[Row]) -> View:
    needs = json.loads(s["needs"])
    waits_for = [steps[n["step"]]["target"] + (f" ({n['gate']})" if "gate" in n else "") for n in needs]
    shown = {k: s[k] for k in ("name", "target", "state", "message", "phase")}
    return {**shown, "waits_for": list(dict.fromkeys(waits_for)), "finished_at": rfc3339(s["closed_at"])}


def run(r: Row) -> View:
    return {
        **{k: r[k] for k in ("number", "code", "signal", "reason", "log")},
        "started_at": rfc3339(r["started_at"]),
        "ended_at": rfc3339(r["ended_at"]),
        "due_at": rfc3339(r["due"]),
        "duration_s": max(r["ended_at"] - r["started_at"], 0) / 1000,
        "is_oom": bool(r["is_oom"]),
        "is_asked": bool(r["is_asked"]),
        "skipped": bool(r["skipped"]),
        "log_tail": json.loads(r["log_tail"]),
    }


def event(r: Row) -> View:
    return {"at": rfc3339(r["at"]), "kind": r["kind"], "state": r["state"], "reason": r["reason"], "who": r["who"]}


def audit_line(r: Row) -> View:
    return {
        **{k: r[k] for k in ("number", "who", "address", "action", "object", "detail", "result", "chain")},
        "at": rfc3339(r["at"]),
    }


def token(r: Row) -> View:
    """Of a join token or a program's token; never the secret."""
    times = {k: rfc3339(v) for k, v in r.items() if k.endswith("_at")}
    return {**r, **times}
