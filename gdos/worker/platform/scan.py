"""Trees by psutil, for the platforms without /proc."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

from gdos.model.manifest import Limits
from gdos.model.values import Identity
from gdos.worker.platform.base import LAUNCH, MARK

GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)
POLL_S = 0.2


def boot() -> str:
    """psutil's boot time moves with the clock by seconds; minutes do not."""
    return str(int(psutil.boot_time() // 60))


def started_ms(process: psutil.Process) -> int:
    return int(process.create_time() * 1000)


def identify(pid: int, boot_id: str) -> Identity | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, started_ms(process), boot_id)
    except GONE:
        return None


def mark_of(pid: int, name: str) -> str | None:
    try:
        return psutil.Process(pid).environ().get(name)
    except (*GONE, psutil.AccessDenied, OSError):
        return None


def tree(root: Identity, mark: str, boot_id: str) -> list[Identity]:
    """The root's descendants and whatever carries the mark."""
    found = {i.pid: i for i in marked(mark, boot_id)}
    try:
        process = psutil.Process(root.pid)
        if started_ms(process) == root.started:
            for one in [process, *process.children(recursive=True)]:
                identity = identify(one.pid, boot_id)
                if identity is not None:
                    found[one.pid] = identity
    except GONE:
        pass
    return list(found.values())


def marked(mark: str, boot_id: str) -> list[Identity]:
    found = [identify(pid, boot_id) for pid in psutil.pids() if mark_of(pid, MARK) == mark]
    return [identity for identity in found if identity is not None]


def left_over(mark: str, present: Identity, launch: str, boot_id: str) -> list[Identity]:
    """What says itself that it is of another launch, the tree of `present` apart."""
    mine = set(members(present))
    others = [i for i in marked(mark, boot_id) if i.pid not in mine]
    return [i for i in others if mark_of(i.pid, LAUNCH) not in (None, launch)]


def members(root: Identity) -> list[int]:
    try:
        return [root.pid, *(child.pid for child in psutil.Process(root.pid).children(recursive=True))]
    except GONE:
        return [root.pid]


def kill(identity: Identity, boot_id: str) -> None:
    if identify(identity.pid, boot_id) == identity:
        try:
            psutil.Process(identity.pid).kill()
        except GONE:
            return


def send(identity: Identity, boot_id: str, number: int) -> None:
    """A signal to exactly that process."""
    if identify(identity.pid, boot_id) == identity:
        try:
            psutil.Process(identity.pid).send_signal(number)
        except GONE:
            return


def descendants(root: Identity, boot_id: str) -> list[Identity]:
    if identify(root.pid, boot_id) != root:
        return []
    found = (identify(pid, boot_id) for pid in members(root))
    return [i for i in found if i is not None and i.started >= root.started]


def limit_problems(limits: Limits, where: str) -> list[str]:
    """Without control groups no limit can be held for a whole tree."""
    given = {name: getattr(limits, name) for name in limits.__struct_fields__}
    return [f"limits.{name}: cannot be held on {where}" for name, value in given.items() if value is not None]


class Poller:
    """Exits by looking, for processes that are not our children."""

    def __init__(self, is_alive: Callable[[Identity], bool]) -> None:
        self._is_alive = is_alive
        self._waiting: list[tuple[Identity, Callable[[], None]]] = []
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
        self._thread.start()

    def add(self, identity: Identity, on_exit: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append((identity, on_exit))

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed.wait(POLL_S):
            with self._lock:
                waiting = list(self._waiting)
            for entry in waiting:
                if not self._is_alive(entry[0]):
                    with self._lock:
                        self._waiting.remove(entry)
                    entry[1]()
