"""From an action on an instance, a module or a system to the steps of a task: the start order and its gates, the
reverse order of a stop, the batches of a rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from gdos.master.services import changes, systems
from gdos.master.services.tasks import Order, Planned
from gdos.master.store import instances as table
from gdos.master.store import systems as system_table
from gdos.master.store.db import Db, update
from gdos.master.store.reader import Row
from gdos.model import order, rollout
from gdos.model.errors import BadInput, Conflict, Problem
from gdos.model.flow import Need
from gdos.model.order import Dependency
from gdos.model.rollout import Strategy

DOWN = ("stop", "destroy")


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is for: one instance, all of a module, or all of a system."""

    text: str
    instances: list[Row]
    modules: list[Row]
    is_system: bool = False


Find = Callable[[Db], Target]


@dataclass(frozen=True, slots=True)
class Asked:
    """`version`: where an upgrade goes. `strategy`: how; None for what the module says."""

    action: str
    version: str = ""
    strategy: Strategy | None = None


def build(db: Db, target: Target, asked: Asked) -> Order:
    """The steps. Raises BadInput and Conflict before anything has been changed but the plan of modules."""
    target = _possible(target, asked.action)
    if asked.action == "upgrade":
        return upgrade(db, target, asked)
    if asked.action == "rollback":
        return _rollback(db, target)
    if asked.action == "restart" and len(target.modules) > 1:
        steps = _ordered(target, "stop", [])
        steps = _ordered(target, "start", steps)
    elif len(target.modules) > 1:
        steps = _ordered(target, asked.action, [])
    else:
        steps = [Planned(asked.action, instance) for instance in target.instances]
    return Order(asked.action, target.text, steps)


def _possible(target: Target, action: str) -> Target:
    """Of a whole system those that the action can be for: adopted ones have no versions, some are only watched."""
    if not target.is_system or action == "destroy":
        return target
    if action in ("upgrade", "rollback"):
        return replace(
            target,
            instances=[i for i in target.instances if not i["external"]],
            modules=[m for m in target.modules if not m["external"]],
        )
    return replace(target, instances=[i for i in target.instances if changes.is_managed(i)])


def depends_of(module: Row) -> list[Dependency]:
    return msgspec.json.decode(module["depends_on"], type=list[Dependency])


def module_waves(modules: Iterable[Row]) -> list[list[Row]]:
    """The modules of a system in start order. Raises BadInput naming a circle."""
    by_name = {m["name"]: m for m in modules}
    graph = {name: [d.module for d in depends_of(m)] for name, m in by_name.items()}
    return [[by_name[name] for name in wave] for wave in order.waves(graph)]


def _ordered(target: Target, action: str, before: Sequence[Planned]) -> list[Planned]:
    """Every instance of a system, each after those that it needs; `before`: steps that all of these come after."""
    steps = list(before)
    all_before = tuple(Need(n) for n in range(len(before)))
    waves = module_waves(target.modules)
    numbers: dict[str, list[int]] = {m["name"]: [] for m in target.modules}
    needs_of = _needs_down(target.modules) if action in DOWN else _needs_up(target.modules)
    for wave in reversed(waves) if action in DOWN else waves:
        for module in wave:
            for instance in [i for i in target.instances if i["module"] == module["id"]]:
                needs = [n for name, make in needs_of[module["name"]] for n in map(make, numbers[name])]
                numbers[module["name"]].append(len(steps))
                steps.append(Planned(action, instance, (*all_before, *needs), phase=module["name"]))
    return steps


Edges = dict[str, list[tuple[str, Callable[[int], Need]]]]


def _needs_up(modules: Sequence[Row]) -> Edges:
    names = {m["name"] for m in modules}
    return {m["name"]: [(d.module, _gate(d)) for d in depends_of(m) if d.module in names] for m in modules}


def _needs_down(modules: Sequence[Row]) -> Edges:
    found: Edges = {m["name"]: [] for m in modules}
    for module in modules:
        for dependency in depends_of(module):
            if dependency.module in found:
                found[dependency.module].append((module["name"], Need))
    return found


def _gate(d: Dependency) -> Callable[[int], Need]:
    return lambda number: Need(number, d.gate, d.target, d.timeout)


# --- versions


def upgrade(db: Db, target: Target, asked: Asked) -> Order:
    """Every module of the target to a version of its package, in start order; one rollout after the other."""
    if not asked.version:
        raise BadInput("version: is missing", [Problem("version", "is missing; an upgrade needs the version to go to")])
    if any(i["external"] for i in target.instances):
        raise Conflict(f"{target.text} was adopted: it has no versions here")
    if not target.modules:
        return _upgrade_one(db, target, asked)
    plan = Rollouts()
    for wave in module_waves(target.modules):
        after = plan.last()
        for module in wave:
            instances = [i for i in target.instances if i["module"] == module["id"]]
            plan.add(db, module, instances, asked.version, asked.strategy, after)
    return Order("upgrade", target.text, plan.steps, plan.strategy(asked.strategy), modules=tuple(plan.moved))


def _upgrade_one(db: Db, target: Target, asked: Asked) -> Order:
    """One instance alone: what its module plans stays."""
    strategy = asked.strategy or Strategy()
    (instance,) = target.instances
    systems.need_version(db, instance["package"], asked.version)
    planned = rollout.plan(1, strategy)
    steps = [Planned(p.action, instance, p.needs, asked.version, p.phase, p.hold_ms) for p in planned]
    return Order("upgrade", target.text, steps, strategy)


@dataclass(slots=True)
class Rollouts:
    """Steps that bring modules to versions, put together one module after the other."""

    steps: list[Planned] = field(default_factory=list)
    moved: list[dict[str, str]] = field(default_factory=list)
    used: list[Strategy] = field(default_factory=list)

    def last(self) -> list[int]:
        """All steps so far: what comes after a wave needs all of it."""
        return list(range(len(self.steps)))

    def strategy(self, asked: Strategy | None) -> Strategy:
        return asked or (self.used[0] if self.used else Strategy())

    def add(
        self, db: Db, module: Row, instances: Sequence[Row], version: str, asked: Strategy | None, after: Sequence[int]
    ) -> None:
        """Plan the version and the steps of its instances; those that run it already are brought to it again."""
        strategy = asked or msgspec.json.decode(module["strategy"], type=Strategy)
        self.used.append(strategy)
        systems.need_version(db, module["package"], version)
        if version != module["version"]:
            values = {"version": version, "previous_version": module["version"]}
            update(db, "modules", {"id": module["id"]}, values)
            row = {"module": module["id"], "from": module["version"], "to": version}
            self.moved.append({**row, "before": module["previous_version"]})
        first = len(self.steps)
        for p in rollout.plan(len(instances), strategy, "upgrade", after, first):
            self.steps.append(Planned(p.action, instances[p.instance], p.needs, version, p.phase, p.hold_ms))


def _rollback(db: Db, target: Target) -> Order:
    """All at once: the version before is still on the nodes."""
    for row in [*target.modules, *target.instances]:
        if row["external"] or not row["previous_version"]:
            raise Conflict(f"{row['name']} has no earlier version to go back to")
    for module in target.modules:
        values = {"version": module["previous_version"], "previous_version": module["version"]}
        update(db, "modules", {"id": module["id"]}, values)
    if len(target.modules) > 1:
        steps = _ordered(target, "rollback", [])
        steps = [replace(s, value=s.instance["previous_version"]) for s in steps]
    else:
        steps = [Planned("rollback", i, value=i["previous_version"]) for i in target.instances]
    return Order("rollback", target.text, steps)


# --- which instances


def one(find: Callable[[Db], Row]) -> Find:
    """Target: one instance."""

    def target(db: Db) -> Target:
        row = find(db)
        return Target(f"{row['system_name']}/{row['name']}", [row], [])

    return target


def module_of(system: str, module: str) -> Find:
    """Target: all instances of a module."""

    def target(db: Db) -> Target:
        row = systems.find_module(db, system, module)
        return Target(f"{row['system_name']}/{row['name']}", table.of_module(db, row["id"]), [row])

    return target


def system_of(system: str) -> Find:
    """Target: all instances of a system."""

    def target(db: Db) -> Target:
        row = systems.find(db, system)
        modules = system_table.modules_of(db, row["id"])
        return Target(row["name"], table.of_system(db, row["id"]), modules, is_system=True)

    return target
