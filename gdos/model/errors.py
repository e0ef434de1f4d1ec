"""One tree of errors: the API, the command line and the reports of workers all render the same object."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with an input: where it is and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class GdosError(Exception):
    """Base of all errors that a user may see. `detail` is one sentence: what, where, what is allowed."""

    code = "internal"
    title = "Internal error"
    status = 500
    exit_code = 1

    def __init__(self, detail: str, problems: list[Problem] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = problems or []


class BadInput(GdosError):
    code, title, status, exit_code = "bad_input", "The input is not valid", 422, 2


class Malformed(GdosError):
    code, title, status, exit_code = "malformed", "The request cannot be read", 400, 2


class BadConfig(GdosError):
    code, title, status, exit_code = "bad_config", "The configuration is not valid", 422, 2


class BadPackage(GdosError):
    code, title, status, exit_code = "bad_package", "The package is not valid", 422, 1


class NotSignedIn(GdosError):
    code, title, status, exit_code = "not_signed_in", "Sign in first", 401, 4


class NotAllowed(GdosError):
    code, title, status, exit_code = "not_allowed", "Not allowed", 403, 4


class NotFound(GdosError):
    code, title, status, exit_code = "not_found", "Not found", 404, 5


class MethodNotAllowed(GdosError):
    code, title, status, exit_code = "method_not_allowed", "Method not allowed", 405, 2


class TimedOut(GdosError):
    code, title, status, exit_code = "timed_out", "It took too long", 504, 6


class Conflict(GdosError):
    code, title, status = "conflict", "It conflicts with what is there", 409


class TooLarge(GdosError):
    code, title, status = "too_large", "Too large", 413


class RangeNotSatisfiable(GdosError):
    code, title, status = "range_not_satisfiable", "No such range", 416


class TooManyRequests(GdosError):
    code, title, status, exit_code = "too_many_requests", "Too many attempts", 429, 4


class StorageFull(GdosError):
    code, title, status = "storage_full", "No space left", 507


class Unavailable(GdosError):
    code, title, status, exit_code = "unavailable", "Not available now", 503, 3


class Unreachable(GdosError):
    code, title, status, exit_code = "unreachable", "Not reachable", 502, 3


class NotBuilt(GdosError):
    code, title, status = "not_there_yet", "Not there yet", 501


class StateError(GdosError):
    code, title, status = "illegal_transition", "Not possible in this state", 409


class DataTooNew(GdosError):
    code, title, status = "data_too_new", "The data is from a newer version", 500


def all_errors() -> dict[str, type[GdosError]]:
    """Every error by its stable code: for the documentation, and for clients that turn a code back into an error."""
    found: dict[str, type[GdosError]] = {}
    waiting = [GdosError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found


def raise_if(problems: list[Problem], what: str, error: type[GdosError] = BadInput) -> None:
    """Raise `error` with all problems at once, when there are any."""
    if problems:
        raise error(f"{what}: " + "; ".join(str(p) for p in problems), problems)
