"""`gdos master`, `gdos worker`, `gdos version`."""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gdos import __version__
from gdos.logs import leave
from gdos.settings import Setting

_WORKER_BOOT = (
    "import os,json,sys;sys.path[:]=json.loads(os.environ.pop('GDOS_WORKER_PATH'));"
    "from gdos.worker.slim import main;sys.exit(main())"
)


def _with_settings(table: tuple[Setting, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each setting; values stay text, the settings' own parsers check them."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        params = []
        for s in table:
            kind: Any = (
                bool | None if isinstance(s.default, bool) else list[str] | None if s.flag == "label" else str | None
            )
            names = [f"--{s.flag}"] if kind != bool | None else [f"--{s.flag}/--no-{s.flag}"]
            option = Annotated[kind, typer.Option(*names, help=s.text, show_default=False)]
            name = s.flag.replace("-", "_")
            params.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option))
        config = Annotated[str | None, typer.Option("--config", help="configuration file", show_default=False)]
        params.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=config))
        own = [p for p in inspect.signature(fn, eval_str=True).parameters.values() if p.name != "given"]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        fn.__signature__ = inspect.Signature([*own, *params])  # type: ignore[attr-defined]
        fn.__annotations__ = {p.name: p.annotation for p in [*own, *params]}
        return fn

    return decorate


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name.replace("_", "-"): (value or None if isinstance(value, list) else value) for name, value in given.items()
    }


def _master_table() -> tuple[Setting, ...]:
    from gdos.master.config import TABLE

    return TABLE


def _worker_table() -> tuple[Setting, ...]:
    from gdos.worker.config import TABLE

    return TABLE


def master_command() -> Callable[..., Any]:
    """Built when it is asked for: its options are the master's settings."""

    @_with_settings(_master_table())
    def master(**given: Any) -> None:
        """Run a master.

        Example: gdos master --port 8080 --data-dir /var/lib/gdos
        """
        from gdos.master import config
        from gdos.master.app import serve

        name = given.pop("config")
        serve(config.load(_flags(given), os.environ, name), _banner)
        leave()

    return master


def worker_command() -> Callable[..., Any]:
    """Built when it is asked for: its options are the worker's settings."""

    @_with_settings(_worker_table())
    def worker(**given: Any) -> None:
        """Run a worker on this machine.

        Example: gdos worker --master http://10.0.0.1:8080 --join-token gdos_join_...
        """
        from gdos.worker import config

        name = given.pop("config")
        config.load(_flags(given), os.environ, name)  # a mistake is said here, in this process
        _become_slim({"flags": _flags(given), "config": name})

    return worker


def _become_slim(start: dict[str, Any]) -> None:
    """The worker itself carries no command line: this process becomes one that has only what a worker needs."""
    os.environ["GDOS_WORKER_START"] = json.dumps(start)
    if sys.platform == "win32":
        from gdos.worker.slim import main

        raise SystemExit(main())
    os.environ["GDOS_WORKER_PATH"] = json.dumps(sys.path)
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # glibc's arenas would cost some MB; a worker computes little
    shown = ["gdos-worker", str(start["flags"].get("master") or ""), str(start["flags"].get("work-dir") or "")]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-S", "-c", _WORKER_BOOT, *filter(None, shown)])


def _banner(url: str, running: Any, first: Any) -> None:
    """For people, on standard error: where it is, and at the first start how to get in."""
    config = running.config
    lines = [
        f"GDOS {__version__} master",
        f"  console   {url}/",
        f"  data      {config.db_path.absolute()}, packages in {config.upload_dir.absolute()}",
    ]
    if config.tls is None and config.host not in ("127.0.0.1", "localhost", "::1"):
        lines.append("  note      plain HTTP: use it on networks that you trust, or give --tls-cert and --tls-key")
    if first is not None:
        if first.password is not None:
            lines.append(f"  sign in   user {first.user}, password {first.password}   (shown once)")
        lines.append(f"  add nodes gdos worker --master {_reachable(url, config.host)} --join-token {first.join_token}")
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.panel import Panel

        Console(stderr=True).print(Panel.fit("\n".join(lines), border_style="cyan"), soft_wrap=True)
    else:
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()


def _reachable(url: str, host: str) -> str:
    """The URL as other machines see it, where the master listens on all addresses."""
    return url.replace("127.0.0.1", socket.gethostname(), 1) if host in ("0.0.0.0", "::") else url


def version(is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the version.

    Example: gdos version --json
    """
    import platform

    facts = {"version": __version__, "python": platform.python_version(), "platform": sys.platform}
    text = json.dumps(facts) if is_json else f"gdos {__version__} (Python {facts['python']}, {sys.platform})"
    sys.stdout.write(text + "\n")


def __getattr__(name: str) -> Any:
    """`master` and `worker` are made on demand, so that neither imports the other's settings."""
    if name == "master":
        return master_command()
    if name == "worker":
        return worker_command()
    raise AttributeError(name)
