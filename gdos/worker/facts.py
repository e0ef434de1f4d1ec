"""The node's fingerprint: what the machine is. Taken once at a start; each part that cannot be had is left out."""

from __future__ import annotations

import os
import platform as host
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from gdos.worker.executor.launch import OS

_ARCH = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}


def collect(work_dir: Path) -> dict[str, Any]:
    """Facts by name; sizes in bytes."""
    parts: dict[str, Callable[[], Any]] = {
        "hostname": socket.gethostname,
        "os": lambda: OS,
        "os_name": _os_name,
        "kernel": host.release,
        "arch": lambda: _ARCH.get(host.machine(), host.machine().lower()),
        "cpu": _cpu,
        "memory": lambda: psutil.virtual_memory().total,
        "swap": lambda: psutil.swap_memory().total,
        "disks": _disks,
        "work_disk": lambda: {"path": str(work_dir), "total": psutil.disk_usage(str(work_dir)).total},
        "nics": _nics,
        "virtualization": _virtualization,
        "boot_time": lambda: int(psutil.boot_time() * 1000),
        "machine_id": machine_id,
        "python": lambda: host.python_version(),
        "user": lambda: psutil.Process().username(),
        "cgroup": _cgroup,
    }
    found = {}
    for name, take in parts.items():
        try:
            value = take()
        except (OSError, psutil.Error, ValueError, NotImplementedError):
            continue  # the page shows what there is
        if value not in (None, "", []):
            found[name] = value
    return found


def machine_id() -> str:
    """Of the operating system's installation, where it has one."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text:
            return text
    return f"{socket.gethostname()}"


def _os_name() -> str:
    if sys.platform == "linux":
        return host.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return host.platform(terse=True)


def _cpu() -> dict[str, Any]:
    model = host.processor()
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    return {"model": model, "cores": psutil.cpu_count(logical=True), "physical": psutil.cpu_count(logical=False)}


def _disks() -> list[dict[str, Any]]:
    found = []
    for part in psutil.disk_partitions(all=False):
        try:
            total = psutil.disk_usage(part.mountpoint).total
        except OSError:
            continue
        found.append({"mount": part.mountpoint, "device": part.device, "kind": part.fstype, "total": total})
    return found


def _nics() -> list[dict[str, Any]]:
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        ips = [a.address.partition("%")[0] for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)]
        macs = [a.address.lower() for a in addresses if a.family == psutil.AF_LINK]
        found.append({"name": name, "mac": macs[0] if macs else "", "addresses": ips})
    return found


def address() -> str:
    """This node's own address towards the world: of the first interface that is not the loopback."""
    for nic in _nics():
        for ip in nic["addresses"]:
            if ":" not in ip and not ip.startswith(("127.", "169.254.")):
                return str(ip)
    return "127.0.0.1"


def _virtualization() -> str:
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return "container"
    for path in ("/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        for word in ("QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Microsoft", "Amazon", "Google", "Firecracker"):
            if word.lower() in text.lower():
                return word.lower()
    return ""


def _cgroup() -> str:
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2"
    return "v1" if os.path.isdir("/sys/fs/cgroup") else ""
