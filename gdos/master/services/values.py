"""Configuration: values and secrets at system, module and instance, what holds in the end and where it comes from.

The nearest wins: instance before module before system. An instance gets what holds as its environment and for the
placeholders of its manifest and templates, at its next start. Each change is a version; none is ever changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gdos.master.services import views
from gdos.master.services.context import Context, Who, audit, rfc3339
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as node_table
from gdos.master.store import values as table
from gdos.master.store.db import Db, Page, dumps, insert, update
from gdos.master.store.reader import Row
from gdos.model.errors import BadInput, NotFound, Problem

Entries = dict[str, dict[str, str]]
LEVELS = ("system", "module", "instance")
COUNT_MAX, SIZE_MAX, TOTAL_MAX = 1000, 64 << 10, 256 << 10  # three levels fit into one message


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose values: `chain` are the ids from the system down to this one."""

    level: str
    id: str
    name: str
    chain: tuple[str, ...]


FindScope = Callable[[Db], Scope]


def scope_of_system(row: Row) -> Scope:
    return Scope("system", row["id"], row["name"], (row["id"],))


def scope_of_module(row: Row) -> Scope:
    return Scope("module", row["id"], f"{row['system_name']}/{row['name']}", (row["system"], row["id"]))


def scope_of_instance(row: Row) -> Scope:
    name = f"{row['system_name']}/{row['name']}"
    return Scope("instance", row["id"], name, (row["system"], row["module"], row["id"]))


# --- reading


def entries(db: Db, scope: str) -> Entries:
    """The newest values of a scope as they are stored."""
    return _entries(table.latest(db, [scope]).get(scope))


def _entries(row: Row | None) -> Entries:
    return json.loads(row["entries"]) if row is not None else {}


def effective(db: Db, ctx: Context, instances: Iterable[Row]) -> dict[str, dict[str, str]]:
    """Instance id -> name -> value, secrets in plain: for the node that runs it, and for nobody else."""
    rows = list(instances)
    newest = table.latest(db, {scope for r in rows for scope in (r["system"], r["module"], r["id"])})
    plain = {scope: _plain(ctx, scope, _entries(row)) for scope, row in newest.items()}
    return {
        r["id"]: {**plain.get(r["system"], {}), **plain.get(r["module"], {}), **plain.get(r["id"], {})} for r in rows
    }


def _plain(ctx: Context, scope: str, found: Entries) -> dict[str, str]:
    return {
        name: entry["v"] if "v" in entry else ctx.vault.show(entry["s"], f"{scope}/{name}")
        for name, entry in found.items()
    }


def show(ctx: Context, find: FindScope) -> views.View:
    """The values of a scope and what holds there in the end, each with its origin. Secrets are never shown."""
    db = ctx.store.read()
    scope = find(db)
    newest = table.latest(db, scope.chain)
    own = newest.get(scope.id)
    holds: dict[str, views.View] = {}
    for level, id_ in zip(LEVELS, scope.chain, strict=False):
        for name, entry in _entries(newest.get(id_)).items():
            holds[name] = {**_view(name, entry), "origin": level}
    return {
        "scope": scope.name,
        "level": scope.level,
        "number": own["number"] if own else 0,
        "values": [_view(name, entry) for name, entry in sorted(_entries(own).items())],
        "effective": [holds[name] for name in sorted(holds)],
    }


def _view(name: str, entry: Mapping[str, str]) -> views.View:
    return {"name": name, "value": entry.get("v"), "is_secret": "s" in entry}


def history(ctx: Context, find: FindScope, asked: Page) -> tuple[list[views.View], str | None]:
    """All versions, newest first, each with what it changed."""
    db = ctx.store.read()
    asked.filters["scope"] = find(db).id
    found, cursor = table.page(db, asked)
    out = []
    for row in found:
        before = _entries(table.version(db, row["scope"], row["number"] - 1))
        out.append({**_version(row), "changes": changes(before, _entries(row))})
    return out, cursor


def _version(row: Row) -> views.View:
    return {"number": row["number"], "at": rfc3339(row["at"]), "who": row["who"], "note": row["note"]}


def diff(ctx: Context, find: FindScope, first: int, second: int) -> list[views.View]:
    """What changed from one version to another; 0 is before all of them, a missing `second` the newest."""
    db = ctx.store.read()
    scope = find(db)
    return changes(_need(db, scope, first), _need(db, scope, second))


def _need(db: Db, scope: Scope, number: int) -> Entries:
    if number == 0:
        return {}
    row = table.version(db, scope.id, number)
    if row is None:
        newest = table.latest(db, [scope.id]).get(scope.id)
        last = newest["number"] if newest else 0
        raise NotFound(f"the values of {scope.name} have no version {number}; the newest is {last}")
    return _entries(row)


def changes(before: Entries, after: Entries) -> list[views.View]:
    """What differs, by name; values of secrets are not in it."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        kind = "added" if old is None else "removed" if new is None else "changed"
        found.append(
            {
                "name": name,
                "kind": kind,
                "before": old.get("v") if old else None,
                "after": new.get("v") if new else None,
                "is_secret": "s" in (new or old or {}),
            }
        )
    return found


# --- changing


@dataclass(frozen=True, slots=True)
class Change:
    """`values` and `secrets` are set, `unset` removed; `replace`: what is not named goes too."""

    values: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    unset: Iterable[str] = ()
    replace: bool = False
    note: str = ""


def change(ctx: Context, who: Who, find: FindScope, asked: Change) -> views.View:
    """A new version, for the next start of what is below. Raises NotFound, BadInput."""
    ctx.store.write(lambda db: write(db, ctx, who, find(db), asked))
    _tell(ctx, find)
    return show(ctx, find)


def write(db: Db, ctx: Context, who: Who, scope: Scope, asked: Change) -> bool:
    """The same in a transaction that is under way; returns whether anything changed."""
    before = _entries(table.latest(db, [scope.id]).get(scope.id))
    after: Entries = {} if asked.replace else dict(before)
    missing = [name for name in asked.unset if name not in before]
    if missing:
        said = f"{scope.name} has no value {missing[0]} of its own; it has: {', '.join(sorted(before)) or 'none'}"
        raise BadInput(said, [Problem("unset", said)])
    for name in asked.unset:
        after.pop(name, None)
    after.update({name: {"v": text} for name, text in asked.values.items()})
    for name, text in asked.secrets.items():
        about = f"{scope.id}/{name}"
        known = before.get(name, {})
        same = "s" in known and ctx.vault.show(known["s"], about) == text
        after[name] = known if same else {"s": ctx.vault.hide(text, about)}
    return _store(db, ctx, who, scope, after, asked.note, "config.change")


def revert(ctx: Context, who: Who, find: FindScope, number: int) -> views.View:
    """The values of an earlier version again, as a new one."""

    def act(db: Db) -> None:
        scope = find(db)
        _store(db, ctx, who, scope, _need(db, scope, number), f"as in version {number}", "config.revert")

    ctx.store.write(act)
    _tell(ctx, find)
    return show(ctx, find)


def _store(db: Db, ctx: Context, who: Who, scope: Scope, after: Entries, note: str, action: str) -> bool:
    row = table.latest(db, [scope.id]).get(scope.id)
    before = _entries(row)
    if after == before:
        return False
    _check(after)
    number = (row["number"] if row else 0) + 1
    values = {"scope": scope.id, "number": number, "at": ctx.now(), "who": who.name, "note": note}
    insert(db, "config_versions", {**values, "entries": dumps(after)})
    names = {c["name"]: c["kind"] for c in changes(before, after)}
    audit(db, ctx, who, action, scope.id, {"scope": scope.name, "version": number, "names": names})
    words = ", ".join(f"{name} {kind}" for name, kind in names.items())
    for instance in instance_table.below(db, scope.id):
        revision = node_table.next_revision(db, instance["node"])
        update(db, "instances", {"id": instance["id"]}, {"revision": revision})
        said = f"{scope.level} {scope.name}, version {number}: {words}"
        instance_table.add_event(db, instance["id"], ctx.now(), "config", instance["state"], said[:500], who.name)
    return True


def _check(after: Entries) -> None:
    if len(after) > COUNT_MAX:
        said = f"expected at most {COUNT_MAX} values, got {len(after)}"
        raise BadInput(said, [Problem("values", said)])
    total = len(dumps(after).encode())
    if total > TOTAL_MAX:
        said = f"expected at most {TOTAL_MAX} bytes in all, got {total}; a file of the package is the place for more"
        raise BadInput(f"values: {said}", [Problem("values", said)])
    for name, entry in after.items():
        if len(entry.get("v", "")) > SIZE_MAX:
            said = f"expected at most {SIZE_MAX} characters, got {len(entry['v'])}"
            raise BadInput(f"{name}: {said}", [Problem(f"values.{name}", said)])


def _tell(ctx: Context, find: FindScope) -> None:
    db = ctx.store.read()
    for instance in instance_table.below(db, find(db).id):
        ctx.wake(instance["node"])
        ctx.changed("instance", instance["id"])


def check_key(ctx: Context) -> None:
    """At the start: the key fits the secrets that there are. Raises BadConfig that says what to do."""
    db = ctx.store.read()
    for row in table.latest(db, table.scopes_with_secrets(db)[:1]).values():
        _plain(ctx, row["scope"], _entries(row))
