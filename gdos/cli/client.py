"""The REST client of the commands: where the master is, who we are, errors as the API's own."""

from __future__ import annotations

import inspect
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gdos.diskio import write_atomic
from gdos.model.errors import GdosError, NotSignedIn, Problem, TimedOut, Unreachable, all_errors

POLL_S = 0.15
TIMEOUT_S = 30.0


def login_file() -> Path:
    """Where `gdos login` keeps what it got."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA") or str(Path.home() / ".config")
    return Path(base) / "gdos" / "login.json"


def stored() -> dict[str, str]:
    """{'master', 'token'} of the last login, or nothing."""
    try:
        found = json.loads(login_file().read_bytes())
        return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    except (OSError, ValueError, RuntimeError):
        return {}


def store(values: dict[str, str]) -> Path:
    """Keep a login, readable by this user only."""
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps(values).encode(), mode=0o600)
    return path


@dataclass(slots=True)
class Session:
    """What a client command works with."""

    client: Client
    is_json: bool
    is_quiet: bool
    is_verbose: bool


class Client:
    """Requests to one master. Raises the API's errors as GdosError, Unreachable when there is no answer."""

    def __init__(self, master: str, token: str) -> None:
        import urllib3

        self.master = (master if "://" in master else f"http://{master}").rstrip("/")
        self._token = token
        self._pool = urllib3.PoolManager(retries=False, maxsize=2, timeout=urllib3.Timeout(connect=5, read=TIMEOUT_S))

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body={} if body is None else body)

    def all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(path, **{"limit": 1000, **query, **({"cursor": cursor} if cursor else {})})
            found += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def call(self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if method not in ("GET", "HEAD"):
            headers["Idempotency-Key"] = secrets.token_hex(16)
        data = None if body is None else json.dumps(body).encode()
        answer = self.request(method, path, query=query, headers=headers, body=data)
        return json.loads(answer.data) if answer.data else None

    def request(self, method: str, path: str, *, query: dict[str, Any] | None = None, **more: Any) -> Any:
        """The raw answer, after errors have been raised."""
        import urllib3

        headers = {**more.pop("headers", {})}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        given = {k: ("true" if v is True else v) for k, v in (query or {}).items() if v is not None}
        url = f"{self.master}/api/v1{path}" + (f"?{urlencode(given)}" if given else "")
        try:
            answer = self._pool.request(method, url, headers=headers, **more)
        except urllib3.exceptions.HTTPError as e:
            raise Unreachable(f"the master {self.master} cannot be reached ({_words(e)})") from e
        if answer.status >= 400:
            raise_problem(answer.status, answer.data, self.master)
        return answer

    def wait(self, task: dict[str, Any], timeout_s: float, seen: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Until a task has ended; `seen` gets each look at it. Raises TimedOut, GdosError when it failed."""
        deadline = time.monotonic() + timeout_s
        while task["finished_at"] is None:
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"the {task['kind']} of {task['target']} is not done after {timeout_s:.0f} s: {_open(task)}"
                )
            time.sleep(POLL_S)
            task = self.get(f"/tasks/{task['id']}")
            seen(task)
        if task["state"] != "succeeded":
            raise GdosError(
                f"the {task['kind']} of {task['target']} {task['state']}: {task['error'] or 'no reason given'}"
            )
        return task


def _open(task: dict[str, Any]) -> str:
    waiting = [
        f"{s['target']}: {s['message'] or s['state']}" for s in task["steps"] if s["state"] in ("queued", "running")
    ]
    return "; ".join(waiting[:3])


def raise_problem(status: int, data: bytes, master: str) -> None:
    """An error answer as the error it is."""
    try:
        body = json.loads(data)
        problems = [Problem(p["path"], p["message"]) for p in body.get("errors", [])]
        kind, detail = all_errors().get(body["code"], GdosError), str(body["detail"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Unreachable(f"{master} answered {status}, and not as a gdos master does") from e
    if kind is NotSignedIn:
        detail += f" (`gdos login {master}`)"
    raise kind(detail, problems)


def _words(error: Exception) -> str:
    text = str(error)
    for word, said in (("refused", "nothing listens there"), ("timed out", "no answer"), ("resolve", "unknown host")):
        if word in text:
            return said
    return type(error).__name__


def segment(text: str) -> str:
    """One part of a path."""
    return quote(text, safe="")


_COMMON: list[tuple[str, Any, Any]] = [
    (
        "common_master",
        Annotated[str | None, typer.Option("--master", help="URL of the master.", envvar="GDOS_MASTER")],
        None,
    ),
    (
        "common_token",
        Annotated[str | None, typer.Option("--token", help="Token to sign in with.", envvar="GDOS_TOKEN")],
        None,
    ),
    ("is_json", Annotated[bool, typer.Option("--json", help="Print JSON.")], False),
    ("is_quiet", Annotated[bool, typer.Option("--quiet", "-q", help="Print less.")], False),
    ("is_verbose", Annotated[bool, typer.Option("--verbose", "-v", help="Print more.")], False),
]


def command(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A client command: `fn(session, ...)` gets the options that all of them have as a Session."""

    @wraps(fn)
    def wrapper(**given: Any) -> Any:
        common = {name: given.pop(name) for name, _, _ in _COMMON}
        asked, own_token = common["common_master"], common["common_token"]
        login = stored() if not (asked and own_token) else {}
        master = asked or login.get("master") or "http://127.0.0.1:8080"
        same = not asked or master.rstrip("/") == login.get("master")
        token = own_token or (login.get("token", "") if same else "")
        session = Session(Client(master, token), common["is_json"], common["is_quiet"], common["is_verbose"])
        return fn(session, **given)

    own = list(inspect.signature(fn, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=keyword) for p in own]
    more = [inspect.Parameter(name, keyword, default=default, annotation=kind) for name, kind, default in _COMMON]
    wrapper.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *more]}
    return wrapper


def read_in_pieces(path: Path, seen: Callable[[int], None]) -> Iterator[bytes]:
    """A file for an upload; `seen` gets the bytes so far."""
    done = 0
    with open(path, "rb") as file:
        while piece := file.read(256 << 10):
            yield piece
            done += len(piece)
            seen(done)


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
