"""Instances: deploy, actions, metrics, logs, processes, timeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gdos.master.api import shapes as s
from gdos.master.api.nodes import SeriesQuery
from gdos.master.api.router import OPERATOR, VIEWER, Answer, Call, Router, listed, page_of
from gdos.master.services import instances, orders, why
from gdos.master.services.context import rfc3339
from gdos.model.errors import BadInput, Problem
from gdos.wire import messages as m

api = Router()
ASK_S = 10.0


class InstanceQuery(s.ListQuery):
    state: s.StateName | None = None
    node: str | None = None
    system: str | None = None
    module: str | None = None
    name: str | None = None
    package: str | None = None


class EventQuery(Struct):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class LogQuery(Struct):
    """`tail` lines from the end, or from byte `offset` on at most `limit` bytes; `wait` seconds for new bytes."""

    tail: Annotated[int, Meta(ge=0, le=100_000)] = 0
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=m.CHUNK_MAX)] = m.CHUNK_MAX
    wait: Annotated[float, Meta(ge=0, le=30, extra={"unit": "seconds"})] = 0.0
    download: bool = False


@api.add("GET", "/instances", VIEWER, query=InstanceQuery, returns=s.Listed[s.Instance])
def list_instances(call: Call) -> object:
    """All instances; `system`, `module` and `node` take ids."""
    return listed(instances.page(call.ctx, page_of(call)))


@api.add("POST", "/instances", OPERATOR, body=s.DeployNew, returns=s.Task, status=202)
def deploy(call: Call) -> object:
    """Deploy a module: `count` new instances on a named node or where they fit best."""
    b = call.body
    system, _, module = (b.system, "", b.module) if b.system else b.module.rpartition("/")
    if not system:
        said = "expected SYSTEM/MODULE, or the field system beside it"
        raise BadInput(f"module: {said}", [Problem("module", said)])
    asked = instances.Deploy(system, module, b.node, b.count, b.run, b.env)
    return instances.deploy(call.ctx, call.who, asked, is_dry=b.dry_run)


@api.add("GET", "/instances/{id}", VIEWER, returns=s.Instance)
def get_instance(call: Call) -> object:
    """One instance, by id, beginning of an id, or name."""
    return instances.get(call.ctx, call.args["id"])


@api.add("POST", "/instances/{id}/actions", OPERATOR, body=s.Action, returns=s.Task, status=202)
def act(call: Call) -> object:
    """Start, run, stop, restart, upgrade, roll back or destroy one instance."""
    return act_on(call, orders.one(instances.by_name(call.args["id"])))


def act_on(call: Call, target: orders.Find) -> object:
    """An action as its body says."""
    b = call.body
    asked = orders.Asked(b.action, b.version or "", b.strategy)
    return instances.act(call.ctx, call.who, asked, target, is_dry=b.dry_run)


@api.add("GET", "/instances/{id}/runs", VIEWER, query=s.ListQuery, returns=s.Listed[s.Run])
def runs(call: Call) -> object:
    """The runs that are over, newest first: of a job, of a schedule, of a service between two restarts."""
    return listed(instances.runs(call.ctx, call.args["id"], page_of(call)))


@api.add("GET", "/instances/{id}/metrics", VIEWER, query=SeriesQuery, returns=s.Series)
def instance_metrics(call: Call) -> object:
    """An instance's metrics over time; gaps are null."""
    _, id_ = instances.locate(call.ctx, call.args["id"])
    return call.backend.series("instance", id_, call.query.range, call.query.step)


@api.add("GET", "/instances/{id}/timeline", VIEWER, query=EventQuery, returns=list[s.Event])
def timeline(call: Call) -> object:
    """What happened, newest first."""
    return instances.timeline(call.ctx, call.args["id"], call.query.limit)


@api.add("GET", "/instances/{id}/why", VIEWER, query=EventQuery, returns=s.Why)
def explain(call: Call) -> object:
    """Why it is as it is: one line of verdict, then what happened when."""
    return why.why(call.ctx, call.args["id"], call.query.limit)


@api.add("GET", "/instances/{id}/processes", VIEWER, returns=list[s.Process])
def processes(call: Call) -> object:
    """The instance's process tree, as it is now on the node."""
    node, id_ = instances.locate(call.ctx, call.args["id"])
    found = msgspec.convert(call.backend.ask(node, m.Processes(id=0, instance=id_), ASK_S), list[m.ProcessInfo])
    return [{**msgspec.to_builtins(p), "started_at": rfc3339(p.started_at)} for p in found]


@api.add("GET", "/instances/{id}/logs", VIEWER, returns=list[s.LogFileInfo])
def logs(call: Call) -> object:
    """The instance's logs: app.log and what its manifest names."""
    node, id_ = instances.locate(call.ctx, call.args["id"])
    found = msgspec.convert(call.backend.ask(node, m.LogFiles(id=0, instance=id_), ASK_S), list[m.LogFile])
    return [{"name": f.name, "size": f.size, "modified_at": rfc3339(f.modified_at)} for f in found]


@api.add("GET", "/instances/{id}/logs/{name}", VIEWER, query=LogQuery, media="text/plain")
def read_log(call: Call) -> Answer:
    """A log's bytes. X-Log-Next is the offset to go on from, X-Log-File changes when the file is another."""
    q = call.query
    node, id_ = instances.locate(call.ctx, call.args["id"])
    name = call.args["name"]

    def ask(offset: int, tail: int, limit: int, wait_s: float) -> m.Chunk:
        request = m.LogRead(id=0, instance=id_, name=name, offset=offset, tail=tail, limit=limit, wait_s=wait_s)
        return msgspec.convert(call.backend.ask(node, request, ASK_S + wait_s), m.Chunk)

    first = ask(0 if q.download else q.offset, 0 if q.download else q.tail, q.limit, q.wait)
    if q.tail and not q.download:  # more lines than one answer of a node holds
        first = m.Chunk(
            offset=first.offset,
            size=first.size,
            file=first.file,
            data=b"".join(_whole(first, lambda offset: ask(offset, 0, m.CHUNK_MAX, 0.0))),
        )
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("X-Log-Offset", str(first.offset)),
        ("X-Log-Next", str(first.offset + len(first.data))),
        ("X-Log-Size", str(first.size)),
        ("X-Log-File", first.file),
    ]
    raw: Any = first.data
    if q.download:
        headers.append(("Content-Disposition", f'attachment; filename="{id_}-{name.replace(chr(34), "")}"'))
        raw = _whole(first, lambda offset: ask(offset, 0, m.CHUNK_MAX, 0.0))
    return Answer(headers=headers, raw=raw)


def _whole(first: m.Chunk, ask: Any) -> Iterator[bytes]:
    """The file as long as it was at the first answer; ends early when another file takes its name."""
    chunk = first
    while chunk.data and chunk.file == first.file:
        left = first.size - chunk.offset
        yield chunk.data[:left]
        following = chunk.offset + len(chunk.data)
        if following >= first.size:
            return
        chunk = ask(following)
