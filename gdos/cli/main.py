"""The root command: knows the names of all commands, imports only the one that is run."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from gdos.cli.original import translate
from gdos.model.errors import GdosError


class Lazy(NamedTuple):
    target: str  # module:name of a function or of a typer.Typer
    help: str
    panel: str


RUN, WATCH, CHANGE, ADMIN = "Run", "Look", "Change", "Administer"
COMMANDS: dict[str, Lazy] = {
    "master": Lazy("gdos.cli.run:master", "Run a master.", RUN),
    "worker": Lazy("gdos.cli.run:worker", "Run a worker on this machine.", RUN),
    "pack": Lazy("gdos.cli.pack:app", "Make and check service packages.", RUN),
    "demo": Lazy("gdos.cli.demo:demo", "The five-minute tour: everything once, on this machine.", RUN),
    "config": Lazy("gdos.cli.configs:app", "Show the settings and where they come from.", RUN),
    "version": Lazy("gdos.cli.run:version", "Show the version.", RUN),
    "status": Lazy("gdos.cli.status:status", "Nodes, instances and tasks, live.", WATCH),
    "nodes": Lazy("gdos.cli.lists:nodes", "List the nodes.", WATCH),
    "systems": Lazy("gdos.cli.lists:systems", "List the systems.", WATCH),
    "modules": Lazy("gdos.cli.lists:modules", "List the modules of a system.", WATCH),
    "packages": Lazy("gdos.cli.lists:packages", "List the packages.", WATCH),
    "ps": Lazy("gdos.cli.lists:ps", "List the instances.", WATCH),
    "tasks": Lazy("gdos.cli.lists:tasks", "List the tasks, or show one.", WATCH),
    "audit": Lazy("gdos.cli.lists:audit", "Who did what.", WATCH),
    "logs": Lazy("gdos.cli.logs:logs", "Show or follow a log of an instance.", WATCH),
    "timeline": Lazy("gdos.cli.lists:timeline", "What happened to an instance.", WATCH),
    "why": Lazy("gdos.cli.lists:why", "Why an instance is as it is.", WATCH),
    "runs": Lazy("gdos.cli.lists:runs", "The runs of a job, a schedule or a service.", WATCH),
    "candidates": Lazy("gdos.cli.adopt:candidates", "What could be adopted on a node.", WATCH),
    "plan": Lazy("gdos.cli.apply:plan", "What `gdos apply` would change.", WATCH),
    "export": Lazy("gdos.cli.apply:export", "Write a system as a file.", WATCH),
    "upload": Lazy("gdos.cli.packages:upload", "Upload a package.", CHANGE),
    "delete-package": Lazy("gdos.cli.packages:delete", "Remove a version that nothing uses.", CHANGE),
    "deploy": Lazy("gdos.cli.services:deploy", "Place instances of a module and start them.", CHANGE),
    "apply": Lazy("gdos.cli.apply:apply", "Make a system as its file says.", CHANGE),
    "adopt": Lazy("gdos.cli.adopt:adopt", "Bring a service that runs already under care.", CHANGE),
    "import": Lazy("gdos.cli.adopt:import_", "Services of supervisor, PM2 or systemd as a system file.", CHANGE),
    "system": Lazy("gdos.cli.plans:system", "Plan systems.", CHANGE),
    "module": Lazy("gdos.cli.plans:module", "Plan the modules of a system.", CHANGE),
    "values": Lazy("gdos.cli.values:app", "Configuration values and secrets.", CHANGE),
    "task": Lazy("gdos.cli.tasks:app", "Pause, resume or cancel a task, or wait for it.", CHANGE),
    "run": Lazy("gdos.cli.services:run", "Run a job or a schedule once, now.", CHANGE),
    "start": Lazy("gdos.cli.services:start", "Start an instance, a module or a system.", CHANGE),
    "stop": Lazy("gdos.cli.services:stop", "Stop an instance, a module or a system.", CHANGE),
    "restart": Lazy("gdos.cli.services:restart", "Restart an instance, a module or a system.", CHANGE),
    "upgrade": Lazy("gdos.cli.services:upgrade", "Bring a module to another version.", CHANGE),
    "rollback": Lazy("gdos.cli.services:rollback", "Go back to the version before.", CHANGE),
    "destroy": Lazy("gdos.cli.services:destroy", "Remove instances and their data.", CHANGE),
    "delete-system": Lazy("gdos.cli.services:delete_system", "Remove a system that has no instances.", CHANGE),
    "node": Lazy("gdos.cli.nodes:app", "Rename, label or remove a node.", CHANGE),
    "login": Lazy("gdos.cli.access:login", "Sign in to a master.", ADMIN),
    "logout": Lazy("gdos.cli.access:logout", "End the session.", ADMIN),
    "join-token": Lazy("gdos.cli.access:join_token", "Tokens with which workers join.", ADMIN),
    "reset-password": Lazy("gdos.cli.access:reset_password", "A new password, on the master's machine.", ADMIN),
    "tokens": Lazy("gdos.cli.access:tokens", "Tokens for programs.", ADMIN),
}


class LazyGroup(TyperGroup):
    """Listing and completion need names and help only."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        lazy = COMMANDS[cmd_name]
        return TyperCommand(name=cmd_name, help=lazy.help, rich_help_panel=lazy.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name in COMMANDS:
            command = load(name)
        return name, command, rest


def load(name: str) -> Any:
    """The real command behind a name."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, help=found.__doc__, no_args_is_help=getattr(found, "needs_arguments", False))(found)
        found = app
    command = typer.main.get_command(found)
    command.name = name
    return command


root = typer.Typer(
    cls=LazyGroup,
    name="gdos",
    help="GDOS: deploy, supervise and watch services on your machines, from one file.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@root.callback()
def _root() -> None:
    """GDOS: deploy, supervise and watch services on your machines, from one file."""


def run(program: str, arguments: list[str]) -> int:
    """Run a command line; returns the exit code. Errors are one sentence on standard error."""
    if "--no-color" in arguments:
        arguments = [a for a in arguments if a != "--no-color"]
        os.environ["NO_COLOR"] = "1"
    try:
        result = root(args=translate(program, arguments), prog_name="gdos", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except GdosError as e:
        from gdos.cli.render import show_error

        show_error(e)
        return e.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as e:
        code = _usage_error(e)
        if code is None:
            raise
        return code


def _usage_error(error: Exception) -> int | None:
    """What typer says of a wrong command line; None for any other error."""
    code = getattr(error, "exit_code", None)
    show = getattr(error, "show", None)
    if callable(show):
        show()
        return code if isinstance(code, int) else 2
    return 1 if type(error).__name__ == "Abort" else code if isinstance(code, int) else None
