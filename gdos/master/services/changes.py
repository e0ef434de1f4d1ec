"""What is wanted of one instance, changed: the row, its revision, a line of its timeline. Every action ends here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdos.master.services import packages, placing, systems
from gdos.master.services.context import Context
from gdos.master.store import instances as table
from gdos.master.store import nodes as node_table
from gdos.master.store.db import Db, dumps, update
from gdos.master.store.reader import Row
from gdos.model.errors import Conflict
from gdos.model.manifest import Manifest

RUNNING, STOPPED, GONE, STAGED, WATCHED, FINISHED = "running", "stopped", "gone", "staged", "watched", "finished"
_QUIET = ("stage", "deploy", "bring", "watch")  # told when the instance was made, or of no interest in its timeline


@dataclass(frozen=True, slots=True)
class Changed:
    """`goal` is reached by a report of at least `revision`."""

    goal: str
    revision: int


def apply(db: Db, ctx: Context, who: str, action: str, instance: Row, version: str = "") -> Changed:
    """deploy, bring (deploy and do not start), watch, start, run, stop, restart, destroy, stage, and upgrade, revert,
    rollback to `version`. Raises Conflict.
    """
    if action == "destroy":
        return _change(db, ctx, who, action, instance, {"present": 0, "run": 0, "staged": ""}, GONE)
    if not instance["present"]:
        raise Conflict(f"{instance['name']} is being destroyed")
    if action in ("deploy", "bring"):
        runs = action == "deploy"
        return _change(db, ctx, who, action, instance, {"run": int(runs)}, RUNNING if runs else STOPPED)
    if action == "watch":
        return _change(db, ctx, who, action, instance, {"run": 1}, WATCHED)
    if action == "stage":
        return _change(db, ctx, who, action, instance, {"staged": version}, STAGED)
    if action in ("upgrade", "rollback", "revert"):
        return _to_version(db, ctx, who, action, instance, version)
    _check_managed(instance, action)
    if action == "stop":
        return _change(db, ctx, who, action, instance, {"run": 0}, STOPPED)
    values: dict[str, Any] = {"run": 1}
    is_schedule = instance["kind"] == "cron" and action != "run"
    if not is_schedule:
        values["start_serial"] = instance["start_serial"] + 1
    if action == "restart" and not is_schedule:
        values["restart_serial"] = instance["restart_serial"] + 1
    return _change(db, ctx, who, action, instance, values, FINISHED if action == "run" else RUNNING)


def is_managed(instance: Row) -> bool:
    """Whether it can be started and stopped: what was adopted only when somebody said how."""
    return not instance["external"] or bool(external_of(instance).entrypoint)


def _check_managed(instance: Row, action: str) -> None:
    if not is_managed(instance):
        raise Conflict(f"{instance['name']} is only watched: nobody said how to {action} it (entrypoint is not set)")
    if action == "run" and instance["kind"] == "service":
        raise Conflict(f"{instance['name']} is a service; run is for jobs and schedules, use start or restart")


def external_of(row: Row) -> Manifest:
    """What an adopted instance or module is described by; it was checked when it came in."""
    return packages.manifest_from(row["external"])


def _change(db: Db, ctx: Context, who: str, action: str, instance: Row, values: dict[str, Any], goal: str) -> Changed:
    revision = node_table.next_revision(db, instance["node"])
    update(db, "instances", {"id": instance["id"]}, {**values, "revision": revision})
    if action not in _QUIET:
        detail = f"version {values['version']}" if "version" in values else ""
        table.add_event(db, instance["id"], ctx.now(), action, instance["state"], detail, who)
    return Changed(goal, revision)


def _to_version(db: Db, ctx: Context, who: str, action: str, instance: Row, version: str) -> Changed:
    release = systems.need_version(db, instance["package"], version)
    check_fit(db, ctx, instance, release)
    values = {**release_columns(release), "staged": "", "staged_error": ""}
    if action == "revert":
        values["previous_version"] = ""  # what has failed is nothing to go back to
    elif version != instance["version"]:
        values["previous_version"] = instance["version"]
    if instance["kind"] != "cron":
        values["start_serial"] = instance["start_serial"] + 1
    return _change(db, ctx, who, action, instance, values, RUNNING if instance["run"] else STOPPED)


def release_columns(release: Row) -> dict[str, Any]:
    """What an instance keeps of its package."""
    manifest = packages.manifest_of(release)
    values = {"package": release["name"], "version": release["version"], "sha256": release["sha256"]}
    return {**values, "size": release["size"], "ports": dumps(manifest.ports), "kind": manifest.kind}


def check_fit(db: Db, ctx: Context, instance: Row, release: Row) -> None:
    """The other version must fit its node as a new deploy would. Raises Conflict."""
    manifest = packages.manifest_of(release)
    (node,) = placing.candidates(db, ctx, instance["module"], instance["node"])
    own = f"{instance['system_name']}/{instance['name']}"
    node.ports = {port: name for port, name in node.ports.items() if name != own}
    reason = placing.objection(node, manifest)
    if reason:
        raise Conflict(reason)
