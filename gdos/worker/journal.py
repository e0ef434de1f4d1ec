"""Reports that the master has not acknowledged yet: numbered, on the disk, sent again until they are.

Owner thread writes, link threads read; one lock. A full disk keeps them in memory, said once.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from pathlib import Path

import msgspec

from gdos.diskio import write_atomic
from gdos.wire.messages import Report

log = logging.getLogger(__name__)
_COMPACT_AT = 1 << 20
_WAITING_MAX = 10_000


class Journal:
    """`epoch` names this numbering: a lost file begins another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._waiting: list[Report] = []
        self._size = 0
        self._fd = -1
        self._is_failing = False
        self.epoch = ""
        self.seq = 0
        self._load()

    def add(self, report: Report) -> None:
        """Give the next number and keep it until it is acknowledged."""
        with self._lock:
            self.seq += 1
            numbered = msgspec.structs.replace(report, seq=self.seq)
            self._waiting.append(numbered)
            if len(self._waiting) > _WAITING_MAX:
                self._thin()
            self._append(msgspec.json.encode(numbered) + b"\n")

    def acknowledge(self, seq: int) -> None:
        """Stored by the master up to here."""
        with self._lock:
            self._waiting = [r for r in self._waiting if r.seq > seq]
            if self._size > _COMPACT_AT or (not self._waiting and self._size > 4096) or self._is_failing:
                self._rewrite()

    def waiting(self) -> list[Report]:
        """In order."""
        with self._lock:
            return list(self._waiting)

    def _thin(self) -> None:
        """A master that is away for very long gets the newest state of each instance, not every step."""
        newest = {r.instance: r.seq for r in self._waiting}
        keep = set(newest.values())
        half = len(self._waiting) // 2
        self._waiting = [r for i, r in enumerate(self._waiting) if i >= half or r.seq in keep]
        self._rewrite()

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines()
            head = json.loads(lines[0])
            self.epoch, self.seq = str(head["epoch"]), int(head["seq"])
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            self.epoch, lines = secrets.token_hex(8), []
        for line in lines[1:]:
            try:
                report = msgspec.json.decode(line, type=Report)
            except msgspec.DecodeError:
                continue  # a line cut short by a crash; its state is in instance.json
            self._waiting.append(report)
            self.seq = max(self.seq, report.seq)
        self._rewrite()

    def _rewrite(self) -> None:
        head = json.dumps({"epoch": self.epoch, "seq": self.seq}).encode() + b"\n"
        data = head + b"".join(msgspec.json.encode(r) + b"\n" for r in self._waiting)
        try:
            self._close()
            write_atomic(self._path, data, mode=0o600, is_durable=False)
            self._size = len(data)
            self._is_failing = False
        except OSError as e:
            self._fail(e)

    def _append(self, line: bytes) -> None:
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._fd, line)
            self._size += len(line)
        except OSError as e:
            self._fail(e)

    def close(self) -> None:
        """Nothing more is added."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fail(self, error: OSError) -> None:
        if not self._is_failing:
            log.error("reports cannot be written to %s (%s): kept in memory", self._path, error.strerror)
        self._is_failing = True
