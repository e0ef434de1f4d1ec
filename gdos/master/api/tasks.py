"""Tasks."""

from __future__ import annotations

from gdos.master.api import shapes as s
from gdos.master.api.router import OPERATOR, VIEWER, Call, Router, listed, page_of
from gdos.master.services import tasks

api = Router()


class TaskQuery(s.ListQuery):
    state: s.TaskState | None = None
    kind: str | None = None
    target: str | None = None


@api.add("GET", "/tasks", VIEWER, query=TaskQuery, returns=s.Listed[s.Task])
def list_tasks(call: Call) -> object:
    """All tasks, newest first."""
    return listed(tasks.page(call.ctx, page_of(call)))


@api.add("GET", "/tasks/{id}", VIEWER, returns=s.Task)
def get_task(call: Call) -> object:
    """One task with its steps."""
    return tasks.get(call.ctx, call.args["id"])


@api.add("POST", "/tasks/{id}/cancel", OPERATOR, returns=s.Task)
def cancel_task(call: Call) -> object:
    """Ask for nothing more and stop following; what is wanted of its instances stays."""
    return tasks.cancel(call.ctx, call.who, call.args["id"])


@api.add("POST", "/tasks/{id}/pause", OPERATOR, returns=s.Task)
def pause_task(call: Call) -> object:
    """Let what was asked for go on and ask for nothing more."""
    return tasks.pause(call.ctx, call.who, call.args["id"])


@api.add("POST", "/tasks/{id}/resume", OPERATOR, returns=s.Task)
def resume_task(call: Call) -> object:
    """Go on with a paused task."""
    return tasks.resume(call.ctx, call.who, call.args["id"])
