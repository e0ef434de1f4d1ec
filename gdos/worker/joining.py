"""How a node comes to its identity: node.json, or a join token against a credential of its own."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from gdos import localjoin
from gdos.model.errors import GdosError, NotAllowed, Unreachable, all_errors
from gdos.worker.disk import NodeFile, WorkDir
from gdos.worker.facts import machine_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    master: str
    join_token: str
    name: str
    facts: dict[str, Any]


def place(work: WorkDir) -> str:
    """Where this worker lives: a copied node.json does not match it."""
    return f"{machine_id()} {work.root}"


def join(work: WorkDir, wish: Wish) -> NodeFile:
    """Join with the token given, or the one that the master of this machine offers to its own user; write node.json.

    Raises Unreachable (try again) and NotAllowed (it is of no use).
    """
    token = wish.join_token or localjoin.take(wish.master)
    if not token and localjoin.is_local(wish.master):
        raise Unreachable(
            f"no master of this user on this machine offers a join token for {wish.master}: start it, or give"
            " --join-token"
        )
    if not token:
        raise NotAllowed(_no_token(wish.master))
    answer = _post(wish.master, token, {"name": wish.name, "facts": wish.facts})
    node = NodeFile(answer["node"], answer["name"], answer["credential"], place(work))
    work.write_node(node)
    log.info("joined %s as %s (%s)", wish.master, node.name, node.node)
    return node


def check(work: WorkDir, wish: Wish) -> None:
    """Before anything is started: can this node ever join? Raises NotAllowed."""
    if work.read_node() is None and not wish.join_token and not localjoin.is_local(wish.master):
        raise NotAllowed(_no_token(wish.master))


def _no_token(master: str) -> str:
    return (
        f"this node has not joined {master} yet: start it with --join-token TOKEN (`gdos join-token create` makes one)"
    )


def _post(master: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    import urllib3

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    timeout = urllib3.Timeout(connect=10, read=30)
    try:
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            answer = pool.request("POST", f"{master}/api/v1/join", body=json.dumps(body).encode(), headers=headers)
    except urllib3.exceptions.HTTPError as e:
        raise Unreachable(f"the master {master} cannot be reached ({_cause(e)})") from e
    try:
        data: dict[str, Any] = json.loads(answer.data)
    except ValueError as e:
        raise Unreachable(f"{master} answered {answer.status}, and not as a gdos master does") from e
    if answer.status == 201:
        return data
    kind = all_errors().get(str(data.get("code")), GdosError)
    detail = str(data.get("detail", answer.status))
    raise Unreachable(detail) if answer.status >= 500 else kind(detail)


def _cause(error: Exception) -> str:
    if isinstance(error.__cause__, ConnectionRefusedError) or "refused" in str(error):
        return "nothing listens there"
    return type(error).__name__
