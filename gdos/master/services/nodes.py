"""Nodes: joining, renaming, labels, going offline and coming back, being removed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gdos.master.services import access, tasks, views
from gdos.master.services.context import Context, Who, audit, new_id, rfc3339
from gdos.master.store import access as access_table
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import BadInput, Conflict, NotAllowed, NotFound, Problem
from gdos.model.values import NAME_PATTERN
from gdos.wire.messages import Hello

BOOT_SLACK_MS = 60_000  # the boot time is computed from a clock that may be set


@dataclass(frozen=True, slots=True)
class Joined:
    node: str
    name: str
    credential: str


def join(ctx: Context, token: str, name: str, facts: dict[str, Any], address: str) -> Joined:
    """A new node for a worker with a join token. Raises NotAllowed saying what is wrong with the token."""
    credential = access.make_secret("node")
    id_ = new_id("n")
    hashed = access.hash_secret(token)

    def write(db: Db) -> str:
        found = access_table.join_token(db, hashed)
        if found is None:
            raise NotAllowed(_unknown_token(token))
        if found["expires_at"] is not None and found["expires_at"] < ctx.now():
            raise NotAllowed(f"the join token {found['name']!r} has expired; make one with `gdos join-token create`")
        if found["uses_left"] is not None and found["uses_left"] <= 0:
            raise NotAllowed(f"the join token {found['name']!r} is used up; make one with `gdos join-token create`")
        access_table.use_join_token(db, found["id"])
        chosen = table.free_name(db, tidy_name(name or str(facts.get("hostname", ""))))
        values = {"id": id_, "name": chosen, "state": "offline", "credential": access.hash_secret(credential)}
        insert(db, "nodes", {**values, "address": address, "joined_at": ctx.now(), **_fact_columns(facts)})
        audit(db, ctx, Who(f"node:{chosen}", address=address), "node.join", id_, {"token": found["name"]})
        return chosen

    chosen = ctx.store.write(write)
    ctx.changed("node", id_)
    return Joined(id_, chosen, credential)


def _unknown_token(token: str) -> str:
    if token.startswith("gdos_") and not access.is_well_formed(token):
        return "the join token is mistyped or cut off; copy it whole"
    return "the join token is not known here, or it was revoked; make one with `gdos join-token create`"


def tidy_name(wish: str) -> str:
    """A host name as a node's name: what may not stand in one becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", wish).lstrip("._-")[:60] or "node"


def _fact_columns(facts: dict[str, Any]) -> dict[str, Any]:
    plain = {name: str(facts.get(name, ""))[:200] for name in ("hostname", "os", "arch")}
    return {**plain, "facts": dumps(facts)}


def by_credential(ctx: Context, hashed: str) -> str | None:
    """The node that has this credential."""
    found = table.with_credential(ctx.store.read(), hashed)
    return found["id"] if found else None


def connected(ctx: Context, node: str, hello: Hello, address: str) -> Row:
    """A worker said hello: store what it says of itself; returns the node's row. Raises NotFound."""

    def write(db: Db) -> Row:
        before = table.get(db, node)
        if before is None:
            raise NotFound(f"the node {node} was removed from this master")
        values = {
            "state": "online",
            "last_seen": ctx.now(),
            "version": hello.version[:100],
            "address": address,
            "allow": dumps(hello.allow),
            "work_dir": hello.work_dir[:1000],
            **_fact_columns(hello.facts),
        }
        if before["labels"] == "{}" and hello.labels:
            values["labels"] = dumps(hello.labels)
        update(db, "nodes", {"id": node}, values)
        _note_return(db, ctx, before, hello)
        return {**before, **values}

    row = ctx.store.write(write)
    _tell(ctx, [node])
    return row


def _note_return(db: Db, ctx: Context, before: Row, hello: Hello) -> None:
    """For the timelines of its instances: a node that was away, or was started anew."""
    old = json.loads(before["facts"]).get("boot_time")
    new = hello.facts.get("boot_time")
    if isinstance(old, int) and isinstance(new, int) and abs(new - old) > BOOT_SLACK_MS:
        said = f"the machine was started anew at {rfc3339(new)}"
        instance_table.add_event(db, before["id"], ctx.now(), "reboot", "online", said)
    elif before["state"] != "online" and before["last_seen"] is not None:
        instance_table.add_event(db, before["id"], ctx.now(), "online", "online", "it is connected again")


def set_state(ctx: Context, state: str, seen: dict[str, int]) -> None:
    """Nodes that are 'offline' or 'online' from now on; `seen` maps each to its last contact (milliseconds)."""

    def write(db: Db) -> None:
        table.set_state(db, list(seen), state, seen)
        for node, at in seen.items():
            said = f"nothing was heard of it since {rfc3339(at)}" if state == "offline" else "it is heard of again"
            instance_table.add_event(db, node, ctx.now(), state, state, said)

    ctx.store.write(write)
    _tell(ctx, list(seen))


def _tell(ctx: Context, nodes: list[str]) -> None:
    for node in nodes:
        ctx.changed("node", node)
    for instance in instance_table.ids_of_nodes(ctx.store.read(), nodes):
        ctx.changed("instance", instance)


def note_clone(ctx: Context, node: str, first: str, second: str) -> None:
    """Two workers with one identity: into the trail, naming both."""
    who = Who(f"node:{node}")
    ctx.store.write(
        lambda db: audit(db, ctx, who, "node.clone", node, {"connected": first, "refused": second}, "denied")
    )


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.page(ctx.store.read(), asked)
    return [views.node(ctx, r) for r in found], cursor


def get(ctx: Context, id_or_name: str) -> views.View:
    """Raises NotFound naming the nodes that there are."""
    return views.node(ctx, find(ctx.store.read(), id_or_name))


def find(db: Db, id_or_name: str) -> Row:
    found = table.get(db, id_or_name)
    if found is None:
        known = [r["name"] for r in table.page(db, Page(limit=10))[0]]
        raise NotFound(f"there is no node {id_or_name}; there are: {', '.join(known) or 'none yet'}")
    return found


def change(ctx: Context, who: Who, id_or_name: str, name: str | None, labels: dict[str, str] | None) -> views.View:
    """Rename, or replace the labels. Raises NotFound, BadInput, Conflict."""

    def write(db: Db) -> str:
        before = find(db, id_or_name)
        values: dict[str, Any] = {}
        if name is not None and name != before["name"]:
            if not re.match(NAME_PATTERN, name):
                raise BadInput(
                    "name: not a name", [Problem("name", f"expected a name like {NAME_PATTERN}, got {name!r}")]
                )
            other = table.get(db, name)
            if other is not None and other["id"] != before["id"]:
                raise Conflict(f"another node has the name {name}")
            values["name"] = name
        if labels is not None:
            values["labels"] = dumps(labels)
        if values:
            update(db, "nodes", {"id": before["id"]}, values)
            old = {"name": before["name"], "labels": json.loads(before["labels"])}
            audit(db, ctx, who, "node.change", before["id"], {"before": old, "after": {"name": name, "labels": labels}})
        return str(before["id"])

    id_ = ctx.store.write(write)
    _tell(ctx, [id_])
    return get(ctx, id_)


def remove(ctx: Context, who: Who, id_or_name: str, *, is_forced: bool = False) -> str:
    """Forget a node and revoke its credential. Raises Conflict while instances are placed on it.

    `is_forced`: a node that is offline for good; the records of its instances go too, what runs there is not touched.
    """

    touched = tasks.Touched()

    def write(db: Db) -> str:
        found = find(db, id_or_name)
        placed = instance_table.of_node(db, found["id"])
        names = ", ".join(sorted(r["name"] for r in placed)[:5])
        if placed and not is_forced:
            raise Conflict(f"the node {found['name']} still has {len(placed)} instances ({names}): destroy them first")
        if placed and found["state"] == "online":
            raise Conflict(
                f"the node {found['name']} is online: destroy its instances ({names}), they are within reach"
            )
        for instance in placed:
            tasks.forget_instance(db, ctx, instance["id"], f"the node {found['name']} was removed", touched)
            instance_table.delete(db, instance["id"])
        tasks.settle(db, ctx, touched)
        access_table.delete(db, "nodes", "id", found["id"])
        audit(db, ctx, who, "node.remove", found["id"], {"name": found["name"]})
        return str(found["id"])

    id_ = ctx.store.write(write)
    tasks.tell(ctx, touched)
    ctx.removed(id_)
    ctx.changed("node", id_)
    return id_
