"""Signing in and out, tokens of programs and of joining workers, the audit trail."""

from __future__ import annotations

from gdos.master.api import border
from gdos.master.api import shapes as s
from gdos.master.api.router import ADMIN, JOINER, OPEN, VIEWER, Answer, Call, Router, listed, page_of
from gdos.master.services import access, nodes
from gdos.master.services.context import Role
from gdos.model.errors import BadInput, NotSignedIn, Problem
from gdos.model.values import parse_duration

api = Router()


@api.add("POST", "/login", OPEN, body=s.Login, returns=s.SignedIn, is_secret=True)
def login(call: Call) -> Answer:
    """Sign in; with `cookie` the session is a cookie, otherwise the answer holds a bearer token."""
    kind = "cookie" if call.body.cookie else "bearer"
    if call.body.cookie:
        border.check_origin(call.headers)
    done = access.sign_in(call.ctx, call.body.user, call.body.password, kind, call.who.address)
    if not call.body.cookie:
        return Answer(done.view)
    return Answer({**done.view, "token": None}, headers=[("Set-Cookie", _cookie(call, done.secret, 30 * 86400))])


@api.add("POST", "/logout", VIEWER)
def logout(call: Call) -> Answer:
    """End this session."""
    access.sign_out(call.ctx, call.who)
    return Answer(headers=[("Set-Cookie", _cookie(call, "", 0))])


def _cookie(call: Call, value: str, age_s: int) -> str:
    path = call.backend.base_path + "/"
    text = f"{border.COOKIE}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={age_s}"
    return text + "; Secure" if call.backend.secure_cookies else text


@api.add("GET", "/me", VIEWER, returns=s.Me)
def me(call: Call) -> dict[str, str]:
    """Who am I."""
    assert call.who.role is not None
    return {"name": call.who.name, "role": call.who.role.word}


@api.add("POST", "/join", JOINER, body=s.Join, returns=s.Joined, status=201, is_secret=True)
def join(call: Call) -> dict[str, str]:
    """A worker joins: a join token as bearer token against a credential of its own."""
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise NotSignedIn("a worker joins with a join token: `gdos worker --join-token TOKEN`")
    joined = nodes.join(call.ctx, token.strip(), call.body.name, call.body.facts, call.who.address)
    return {"node": joined.node, "name": joined.name, "credential": joined.credential}


@api.add("GET", "/join-tokens", ADMIN, query=s.ListQuery, returns=s.Listed[s.JoinToken])
def join_tokens(call: Call) -> object:
    """Tokens with which workers join."""
    return listed(access.join_tokens(call.ctx, page_of(call)))


@api.add("POST", "/join-tokens", ADMIN, body=s.JoinTokenNew, returns=s.JoinTokenMade, status=201, is_secret=True)
def create_join_token(call: Call) -> object:
    """Make a join token; its secret is in this answer only."""
    return access.create_join_token(call.ctx, call.who, call.body.name, call.body.uses, _ttl(call.body.ttl))


@api.add("DELETE", "/join-tokens/{id}", ADMIN)
def revoke_join_token(call: Call) -> None:
    """Revoke a join token; nodes that joined with it stay."""
    access.revoke(call.ctx, call.who, "join_token", call.args["id"])


@api.add("GET", "/tokens", ADMIN, query=s.ListQuery, returns=s.Listed[s.Token])
def tokens(call: Call) -> object:
    """Tokens of programs."""
    return listed(access.tokens(call.ctx, page_of(call)))


@api.add("POST", "/tokens", ADMIN, body=s.TokenNew, returns=s.TokenMade, status=201, is_secret=True)
def create_token(call: Call) -> object:
    """Make a token for a program; its secret is in this answer only."""
    role = Role[call.body.role.upper()]
    return access.create_token(call.ctx, call.who, call.body.name, role, _ttl(call.body.ttl))


@api.add("DELETE", "/tokens/{id}", ADMIN)
def revoke_token(call: Call) -> None:
    """Revoke a program's token."""
    access.revoke(call.ctx, call.who, "token", call.args["id"])


def _ttl(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except BadInput as e:
        raise BadInput(f"ttl: {e.detail}", [Problem("ttl", e.detail)]) from e
    if not 1 <= seconds <= 10 * 365 * 86400:
        said = f'expected a duration from "1s" to "3650d", got "{text}"'
        raise BadInput(f"ttl: {said}", [Problem("ttl", said)])
    return seconds


class AuditQuery(s.ListQuery):
    who: str | None = None
    action: str | None = None
    object: str | None = None
    result: str | None = None


@api.add("GET", "/audit", ADMIN, query=AuditQuery, returns=s.Listed[s.AuditLine])
def audit(call: Call) -> object:
    """Who did what, newest first."""
    return listed(access.audit_trail(call.ctx, page_of(call)))
