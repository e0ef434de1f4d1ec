"""Which node gets an instance: what rules a node out, in words, and which of the others is best. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gdos.model.manifest import Manifest, Name
from gdos.model.values import format_size, parse_size

UNKNOWN_GIB = 8  # of a node that has said nothing yet: neither the best nor the worst
LABEL_VALUE = Annotated[str, Meta(max_length=200)]


class Placement(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a module may run. `nodes`: names; `labels`: all must match (`*` is any value, `!x` is anything but x);
    `spread`: even over nodes, or over the values of a label; `memory` and `cpu`: what must be free.
    """

    nodes: list[Name] = []
    labels: dict[str, LABEL_VALUE] = {}
    arch: Annotated[str, Meta(max_length=32)] = ""
    spread: Annotated[str, Meta(max_length=64)] = "node"
    max_per_node: Annotated[int, Meta(ge=0, le=1000)] = 0
    memory: Annotated[str, Meta(max_length=32)] = ""
    cpu: Annotated[float, Meta(ge=0, le=4096)] = 0.0


@dataclass(slots=True)
class Candidate:
    """A node as placement sees it. `free_memory` in bytes and `cpu` (in use, 0 to 1) are None where nobody knows."""

    id: str
    name: str
    state: str
    os: str = ""
    arch: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    allow: Iterable[str] = ()
    ports: dict[int, str] = field(default_factory=dict)  # claimed port -> by whom
    same_module: int = 0
    instances: int = 0
    free_memory: int | None = None
    cpu: float | None = None
    cores: int | None = None

    def take(self, who: str, ports: Iterable[int], memory: int = 0) -> None:
        """Count an instance that was just placed, so that the next one sees it."""
        self.same_module += 1
        self.instances += 1
        self.ports.update(dict.fromkeys(ports, who))
        if self.free_memory is not None:
            self.free_memory -= memory


class Reason(msgspec.Struct, frozen=True):
    """What was said of one node. `score`: less is better; null where it was ruled out."""

    node: str
    verdict: Literal["chosen", "possible", "ruled out"]
    text: str
    score: list[float] | None = None


def objection(node: Candidate, manifest: Manifest, placement: Placement, *, is_named: bool = False) -> str:
    """Why an instance cannot be placed there, or ''. `is_named`: a person named the node; it need not be online."""
    if not is_named and node.state != "online":
        return f"{node.name} is {node.state}"
    if placement.nodes and node.name not in placement.nodes and node.id not in placement.nodes:
        return f"{node.name} is none of {', '.join(placement.nodes)}"
    if manifest.os and node.os and manifest.os != node.os:
        return f"{node.name} runs {node.os}, {manifest.name} {manifest.version} is for {manifest.os}"
    if placement.arch and node.arch and placement.arch != node.arch:
        return f"{node.name} is {node.arch}, {placement.arch} is asked for"
    allowed = list(node.allow)
    if allowed and "deploy" not in allowed:
        return f"the worker on {node.name} does not allow deploy (--allow {','.join(allowed)})"
    for key, wish in placement.labels.items():
        if not _fits(node.labels.get(key), wish):
            has = f"{key}={node.labels[key]}" if key in node.labels else f"no label {key}"
            return f"{node.name} has {has}, {key}={wish} is asked for"
    for label, port in manifest.ports.items():
        if port in node.ports:
            return f"port {port} ({label}) on {node.name} is claimed by {node.ports[port]}"
    if placement.max_per_node and node.same_module >= placement.max_per_node:
        return f"{node.name} has {node.same_module} of it, at most {placement.max_per_node} are allowed"
    return "" if is_named else _resources(node, manifest, placement)


def _fits(value: str | None, wish: str) -> bool:
    if wish.startswith("!"):
        return value != wish[1:]
    return value is not None and wish in ("*", value)


def needed_memory(manifest: Manifest, placement: Placement) -> int:
    """Bytes that an instance wants to have free."""
    text = placement.memory or manifest.limits.memory
    return parse_size(text) if text else 0


def _resources(node: Candidate, manifest: Manifest, placement: Placement) -> str:
    memory = needed_memory(manifest, placement)
    if memory and node.free_memory is not None and node.free_memory < memory:
        return (
            f"{node.name} has {format_size(max(node.free_memory, 0))} of memory free, {format_size(memory)} are needed"
        )
    cpu = placement.cpu or (manifest.limits.cpu or 0.0)
    if cpu and node.cores and cpu > node.cores:
        return f"{node.name} has {node.cores} cores, {cpu:g} are needed"
    if placement.cpu and node.cores and node.cpu is not None and node.cores * (1 - node.cpu) < placement.cpu:
        return f"{node.name} has {node.cores * (1 - node.cpu):.1f} cores free, {placement.cpu:g} are needed"
    return ""


def score(node: Candidate, nodes: Iterable[Candidate], placement: Placement) -> list[float]:
    """Less is better: of the same module under the same label and here, how busy, free memory, instances.

    Busy and memory count in coarse steps (idle, at work, full; powers of two): small differences must not decide.
    """
    same = node.same_module
    if placement.spread != "node":
        mine = node.labels.get(placement.spread)
        same = sum(n.same_module for n in nodes if n.labels.get(placement.spread) == mine)
    busy = 0.0 if node.cpu is None or node.cpu < 0.6 else 1.0 if node.cpu < 0.85 else 2.0
    free = UNKNOWN_GIB if node.free_memory is None else max(node.free_memory, 0) >> 30
    return [float(same), float(node.same_module), busy, -float(free.bit_length()), float(node.instances)]


def choose(
    nodes: list[Candidate], manifest: Manifest, placement: Placement, *, is_named: bool = False
) -> tuple[Candidate | None, list[Reason]]:
    """The best node, or None, and what there is to say of every one of them."""
    fit: list[tuple[list[float], str, Candidate]] = []
    reasons: list[Reason] = []
    for node in nodes:
        why = objection(node, manifest, placement, is_named=is_named)
        if why:
            reasons.append(Reason(node.name, "ruled out", why))
        else:
            fit.append((score(node, nodes, placement), node.name, node))
    fit.sort(key=lambda row: row[:2])
    told = [Reason(n.name, "possible" if i else "chosen", _words(n, placement), s) for i, (s, _, n) in enumerate(fit)]
    return (fit[0][2] if fit else None), told + reasons


def _words(node: Candidate, placement: Placement) -> str:
    parts = [f"{node.same_module} of this module"]
    if placement.spread != "node":
        parts.append(f"{placement.spread}={node.labels.get(placement.spread, '-')}")
    if node.free_memory is not None:
        parts.append(f"{format_size(max(node.free_memory, 0))} of memory free")
    if node.cpu is not None:
        parts.append(f"CPU at {node.cpu * 100:.0f} %")
    return ", ".join([*parts, f"{node.instances} instances in all"])
