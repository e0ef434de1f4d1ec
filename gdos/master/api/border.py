"""Where HTTP meets the use cases: who asks, may they, is the input right; and every error as problem+json."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import threading
from typing import Any
from urllib.parse import urlsplit

import bottle
import msgspec

from gdos.master.api.router import Answer, Backend, Call, Route
from gdos.master.services import access, idempotency
from gdos.master.services.context import Who
from gdos.model import checking
from gdos.model.errors import (
    BadInput,
    Conflict,
    GdosError,
    Malformed,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Problem,
    TooLarge,
)

COOKIE = "gdos_session"
BODY_MAX = 1 << 20
_SAFE = ("GET", "HEAD", "OPTIONS")
_UNSTABLE = ("metrics", "last_seen")
log = logging.getLogger(__name__)
_under_way: set[str] = set()
_under_way_lock = threading.Lock()

HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    (
        "Content-Security-Policy",
        "default-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'self'",
    ),
]


def build(backend: Backend, routes: list[Route]) -> Any:
    """The Bottle application of these routes."""
    app = bottle.Bottle(catchall=False, autojson=False)
    for route in routes:
        path = re.sub(r"{(\w+)}", r"<\1>", route.path)
        app.route(path, route.method, _handler(backend, route))
    for status in (400, 404, 405, 413, 500):
        app.error(status)(_bottle_error)
    return app


def _handler(backend: Backend, route: Route) -> Any:
    def handle(**args: str) -> Any:
        try:
            call = _call(backend, route, args)
            return _respond(route, _run(route, call))
        except GdosError as e:
            return problem(e)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("request %s: %s %s failed", number, route.method, bottle.request.path)
            return problem(GdosError(f"an error of the master itself; its log names it {number}"))

    return handle


def _run(route: Route, call: Call) -> Answer:
    """The handler's answer, or the one remembered for its Idempotency-Key."""
    key = call.headers.get("idempotency-key", "")
    if route.method in _SAFE or not key or route.takes != "application/json" or route.is_secret:
        return _answer(route.handler(call))
    if len(key) > 200:
        raise BadInput("Idempotency-Key: expected at most 200 characters")
    full = f"{call.who.name} {route.method} {bottle.request.path} {key}"
    body = hashlib.sha256(msgspec.json.encode(call.body)).hexdigest()
    with _under_way_lock:
        if full in _under_way:
            raise Conflict("a request with this Idempotency-Key is under way")
        _under_way.add(full)
    try:
        known = idempotency.recall(call.ctx, full, body)
        if known is not None:
            return Answer(json.loads(known.answer), known.status)
        answer = _answer(route.handler(call))
        text = json.dumps(answer.body, default=str)
        idempotency.remember(call.ctx, full, body, answer.status or route.status, text)
        return answer
    finally:
        with _under_way_lock:
            _under_way.discard(full)


def _answer(result: Any) -> Answer:
    return result if isinstance(result, Answer) else Answer(result)


def _call(backend: Backend, route: Route, args: dict[str, str]) -> Call:
    request = bottle.request
    headers = {k.lower(): v for k, v in request.headers.items()}
    who = identify(backend, route, headers, request.get_cookie(COOKIE), request.remote_addr or "")
    if who.is_cookie and route.method not in _SAFE:
        check_origin(headers)
    args = {name: value.encode("latin1").decode("utf-8", "replace") for name, value in args.items()}
    call = Call(backend, who, args, headers=headers)
    stream = request.environ["wsgi.input"]
    call.read = stream.read
    call.content_length = request.content_length if request.content_length >= 0 else None
    call.files = lambda: request.files
    if route.query is not None:
        call.query = _query(route.query, request.query)
    if route.body is not None:
        call.body = _body(route.body, headers, stream, call.content_length)
    return call


def identify(backend: Backend, route: Route, headers: dict[str, str], cookie: str | None, address: str) -> Who:
    """Who calls a route. Raises NotSignedIn, NotAllowed."""
    if route.access.is_open:
        return Who("nobody", address=address)
    who = credentials(backend, headers, cookie, address)
    if who.node:
        if not route.access.node:
            raise NotAllowed("a worker's credential is not for this; sign in as a person")
    elif route.access.role is None or who.role is None or who.role < route.access.role:
        needed = route.access.role.word if route.access.role else "a worker"
        role = who.role.word if who.role else "none"
        raise NotAllowed(f"this needs the role {needed}; {who.name} has {role}")
    return who


def credentials(backend: Backend, headers: dict[str, str], cookie: str | None, address: str) -> Who:
    """The owner of the bearer token or of the session cookie. Raises NotSignedIn."""
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret:
        return access.identify(backend.ctx, secret.strip(), address)
    if cookie:
        return access.identify(backend.ctx, cookie, address, is_cookie=True)
    raise NotSignedIn("no session and no token; sign in, or send `Authorization: Bearer TOKEN`")


def check_origin(headers: dict[str, str]) -> None:
    """A change by cookie must come from our own pages. Raises NotAllowed."""
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise NotAllowed(f"a request from another site ({site}) is refused")
    if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
        raise NotAllowed(f"a request from {origin} is refused; this is {headers.get('host', '')}")
    if site is None and origin is None:
        raise NotAllowed("a change by cookie needs an Origin; programs use a bearer token")


def _body(kind: Any, headers: dict[str, str], stream: Any, length: int | None) -> Any:
    media = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Malformed(f"Content-Type: expected application/json, got {media}")
    if length is not None and length > BODY_MAX:
        raise TooLarge(f"the body has {length} bytes, at most {BODY_MAX} are allowed")
    data = stream.read(BODY_MAX + 1)
    if len(data) > BODY_MAX:
        raise TooLarge(f"the body is larger than {BODY_MAX} bytes")
    try:
        raw = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Malformed(f"the body is not JSON: {e}") from e
    return checking.load(kind, raw, "the body")


def _query(kind: type[msgspec.Struct], query: Any) -> Any:
    """Query values are text: numbers and booleans are read from it before they are checked."""
    raw: dict[str, Any] = {}
    kinds = {f.encode_name: str(f.type) for f in msgspec.structs.fields(kind)}
    for name in query:
        text = query.getunicode(name) or ""
        declared = kinds.get(name, "")
        if "int" in declared and re.fullmatch(r"-?\d{1,18}", text):
            raw[name] = int(text)
        elif "float" in declared and re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", text):
            raw[name] = float(text)
        elif "bool" in declared and text in ("0", "1", "true", "false"):
            raw[name] = text in ("1", "true")
        else:
            raw[name] = text
    return checking.load(kind, raw, "the query")


def _respond(route: Route, answer: Answer) -> Any:
    status = answer.status or route.status
    if answer.raw is not None:
        return bottle.HTTPResponse(answer.raw, status, headers=[*answer.headers, *HEADERS])
    if route.returns is None and answer.body is None:
        return bottle.HTTPResponse(b"", 204 if status == 200 else status, headers=[*answer.headers, *HEADERS])
    data = msgspec.json.encode(answer.body)
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *answer.headers, *HEADERS]
    if route.method == "GET" and status == 200:
        headers.append(("ETag", etag(answer.body)))
    return bottle.HTTPResponse(data, status, headers=headers)


def etag(body: Any) -> str:
    """Of what people edit: live values do not count, so that If-Match means 'nobody changed it'."""
    stable = {k: v for k, v in body.items() if k not in _UNSTABLE} if isinstance(body, dict) else body
    return f'"{hashlib.sha256(msgspec.json.encode(stable)).hexdigest()[:32]}"'


def check_match(call: Call, current: Any) -> None:
    """If-Match of a change against the object as it is. Raises Conflict (412)."""
    wish = call.headers.get("if-match")
    if wish and wish != "*" and etag(current) not in wish:
        error = Conflict("somebody has changed it since you read it; read it again")
        error.status = 412
        raise error


def problem(error: GdosError) -> Any:
    """An error as RFC 9457."""
    body = {
        "type": f"urn:gdos:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "errors": [{"path": p.path, "message": p.message} for p in error.problems],
    }
    headers = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), *HEADERS]
    if error.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return bottle.HTTPResponse(msgspec.json.encode(body), error.status, headers=headers)


def _bottle_error(error: Any) -> Any:
    """Bottle's own errors in the same form."""
    path = bottle.request.path
    if error.status_code == 404:
        made: GdosError = NotFound(f"there is nothing at {path}", [Problem("path", path)])
    elif error.status_code == 405:
        made = MethodNotAllowed(f"{bottle.request.method} is not possible at {path}")
    elif error.status_code == 413:
        made = TooLarge("the request is too large")
    else:
        made = Malformed(f"the request cannot be read: {error.body}")
    response = problem(made)
    bottle.response.status = response.status
    for name, value in response.headerlist:
        bottle.response.set_header(name, value)
    return response.body
