"""The master, wired by hand: builds, starts and stops all parts. The only file that knows them all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gdos import __version__, localjoin, logs
from gdos.filelock import FileLock
from gdos.master import listener
from gdos.master.api import access as access_api
from gdos.master.api import adoptions, border, instances, meta, nodes, packages, systems, tasks
from gdos.master.api import values as values_api
from gdos.master.api.router import Backend, Route
from gdos.master.blobs.base import Blobs
from gdos.master.blobs.local import LocalBlobs
from gdos.master.blobs.s3 import S3Blobs
from gdos.master.browsers import Browser, Browsers
from gdos.master.config import MasterConfig
from gdos.master.exposition import exposition
from gdos.master.hub import Hub, Link
from gdos.master.rings import Rings
from gdos.master.services import access, values
from gdos.master.services import tasks as tasks_service
from gdos.master.services.access import FirstStart
from gdos.master.services.context import Context, Who
from gdos.master.services.vault import Vault
from gdos.master.sockets import Sweep
from gdos.master.store import access as access_table
from gdos.master.store import instances as instance_table
from gdos.master.store import nodes as node_table
from gdos.master.store import packages as package_table
from gdos.master.store import tasks as task_table
from gdos.master.store.db import Db, Store
from gdos.master.wsgi import Bridge
from gdos.model.errors import Conflict, GdosError, NotFound, NotSignedIn, Unavailable

log = logging.getLogger(__name__)
TIDY_S = 3600.0
CONDUCT_S = 0.3
SOCKETS_RESERVE = 200


class _Live:
    """What is in memory only, for the views."""

    def __init__(self, rings: Rings, hub: Callable[[], Hub]) -> None:
        self._rings = rings
        self._hub = hub

    def node_metrics(self, node: str) -> dict[str, float] | None:
        return self._rings.latest("node", node)

    def instance_metrics(self, instance: str) -> dict[str, float] | None:
        return self._rings.latest("instance", instance)

    def last_seen(self, node: str) -> int | None:
        return self._hub().last_seen(node)


class Master:
    """One master. `prepare()` opens everything and may raise GdosError; `run()` serves until a signal."""

    def __init__(self, config: MasterConfig) -> None:
        self.config = config
        self._lock = _lock(config.data_dir)
        self.store = Store(config.db_path)
        self.blobs = _blobs(config)
        self.rings = Rings(config.metrics_budget)
        vault = Vault(config.db_path.with_name(config.db_path.name + ".key"))
        self.ctx = Context(self.store, self.blobs, vault, now=lambda: time.time_ns() // 1_000_000)
        self.ctx.upload_max = config.upload_max
        self.hub = Hub(self.ctx, self.rings, config.offline_threshold_s, self._live)
        self.ctx.live = _Live(self.rings, lambda: self.hub)
        self.ctx.wake = self.hub.wake
        self.ctx.changed = self._changed
        self.ctx.removed = self.hub.forget
        self.ctx.ask = self.hub.ask
        self.browsers = Browsers(self.ctx, self._soon)
        self.sweep = Sweep(time.monotonic)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._offer: Path | None = None
        self._started = time.monotonic()

    # --- callbacks from the parts

    def _changed(self, kind: str, id_: str) -> None:
        """From any thread."""
        if self._loop is None or self._loop.is_closed() or not self.browsers.readers.get(f"{kind}s"):
            return
        self._loop.call_soon_threadsafe(self.browsers.changed, kind, id_)

    def _live(self, node: str, found: Any) -> None:
        self.browsers.live(node, found)

    def _soon(self, delay_s: float, fn: Callable[[], None]) -> Any:
        return asyncio.get_running_loop().call_later(delay_s, fn)

    # --- HTTP

    def routes(self) -> list[Route]:
        """All routes of this master."""
        apis = (access_api, nodes, packages, systems, instances, values_api, adoptions, tasks)
        parts = (meta.root, *(module.api for module in apis))
        found = [route for part in parts for route in part.routes]
        found += meta.describe(found).routes
        return found + meta.console.routes

    def backend(self) -> Backend:
        return Backend(
            self.ctx,
            ask=self.hub.ask,
            series=self._series,
            health=self._health,
            exposition=exposition(self.ctx, self._own_metrics),
            secure_cookies=self.config.tls is not None,
            base_path=self.config.base_path,
        )

    def _series(self, kind: str, id_: str, range_s: int, step_s: int) -> dict[str, Any]:
        """The rings belong to the loop: ask there. From pool threads only."""
        if self._loop is None:
            raise Unavailable("the master is starting")

        async def query() -> dict[str, Any]:
            return self.rings.query(kind, id_, self.ctx.now() // 1000, range_s, step_s)

        return asyncio.run_coroutine_threadsafe(query(), self._loop).result(10)

    def _health(self) -> dict[str, Any]:
        try:
            self.store.write(lambda db: db.execute("SELECT 1").fetchall())
        except GdosError as e:
            return {"status": "not ready", "reason": e.detail, "version": __version__}
        return {"status": "ready", "reason": "", "version": __version__}

    def _own_metrics(self) -> dict[str, float]:
        return {
            "uptime_seconds": time.monotonic() - self._started,
            "connected_workers": len(self.hub.links),
            "samples_total": self.hub.samples,
            "ring_bytes": self.rings.size(),
            "wal_bytes": _size(self.config.db_path.with_name(self.config.db_path.name + "-wal")),
        }

    async def gate(self, path: str, headers: dict[str, str], address: str) -> Link | Browser:
        """Who may open a WebSocket, and what it is for. Raises GdosError."""
        path = urlsplit(path).path.removeprefix(self.config.base_path)
        if path == "/ws/worker":
            kind, _, secret = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not secret:
                raise NotSignedIn("a worker connects with its credential as a bearer token")
            return await self.hub.admit(access.hash_secret(secret.strip()))
        if path == "/ws/console":
            await asyncio.get_running_loop().run_in_executor(None, self._viewer, headers, address)
            return Browser(self.browsers)
        raise NotFound(f"there is no WebSocket at {path}")

    def _viewer(self, headers: dict[str, str], address: str) -> Who:
        cookie = _cookie(headers.get("cookie", ""), border.COOKIE)
        who = border.credentials(self.backend(), headers, cookie, address)
        if who.is_cookie:
            border.check_origin({**headers, "sec-fetch-site": headers.get("sec-fetch-site", "same-origin")})
        if who.role is None:
            raise NotSignedIn("a worker's credential is not for the console")
        return who

    # --- life

    def first_start(self) -> FirstStart | None:
        """The admin account of a new database; None for one that has accounts."""
        return access.first_start(self.ctx, os.environ.get("GDOS_ADMIN_PASSWORD") or None)

    def run(self, announce: Callable[[str, int], None]) -> None:
        """Serve until SIGTERM or Ctrl-C. `announce(url, port)` is called once the port is open."""
        sock = listener.bind(self.config.host, self.config.port)
        port = int(sock.getsockname()[1])
        _raise_file_limit()
        app = border.build(self.backend(), self.routes())
        bridge = Bridge(app, _pool_of, self.config.base_path)
        server = listener.build(bridge, self.gate, self.sweep, self.config.tls)
        self._offer = self._offer_local_join(port)
        try:
            asyncio.run(self._serve(server, sock, lambda: announce(self.url(port), port)))
        finally:
            bridge.close()
            self.close()

    def url(self, port: int) -> str:
        """Where people of this machine open it."""
        host = "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.config.tls else 'http'}://{host}:{port}{self.config.base_path}"

    async def _serve(self, server: listener.Listener, sock: Any, announce: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        db = self.store.read()
        online = [n for n, state in node_table.states(db).items() if state == "online"]
        self.hub.start(online, node_table.by_credential(db))
        background = [asyncio.create_task(self.sweep.run()), asyncio.create_task(self._tidy_for_ever())]
        background.append(asyncio.create_task(self._conduct()))
        background.append(asyncio.create_task(self._announce(server, announce)))
        gc.collect()
        gc.freeze()
        try:
            await server.serve(sockets=[sock])
        finally:
            for task in background:
                task.cancel()
            self.hub.stop()
            self.browsers.stop()
            self._loop = None

    async def _announce(self, server: listener.Listener, announce: Callable[[], None]) -> None:
        while not server.started:
            await asyncio.sleep(0.005)
        announce()

    def _offer_local_join(self, port: int) -> Path | None:
        """A join token for workers of this machine and user; it ends with this process."""
        made = access.create_join_token(self.ctx, Who(access.LOCAL), "local", None, 365 * 86400)
        path = localjoin.offer(port, made["token"])
        if path is None:
            access.revoke_local(self.ctx)
        return path

    async def _tidy_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            try:
                await asyncio.get_running_loop().run_in_executor(None, self.tidy)
            except GdosError as e:
                log.warning("tidying up: %s", e.detail)

    async def _conduct(self) -> None:
        """What tasks do by the clock: trials, gates, deadlines."""
        while True:
            await asyncio.sleep(CONDUCT_S)
            try:
                await asyncio.get_running_loop().run_in_executor(None, tasks_service.tick, self.ctx)
            except GdosError as e:
                log.warning("tasks: %s; tried again", e.detail)
            except Exception:
                log.exception("tasks: looking after them failed; tried again")

    def tidy(self) -> None:
        """What is old goes: expired sessions, finished tasks and events beyond what is kept."""

        def write(db: Db) -> None:
            access_table.forget_expired(db, self.ctx.now())
            task_table.trim(db, self.ctx.keep_tasks)
            instance_table.trim_events(db, self.ctx.keep_events)

        self.store.write(write)

    def prepare(self) -> None:
        """After a crash: half-done uploads go, blobs are compared with the database, what is lost is said."""
        values.check_key(self.ctx)
        db = self.store.read()
        known = package_table.hashes(db)
        removed = self.blobs.tidy(known)
        if removed:
            log.info("removed %d package files that no version refers to", len(removed))
        for sha256 in sorted(self.blobs.missing(known)):
            log.error("the bytes %s of a package are missing in the package folder: upload it again", sha256)
        access.revoke_local(self.ctx)
        self.tidy()

    def close(self) -> None:
        """Commit what waits and let go of the data folder."""
        if self._offer is not None:
            self._offer.unlink(missing_ok=True)
            with contextlib.suppress(GdosError):  # a full disk must not keep it from stopping; the next start does it
                access.revoke_local(self.ctx)
        self.store.close()
        self._lock.release()


def _lock(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "master.lock")
    except BlockingIOError as e:
        raise Conflict(
            f"another master uses the data folder {folder.absolute()}: give this one its own --data-dir"
        ) from e
    except OSError as e:
        said = f"the data folder {folder.absolute()} cannot be written ({e.strerror}): check owner and rights"
        raise Unavailable(said + ", or name another with --data-dir") from e


def _blobs(config: MasterConfig) -> Blobs:
    if config.store_type == "minio":
        return S3Blobs(config.s3, LocalBlobs(config.data_dir / "incoming"))
    return LocalBlobs(config.upload_dir)


_ASKING = ("/candidates", "/matches", "/processes", "/adoptions")


def _pool_of(method: str, path: str) -> str:
    if path.endswith("/download") or (method == "POST" and path == "/api/v1/packages"):
        return "transfer"
    return "wait" if "/logs" in path or path.endswith(_ASKING) else "api"


def _cookie(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _raise_file_limit() -> None:
    """Each worker and browser is a descriptor."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard < 1024:
            log.warning("the limit of open files is %d: at most %d workers can connect", hard, hard - SOCKETS_RESERVE)


def reset_password(config: MasterConfig, user: str, password: str | None) -> str:
    """A new password for `user` in the database of a master that is stopped. Raises NotFound, Conflict."""
    if not config.db_path.is_file():
        raise NotFound(f"there is no database {config.db_path.absolute()}: name the master's --data-dir or --db-path")
    master = Master(config)
    try:
        return access.reset_password(master.ctx, user, password)
    finally:
        master.close()


def serve(config: MasterConfig, banner: Callable[[str, Master, FirstStart | None], None]) -> None:
    """Run a master until a signal; `banner(url, master, first)` is for people, the ready line for scripts."""
    logs.set_up(config.log_format, config.log_level)
    for warning in config.resolved.warnings:
        log.warning("%s", warning)
    master = Master(config)
    master.prepare()
    first = master.first_start()

    def announce(url: str, port: int) -> None:
        banner(url, master, first)
        logs.ready("master", url=url, pid=os.getpid(), version=__version__)

    master.run(announce)
