"""The metric columns as one table: what a sample holds, in which unit, and what is kept for days."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """`kind`: 'gauge' (a level; rolled up as the mean) or 'counter' (only grows; exported as such)."""

    name: str
    unit: str
    kind: str
    is_kept: bool  # in the 10 s and 1 min tiers too
    text: str


HOST = (
    Column("cpu", "ratio", "gauge", True, "CPU in use, all cores together"),
    Column("load1", "load", "gauge", False, "load average over 1 minute"),
    Column("memory", "ratio", "gauge", True, "memory in use"),
    Column("memory_used", "bytes", "gauge", False, "memory in use"),
    Column("memory_total", "bytes", "gauge", False, "memory installed"),
    Column("swap", "ratio", "gauge", False, "swap in use"),
    Column("disk", "ratio", "gauge", True, "space in use on the disk of the work folder"),
    Column("disk_free", "bytes", "gauge", False, "space free on the disk of the work folder"),
    Column("disk_read", "bytes/s", "gauge", True, "read from disks"),
    Column("disk_write", "bytes/s", "gauge", True, "written to disks"),
    Column("net_in", "bytes/s", "gauge", True, "received by network cards, loopback apart"),
    Column("net_out", "bytes/s", "gauge", True, "sent by network cards, loopback apart"),
    Column("processes", "count", "gauge", False, "processes on the node"),
)
INSTANCE = (
    Column("cpu", "cores", "gauge", True, "CPU in use by the whole tree, 1 = one core"),
    Column("rss", "bytes", "gauge", True, "resident memory of the whole tree"),
    Column("read", "bytes/s", "gauge", False, "read by the whole tree"),
    Column("write", "bytes/s", "gauge", False, "written by the whole tree"),
    Column("threads", "count", "gauge", False, "threads of the whole tree"),
    Column("fds", "count", "gauge", False, "open descriptors of the main process"),
    Column("processes", "count", "gauge", False, "processes in the tree"),
)


def named(columns: tuple[Column, ...], values: list[float]) -> dict[str, float]:
    """A sample as a map from name to value; a newer worker's extra columns are left out."""
    return {column.name: value for column, value in zip(columns, values, strict=False)}
