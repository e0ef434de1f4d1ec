"""What Linux and macOS share."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from gdos.model.values import Exit, Identity
from gdos.worker.platform import users
from gdos.worker.platform.base import Command

if sys.platform != "win32":

    def spawn(command: Command) -> subprocess.Popen[bytes]:
        """In a session of its own, with the log file itself as stdout and stderr."""
        fd = os.open(command.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            return subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
                **users.as_user(command.user),
            )
        finally:
            os.close(fd)

    def signal_of(name: str) -> int:
        """'TERM' or 'SIGTERM' -> its number. Raises ValueError."""
        number = getattr(signal, "SIG" + name.removeprefix("SIG"), None)
        if number is None:
            raise ValueError(f"{name} is not a signal of this system")
        return int(number)

    def signal_group(root: Identity, name: str, is_alive: bool) -> None:
        """To the whole group, while its leader is ours; to nobody otherwise."""
        number = signal_of(name)
        if is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(root.pid, number)

    def exit_of(code: int) -> Exit:
        """Popen gives a negative number for a signal."""
        return Exit(signal=-code) if code < 0 else Exit(code=code)
