"""Prometheus exposition of the master: its own state, and the newest sample of every node and instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from gdos import __version__
from gdos.master.services.context import Context
from gdos.master.store import instances, nodes, packages, tasks
from gdos.model.metrics import HOST, INSTANCE, Column


class Collector:
    """One pass over the database and the rings for each scrape. `own` gives figures of the process itself."""

    def __init__(self, ctx: Context, own: Callable[[], dict[str, float]]) -> None:
        self._ctx = ctx
        self._own = own

    def collect(self) -> Iterator[Metric]:
        db = self._ctx.store.read()
        info = GaugeMetricFamily("gdos_build_info", "1, with the version as a label", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for name, value in self._own().items():
            yield GaugeMetricFamily(f"gdos_master_{name}", name.replace("_", " "), value=value)
        yield _by_state("gdos_nodes", "nodes by state", nodes.counts(db))
        states = {r["state"]: r["n"] for r in instances.counts(db)}
        yield _by_state("gdos_instances", "instances by state", states)
        yield _by_state("gdos_tasks", "tasks by state", tasks.counts(db))
        count, size = packages.totals(db)
        yield GaugeMetricFamily("gdos_packages", "package versions", value=count)
        yield GaugeMetricFamily("gdos_package_bytes", "bytes of all packages", value=size)
        yield from self._node_metrics()
        yield from self._instance_metrics()

    def _node_metrics(self) -> Iterator[Metric]:
        db = self._ctx.store.read()
        rows = [(i, n) for i, n in nodes.states(db).items() if n == "online"]
        names = {r["id"]: r["name"] for r in nodes.placed(db)}
        families = _families("gdos_node", HOST, ["node"])
        for id_, _ in rows:
            for name, value in (self._ctx.live.node_metrics(id_) or {}).items():
                families[name].add_metric([names[id_]], value)
        yield from families.values()

    def _instance_metrics(self) -> Iterator[Metric]:
        families = _families("gdos_instance", INSTANCE, ["instance", "system", "module", "node"])
        for r in instances.everything(self._ctx.store.read()):
            if r["node_state"] != "online" or not r["pid"]:
                continue
            labels = [r["name"], r["system_name"], r["module_name"], r["node_name"]]
            for name, value in (self._ctx.live.instance_metrics(r["id"]) or {}).items():
                families[name].add_metric(labels, value)
        yield from families.values()


def _families(prefix: str, columns: tuple[Column, ...], labels: list[str]) -> dict[str, GaugeMetricFamily]:
    return {c.name: GaugeMetricFamily(f"{prefix}_{c.name}", f"{c.text} ({c.unit})", labels=labels) for c in columns}


def _by_state(name: str, text: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in counts.items():
        family.add_metric([state], count)
    return family


def exposition(ctx: Context, own: Callable[[], dict[str, float]]) -> Callable[[], bytes]:
    """A function that gives the text of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(ctx, own))
    return lambda: generate_latest(registry)
