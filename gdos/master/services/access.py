"""Who may come in: first start, passwords, sessions, tokens of programs and of nodes. Secrets are stored hashed."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import zlib
from dataclasses import dataclass

from gdos.master.services import views
from gdos.master.services.context import Context, Role, Who, audit, new_id, rfc3339
from gdos.master.store import access as table
from gdos.master.store import nodes as node_table
from gdos.master.store.db import Db, Page, insert, update
from gdos.model.errors import BadInput, NotFound, NotSignedIn, Problem, TooManyRequests

_DAY = 86_400_000
SESSION_MAX = 30 * _DAY
SESSION_IDLE = 7 * _DAY
_USED_GRAIN = 60_000  # a session's last use is written at most so often
_TRIES_FREE = 5
_hashing = threading.Semaphore(2)  # argon2 takes 19 MiB each: logins must not become a memory bomb
PASSWORD_MIN = 8
_PASSWORD_TEXT = f"expected at least {PASSWORD_MIN} characters"


def make_secret(kind: str) -> str:
    """'gdos_<kind>_<random><crc>': secret scanners can find it, and a mistyped one is told from a wrong one."""
    body = f"gdos_{kind}_{secrets.token_urlsafe(24).replace('_', 'A').replace('-', 'B')}"
    return body + f"{zlib.crc32(body.encode()):08x}"


def is_well_formed(secret: str) -> bool:
    """Whether the checksum at the end of a token is right."""
    return secret.startswith("gdos_") and hmac.compare_digest(f"{zlib.crc32(secret[:-8].encode()):08x}", secret[-8:])


def hash_secret(secret: str) -> str:
    """Tokens have 192 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hash_password(password: str) -> str:
    """argon2id at OWASP's minimum (19 MiB, 2 passes)."""
    from argon2 import PasswordHasher

    with _hashing:
        return PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(password)


def _is_right(stored: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    with _hashing:
        try:
            return PasswordHasher().verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False


@dataclass(frozen=True, slots=True)
class FirstStart:
    """Shown once on the terminal; `password` is None when the environment gave it."""

    user: str
    password: str | None
    join_token: str


def first_start(ctx: Context, password: str | None) -> FirstStart | None:
    """Make the admin account and a join token when there is no account yet; otherwise None."""
    if table.has_users(ctx.store.read()):
        return None
    if password is not None and len(password) < PASSWORD_MIN:
        raise BadInput(f"GDOS_ADMIN_PASSWORD: {_PASSWORD_TEXT}", [Problem("GDOS_ADMIN_PASSWORD", _PASSWORD_TEXT)])
    chosen = password or "-".join(secrets.token_hex(3) for _ in range(3))
    stored = hash_password(chosen)
    me = Who("first start", Role.ADMIN)
    join = make_secret("join")

    def write(db: Db) -> None:
        insert(db, "users", {"name": "admin", "password": stored, "role": Role.ADMIN.word, "created_at": ctx.now()})
        _insert_join_token(db, ctx, me, join, "first", None, ctx.now() + 7 * _DAY)
        audit(db, ctx, me, "user.create", "admin", {"role": "admin"})

    ctx.store.write(write)
    return FirstStart("admin", None if password else chosen, join)


def reset_password(ctx: Context, user: str, password: str | None) -> str:
    """A new password for `user`, all of whose sessions end; on the master's own machine only. Raises NotFound."""
    chosen = password or "-".join(secrets.token_hex(3) for _ in range(3))
    if len(chosen) < PASSWORD_MIN:
        raise BadInput(f"password: {_PASSWORD_TEXT}", [Problem("password", _PASSWORD_TEXT)])
    stored = hash_password(chosen)

    def write(db: Db) -> None:
        if not update(db, "users", {"name": user}, {"password": stored}):
            raise NotFound(f"there is no user {user}")
        table.delete(db, "sessions", "user", user)
        table.delete(db, "login_failures", "who", f"account:{user}")
        audit(db, ctx, Who("reset-password on the master's machine"), "user.reset_password", user)

    ctx.store.write(write)
    return chosen


@dataclass(frozen=True, slots=True)
class SignedIn:
    secret: str
    view: views.View


def sign_in(ctx: Context, user: str, password: str, kind: str, address: str) -> SignedIn:
    """A new session ('cookie' or 'bearer'). Raises NotSignedIn, TooManyRequests while account or address must wait."""
    keys = [f"account:{user}", f"address:{_prefix(address)}"]
    db = ctx.store.read()
    for key in keys:
        failure = table.failure(db, key)
        if failure is not None and failure["until"] > ctx.now():
            seconds = (failure["until"] - ctx.now()) // 1000 + 1
            raise TooManyRequests(f"too many failed attempts; try again in {seconds} s")
    account = table.user(db, user)
    right = _is_right(account["password"] if account else _dummy(), password)
    if account is None or not right:
        ctx.store.write(lambda db: _failed(db, ctx, user, keys, address))
        raise NotSignedIn("the user name or the password is wrong")
    secret = make_secret("session")
    now = ctx.now()
    expires = now + SESSION_MAX
    session = {
        "secret": hash_secret(secret),
        "user": user,
        "kind": kind,
        "address": address,
        "created_at": now,
        "used_at": now,
        "expires_at": expires,
    }

    def write(db: Db) -> None:
        insert(db, "sessions", session)
        table.delete(db, "login_failures", "who", keys[0])
        audit(db, ctx, Who(user, address=address), "login", user, {"kind": kind})

    ctx.store.write(write)
    view = {"user": user, "role": account["role"], "token": secret, "expires_at": rfc3339(expires)}
    return SignedIn(secret, view)


def _failed(db: Db, ctx: Context, user: str, keys: list[str], address: str) -> None:
    """Each failure beyond the first few doubles the wait, up to a quarter of an hour; never for ever."""
    for key, free in zip(keys, (_TRIES_FREE, _TRIES_FREE * 4), strict=True):
        old = table.failure(db, key)
        count = (old["count"] if old else 0) + 1
        wait = 0 if count < free else min(1000 * 2 ** min(count - free, 10), 900_000)
        table.set_failure(db, key, count, ctx.now() + wait)
    audit(db, ctx, Who(user, address=address), "login", user, result="denied")


_dummy_hash: list[str] = []


def _dummy() -> str:
    """An unknown user costs as much time as a known one."""
    if not _dummy_hash:
        _dummy_hash.append(hash_password(secrets.token_hex(8)))
    return _dummy_hash[0]


def _prefix(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{ip}/{24 if ip.version == 4 else 64}", strict=False))


def identify(ctx: Context, secret: str, address: str, *, is_cookie: bool = False) -> Who:
    """Whose token this is: a session, a program or a node. Raises NotSignedIn."""
    hashed = hash_secret(secret)
    db = ctx.store.read()
    now = ctx.now()
    session = table.session(db, hashed)
    if session is not None and (session["kind"] == "cookie") == is_cookie:
        if session["expires_at"] < now or session["used_at"] + SESSION_IDLE < now:
            raise NotSignedIn("the session has expired; sign in again")
        if session["used_at"] + _USED_GRAIN < now:
            ctx.store.writer.submit(lambda db: update(db, "sessions", {"secret": hashed}, {"used_at": now}))
        return Who(session["user"], Role[session["role"].upper()], address, is_cookie=is_cookie, secret=hashed)
    token = None if is_cookie else table.token(db, hashed)
    if token is not None:
        if token["expires_at"] is not None and token["expires_at"] < now:
            raise NotSignedIn(f"the token {token['name']} has expired; an admin can make a new one")
        if (token["used_at"] or 0) + _USED_GRAIN < now:
            ctx.store.writer.submit(lambda db: update(db, "tokens", {"secret": hashed}, {"used_at": now}))
        return Who(f"token:{token['name']}", Role[token["role"].upper()], address)
    node = None if is_cookie else node_table.with_credential(db, hashed)
    if node is not None:
        return Who(f"node:{node['name']}", None, address, node=node["id"])
    raise NotSignedIn("the token is not known here, or it was revoked; sign in again")


def sign_out(ctx: Context, who: Who) -> None:
    """End the session that asks."""

    def write(db: Db) -> None:
        table.delete(db, "sessions", "secret", who.secret)
        audit(db, ctx, who, "logout", who.name)

    ctx.store.write(write)


# --- tokens


def create_join_token(ctx: Context, who: Who, name: str, uses: int | None, ttl_s: float | None) -> views.View:
    """A new join token; its secret is in this answer only."""
    secret = make_secret("join")
    expires = None if ttl_s is None else ctx.now() + int(ttl_s * 1000)

    def write(db: Db) -> str:
        id_ = _insert_join_token(db, ctx, who, secret, name, uses, expires)
        audit(db, ctx, who, "join_token.create", id_, {"name": name, "uses": uses})
        return id_

    id_ = ctx.store.write(write)
    return {"id": id_, "name": name, "token": secret, "uses_left": uses, "expires_at": rfc3339(expires)}


def _insert_join_token(
    db: Db, ctx: Context, who: Who, secret: str, name: str, uses: int | None, expires: int | None
) -> str:
    id_ = new_id("j")
    insert(
        db,
        "join_tokens",
        {
            "id": id_,
            "name": name,
            "secret": hash_secret(secret),
            "uses_left": uses,
            "created_by": who.name,
            "created_at": ctx.now(),
            "expires_at": expires,
        },
    )
    return id_


def create_token(ctx: Context, who: Who, name: str, role: Role, ttl_s: float | None) -> views.View:
    """A new token for a program; its secret is in this answer only."""
    secret = make_secret("api")
    expires = None if ttl_s is None else ctx.now() + int(ttl_s * 1000)
    id_ = new_id("k")

    def write(db: Db) -> None:
        values = {"id": id_, "name": name, "secret": hash_secret(secret), "role": role.word, "created_by": who.name}
        insert(db, "tokens", {**values, "created_at": ctx.now(), "expires_at": expires})
        audit(db, ctx, who, "token.create", id_, {"name": name, "role": role.word})

    ctx.store.write(write)
    return {"id": id_, "name": name, "role": role.word, "token": secret, "expires_at": rfc3339(expires)}


def revoke(ctx: Context, who: Who, kind: str, id_: str) -> None:
    """Remove a 'join_token' or a 'token'. Raises NotFound."""

    def write(db: Db) -> None:
        if not table.delete(db, f"{kind}s", "id", id_):
            raise NotFound(f"there is no {kind.replace('_', ' ')} {id_}")
        audit(db, ctx, who, f"{kind}.revoke", id_)

    ctx.store.write(write)


LOCAL = "local worker"


def revoke_local(ctx: Context) -> None:
    """End the join tokens for workers beside the master, also those of a master that was killed."""
    ctx.store.write(lambda db: table.delete(db, "join_tokens", "created_by", LOCAL))


def join_tokens(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.join_token_page(ctx.store.read(), asked)
    return [views.token(r) for r in found], cursor


def tokens(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.token_page(ctx.store.read(), asked)
    return [views.token(r) for r in found], cursor


def audit_trail(ctx: Context, asked: Page) -> tuple[list[views.View], str | None]:
    found, cursor = table.audit_page(ctx.store.read(), asked)
    return [views.audit_line(r) for r in found], cursor
