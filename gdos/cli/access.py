"""`gdos login`, `gdos logout`, `gdos join-token`, `gdos tokens`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from gdos.cli.client import Client, Session, command, login_file, segment, store
from gdos.cli.render import age, field, print_json, print_line, print_table
from gdos.model.errors import BadInput, GdosError

join_token = typer.Typer(add_completion=False, no_args_is_help=True, help="Tokens with which workers join.")
tokens = typer.Typer(add_completion=False, no_args_is_help=True, help="Tokens for programs.")
Ttl = Annotated[str, typer.Option("--ttl", help="How long it holds, such as 24h; 'never' for no end.")]


def login(
    url: Annotated[str, typer.Argument(help="URL of the master.")],
    user: Annotated[str, typer.Option("--user", "-u", help="User name.")] = "admin",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sign in to a master; later commands use this session.

    Example: echo "$PASSWORD" | gdos login http://10.0.0.1:8080 --user admin --password-stdin
    """
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        import getpass

        password = getpass.getpass(f"Password of {user}: ")
    else:
        raise BadInput("there is no terminal to ask for the password: use --password-stdin")
    client = Client(url, "")
    done = client.post("/login", {"user": user, "password": password})
    path = store({"master": client.master, "token": done["token"], "user": user})
    if is_json:
        print_json({"master": client.master, "user": user, "role": done["role"], "expires_at": done["expires_at"]})
    else:
        print_line(f"signed in to {client.master} as {user} ({done['role']}); kept in {path}")


def reset_password(
    user: Annotated[str, typer.Option("--user", "-u", help="Whose.")] = "admin",
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="The master's data folder.")] = None,
    db_path: Annotated[str | None, typer.Option("--db-path", help="The master's database.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="The master's configuration file.")] = None,
) -> None:
    """Give a user a new password and end all of its sessions; also as `gdos master reset-password`.

    Stop the master first: its data folder has one owner at a time. GDOS_ADMIN_PASSWORD sets the password.

    Example: gdos master reset-password --data-dir /var/lib/gdos
    """
    import os

    from gdos.master import config as settings
    from gdos.master.app import reset_password as reset

    loaded = settings.load({"data-dir": data_dir, "db-path": db_path}, os.environ, config)
    print_line(f"{user} has the new password {reset(loaded, user, os.environ.get('GDOS_ADMIN_PASSWORD') or None)}")


@command
def logout(session: Session) -> None:
    """End the session and forget it here.

    Example: gdos logout
    """
    with contextlib.suppress(GdosError):  # a session that has ended already is what we want
        session.client.post("/logout")
    login_file().unlink(missing_ok=True)
    if session.is_json:
        print_json({"signed_out": True})
    else:
        print_line("signed out")


def _ttl(text: str) -> str | None:
    return None if text == "never" else text


@join_token.command("create")
@command
def create_join_token(
    session: Session,
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    uses: Annotated[int | None, typer.Option("--uses", min=1, help="How many workers may use it.")] = None,
    ttl: Ttl = "24h",
) -> None:
    """Make a join token; it is shown this once.

    Example: gdos join-token create --uses 10 --ttl 1h --json
    """
    made = session.client.post("/join-tokens", {"name": name, "uses": uses, "ttl": _ttl(ttl)})
    if session.is_json:
        print_json(made)
    else:
        print_line(made["token"])
        if not session.is_quiet:
            sys.stderr.write(f"gdos worker --master {session.client.master} --join-token {made['token']}\n")


@join_token.command("list")
@command
def list_join_tokens(session: Session) -> None:
    """List the join tokens, without their secrets.

    Example: gdos join-token list
    """
    _list(session, session.client.all("/join-tokens"), ("id", "name", "uses_left", "created_by", "expires_at"))


@join_token.command("revoke")
@command
def revoke_join_token(session: Session, token: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Revoke a join token; nodes that joined with it stay.

    Example: gdos join-token revoke j-3f9c2a7d10b4
    """
    _revoke(session, f"/join-tokens/{segment(token)}", token)


@tokens.command("create")
@command
def create_token(
    session: Session,
    name: Annotated[str, typer.Option("--name", help="What it is for.")],
    role: Annotated[str, typer.Option("--role", help="viewer, operator or admin.")] = "viewer",
    ttl: Ttl = "90d",
) -> None:
    """Make a token for a program; it is shown this once.

    Example: gdos tokens create --name ci --role operator
    """
    made = session.client.post("/tokens", {"name": name, "role": role, "ttl": _ttl(ttl)})
    print_json(made) if session.is_json else print_line(made["token"])


@tokens.command("list")
@command
def list_tokens(session: Session) -> None:
    """List the tokens, without their secrets.

    Example: gdos tokens list
    """
    _list(session, session.client.all("/tokens"), ("id", "name", "role", "created_by", "expires_at"))


@tokens.command("revoke")
@command
def revoke_token(session: Session, token: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Revoke a program's token.

    Example: gdos tokens revoke k-3f9c2a7d10b4
    """
    _revoke(session, f"/tokens/{segment(token)}", token)


def _list(session: Session, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    if session.is_json:
        print_json(rows)
    else:
        columns = [(name.replace("_", " "), field(name)) for name in names]
        print_table(rows, [*columns, ("age", age("created_at"))], "None yet.")


def _revoke(session: Session, path: str, token: str) -> None:
    session.client.call("DELETE", path)
    if session.is_json:
        print_json({"id": token, "revoked": True})
    else:
        print_line(f"{token} revoked")
