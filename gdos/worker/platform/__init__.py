"""What the operating system knows of processes, behind one face; the module of this platform is chosen once.

Errors of the system are translated here: a process that is gone is an answer, never an exception.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from gdos.worker.platform.linux import System
elif sys.platform == "darwin":
    from gdos.worker.platform.darwin import System
else:
    from gdos.worker.platform.windows import System

__all__ = ["System"]
