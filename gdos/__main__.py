"""`python -m gdos` and the archive's entry. Called as `master`, `worker` or `pack-tool` it is that program."""

from __future__ import annotations

import os
import sys

from gdos import __version__


def main() -> int:
    """Run the command line; returns the exit code."""
    program = os.path.basename(sys.argv[0]).removesuffix(".exe").removesuffix(".pyz")
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["version"]) and program not in ("master", "worker", "pack-tool"):
        sys.stdout.write(f"gdos {__version__}\n")
        return 0
    from gdos.cli.main import run

    return run(program, arguments)


if __name__ == "__main__":
    sys.exit(main())
