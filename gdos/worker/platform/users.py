"""Running something as another user of the system: whether it is possible, and all that belongs to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if sys.platform == "win32":

    def problem(name: str) -> str:
        """Why nothing can be run as that user, or ''."""
        return f"user {name}: running as another user is not possible on Windows; leave user out" if name else ""

    def as_user(name: str) -> dict[str, Any]:
        """What subprocess needs. Raises OSError."""
        if name:
            raise OSError(problem(name))
        return {}

    def environment(name: str) -> dict[str, str]:
        """The variables that a user's own session would have."""
        return {}

    def own(folder: Path, name: str) -> None:
        """Make a folder, with all that is in it, a user's own. Raises OSError."""

else:
    import pwd

    def problem(name: str) -> str:
        """Why nothing can be run as that user, or ''."""
        if not name:
            return ""
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            return f"user {name}: this node has no such user"
        if os.geteuid() not in (0, uid):
            return f"user {name}: this worker may not switch users; run it as root, or leave user out"
        return ""

    def as_user(name: str) -> dict[str, Any]:
        """What subprocess needs: the user's own groups and none of ours. Raises OSError."""
        if not name:
            return {}
        if problem(name):
            raise OSError(problem(name))
        entry = pwd.getpwnam(name)
        if entry.pw_uid == os.geteuid():
            return {}
        groups = os.getgrouplist(name, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}

    def environment(name: str) -> dict[str, str]:
        """The variables that a user's own session would have."""
        return {"HOME": pwd.getpwnam(name).pw_dir, "USER": name, "LOGNAME": name} if name else {}

    def own(folder: Path, name: str) -> None:
        """Make a folder, with all that is in it, a user's own. Raises OSError."""
        entry = pwd.getpwnam(name)
        if folder.stat().st_uid == entry.pw_uid:
            return
        for root, folders, files in os.walk(folder):
            for path in [*folders, *files]:
                os.lchown(os.path.join(root, path), entry.pw_uid, entry.pw_gid)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
