"""One sample of the node, by psutil. Rates come from the difference to the last sample."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil


class HostSampler:
    """Values in the order of model.metrics.HOST. One thread."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = str(work_dir)
        self._at = time.monotonic()
        self._counters = self._read_counters()
        psutil.cpu_percent()

    def sample(self) -> list[float]:
        """The node since the last call."""
        now = time.monotonic()
        span = max(now - self._at, 0.001)
        counters = self._read_counters()
        rates = [max(new - old, 0) / span for new, old in zip(counters, self._counters, strict=True)]
        self._at, self._counters = now, counters
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory() if os.name == "nt" else None
        disk = psutil.disk_usage(self._work_dir)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        used = memory.total - memory.available
        return [
            round(psutil.cpu_percent() / 100, 4),
            round(load, 2),
            round(used / memory.total, 4) if memory.total else 0.0,
            used,
            memory.total,
            swap.percent / 100 if swap else _linux_swap(),
            round((disk.total - disk.free) / disk.total, 4) if disk.total else 0.0,
            disk.free,
            *(round(rate, 1) for rate in rates),
            _process_count(),
        ]

    @staticmethod
    def _read_counters() -> list[int]:
        io = psutil.disk_io_counters()
        nics = psutil.net_io_counters(pernic=True)
        real = [c for name, c in nics.items() if not name.lower().startswith(("lo", "veth", "docker", "br-"))]
        disk = [io.read_bytes, io.write_bytes] if io else [0, 0]
        return [*disk, sum(c.bytes_recv for c in real), sum(c.bytes_sent for c in real)]


def _linux_swap() -> float:
    """psutil reads three files for this; one of them is enough."""
    try:
        with open("/proc/meminfo", "rb", buffering=0) as file:
            lines = file.read(8192).splitlines()
    except OSError:
        return 0.0
    values = {line.split(b":")[0]: int(line.split()[1]) for line in lines if line.startswith(b"Swap")}
    total = values.get(b"SwapTotal", 0)
    return round(1 - values.get(b"SwapFree", 0) / total, 4) if total else 0.0


def _process_count() -> int:
    try:
        return sum(name.isdigit() for name in os.listdir("/proc"))
    except OSError:
        return len(psutil.pids())
