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
    """Stop following a task; what is wanted of its instances stays."""
    return tasks.cancel(call.ctx, call.who, call.args["id"])
