"""Packages: taken in, checked before they are visible, never changed, removed only when nothing refers to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from gdos.master.blobs.base import Received
from gdos.master.services import views
from gdos.master.services.context import Context, Who, audit
from gdos.master.store import packages as table
from gdos.master.store.db import Db, Page, insert
from gdos.master.store.reader import Row
from gdos.model.errors import BadPackage, Conflict, GdosError, NotAllowed, NotFound
from gdos.model.manifest import Checked, Manifest
from gdos.pack.check import check_zip

_keeping = [threading.Lock() for _ in range(16)]


@dataclass(frozen=True, slots=True)
class Stored:
    view: views.View
    is_new: bool


def upload(ctx: Context, who: Who, read: Callable[[int], bytes], declared: int | None) -> Stored:
    """Take in a package from `read`. The same bytes again change nothing; other bytes of a known version are refused.

    Raises BadPackage, Conflict, TooLarge, StorageFull, Malformed; nothing half-done is left then.
    """
    received = ctx.blobs.receive(read, declared, ctx.upload_max)
    try:
        checked = check_zip(received.path)
        if checked.manifest.is_external:
            raise BadPackage("service.json: is_external describes a service that is adopted, not one that is uploaded")
        return _store(ctx, who, received, checked)
    finally:
        ctx.blobs.discard(received)


def _store(ctx: Context, who: Who, received: Received, checked: Checked) -> Stored:
    manifest = checked.manifest

    def write(db: Db) -> bool:
        before = table.get(db, manifest.name, manifest.version)
        if before is not None and before["sha256"] != received.sha256:
            raise Conflict(
                f"{manifest.name} {manifest.version} is here with other bytes (SHA-256 {before['sha256'][:12]}..., the"
                f" upload has {received.sha256[:12]}...); a version never changes: give the new one another version"
            )
        if before is not None:
            return False
        insert(db, "packages", _columns(ctx, who, received, manifest))
        detail = {"sha256": received.sha256, "size": received.size}
        audit(db, ctx, who, "package.upload", f"{manifest.name}:{manifest.version}", detail)
        return True

    with _keeping[int(received.sha256[0], 16)]:  # nobody else may find or drop the same bytes meanwhile
        was_there = table.is_stored(ctx.store.read(), received.sha256)
        ctx.blobs.keep(received)
        try:
            is_new = ctx.store.write(write)
        except GdosError:
            if not was_there:
                ctx.blobs.delete(received.sha256)
            raise
    view = get(ctx, manifest.name, manifest.version)
    return Stored({**view, "warnings": checked.warnings}, is_new)


def _columns(ctx: Context, who: Who, received: Received, manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": received.sha256,
        "size": received.size,
        "os": manifest.os,
        "description": manifest.description,
        "manifest": msgspec.json.encode(manifest).decode(),
        "uploaded_at": ctx.now(),
        "uploaded_by": who.name,
    }


def page(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.page(ctx.store.read(), asked)
    return [views.package(r) for r in found], cursor


def get(ctx: Context, name: str, version: str) -> views.View:
    """With its manifest. Raises NotFound naming the versions that there are."""
    return views.package_detail(find(ctx.store.read(), name, version))


def find(db: Db, name: str, version: str) -> Row:
    found = table.get(db, name, version)
    if found is not None:
        return found
    known = table.versions(db, name)
    if known:
        raise NotFound(f"{name} has no version {version}; uploaded are: {', '.join(known[:10])}")
    names = ", ".join(table.names(db)[:10]) or "none yet"
    raise NotFound(f"there is no package {name}; uploaded are: {names}")


def manifest_of(row: Row) -> Manifest:
    """The stored manifest; it was checked when it came in."""
    return manifest_from(row["manifest"])


@lru_cache(maxsize=1024)
def manifest_from(text: str) -> Manifest:
    """A manifest as it is stored: frozen, so one object may serve many."""
    return msgspec.json.decode(text, type=Manifest)


def delete(ctx: Context, who: Who, name: str, version: str) -> None:
    """Raises NotFound, and Conflict while modules or instances refer to it."""

    def write(db: Db) -> str | None:
        found = find(db, name, version)
        users = table.users_of(db, name, version)
        if users:
            raise Conflict(f"{name} {version} is in use by {', '.join(users[:10])}")
        db.execute("DELETE FROM packages WHERE name = ? AND version = ?", (name, version))
        audit(db, ctx, who, "package.delete", f"{name}:{version}", {"sha256": found["sha256"]})
        return None if table.is_stored(db, found["sha256"]) else str(found["sha256"])

    orphan = ctx.store.write(write)
    if orphan is not None:
        ctx.blobs.delete(orphan)


@dataclass(frozen=True, slots=True)
class Download:
    sha256: str
    size: int
    file_name: str
    open: Callable[[int, int | None], Iterator[bytes]]


def download(ctx: Context, who: Who, name: str, version: str) -> Download:
    """A version's bytes. A node gets only what it runs. Raises NotFound, NotAllowed."""
    db = ctx.store.read()
    found = find(db, name, version)
    if who.node and not table.is_for_node(db, name, version, who.node):
        raise NotAllowed(f"{who.name} has no instance of {name} {version}")
    sha256 = found["sha256"]
    return Download(
        sha256,
        found["size"],
        f"{name}-{version}.zip",
        lambda start, end: ctx.blobs.open(sha256, start, end),
    )
