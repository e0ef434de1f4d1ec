"""Build dist/gdos: one executable file with everything inside, the same bytes for the same input.

    python build_zipapp.py [--output dist/gdos] [--platform linux-x86_64] [--python 3.11]

Stages the hash-locked requirements for the target with uv, adds the package, the console and the examples, removes
what is not used, and lets shiv write the archive, with our own small __main__ in front of shiv's: it finds a sane
cache folder, starts in half the time, and says which file is right when started by the wrong Python.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from shiv import builder
from shiv.bootstrap.environment import Environment

ROOT = Path(__file__).resolve().parent
PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "windows-amd64": "x86_64-pc-windows-msvc",
    "darwin-arm64": "aarch64-apple-darwin",
}
TIME = (2020, 1, 1, 0, 0, 0)
UNUSED_FOLDERS = (
    "bin",
    "pycparser",  # cffi needs it to compile, not to run
    "prometheus_client/twisted",
    "psutil/tests",
    "Crypto/SelfTest",
    "click/testing.py",
    "websockets/legacy",
    "websockets/asyncio",
    "websockets/sync",
    "websockets/trio",
    "websocket/tests",
    "cffi/recompiler.py",
)
UNUSED_ENDINGS = (".c", ".h", ".pyx", ".pxd", ".pyi", ".cpp", ".so.debug")
PYGMENTS_KEPT = {"__init__.py", "_mapping.py", "default.py"}  # rich imports them for its help pages
USELESS_METADATA = {"RECORD", "direct_url.json", "REQUESTED", "INSTALLER", "uv_cache.json"}

MAIN = """# {module}.{fn}
import os, sys
_TARGET, _PYTHON, _BUILD = "@TARGET@", (@PYTHON@), "@BUILD@"
def _here():
    if os.name == "nt":
        return "windows-" + os.environ.get("PROCESSOR_ARCHITECTURE", "").lower()
    return sys.platform + "-" + os.uname().machine
if sys.version_info[:2] != _PYTHON or _here() != _TARGET:
    sys.exit("gdos: this file is for Python %d.%d on %s, and was started by Python %d.%d on %s: take gdos for cp%d%d-%s"
        % (*_PYTHON, _TARGET, *sys.version_info[:2], _here(), *sys.version_info[:2], _here()))
def _root():
    e = os.environ
    for name in ("SHIV_ROOT", "CACHE_DIRECTORY"):
        if e.get(name):
            return e[name].split(":")[0] if os.name != "nt" else e[name]
    if e.get("XDG_CACHE_HOME"):
        return os.path.join(e["XDG_CACHE_HOME"], "gdos")
    home = os.path.expanduser("~")
    if home not in ("~", "/", "") and os.access(home, os.W_OK):
        return os.path.join(home, ".cache", "gdos")
    sys.exit("gdos: there is no home folder to unpack into: set SHIV_ROOT to a folder that only you can write")
_root = _root()
_name = os.path.basename(os.path.realpath(sys.argv[0])) + "_" + _BUILD
_site = os.path.join(_root, _name, "site-packages")
def _unpack():
    try:
        os.makedirs(_root, mode=0o700, exist_ok=True)
        if os.name != "nt" and (os.stat(_root).st_uid != os.getuid() or os.stat(_root).st_mode & 0o022):
            sys.exit("gdos: the cache folder " + _root + " must be owned and writable by you alone; or set SHIV_ROOT")
        os.environ["SHIV_ROOT"] = _root
        import zipfile
        from pathlib import Path
        from _bootstrap import extract_site_packages
        with zipfile.ZipFile(sys.argv[0]) as archive:
            extract_site_packages(archive, Path(_root) / _name, False, 1, False)
        from _gdos_cache import prune
        prune(_root, _name)
    except OSError as error:
        why = str(error.strerror or error)
        sys.exit("gdos: cannot unpack into " + _root + " (" + why + "): make room, or set SHIV_ROOT")
if not os.path.isdir(_site):
    _unpack()
sys.path.insert(1, _site)
if os.name != "nt":
    import fcntl
    _use = os.open(os.path.join(_root, _name), os.O_RDONLY)
    os.set_inheritable(_use, True)  # held as long as this process, or what it becomes, runs from there
    try:
        fcntl.flock(_use, fcntl.LOCK_SH)
    except OSError:
        os.close(_use)  # a file system without locks: then nothing is pruned there either
os.environ.pop("SHIV_ROOT", None) if os.environ.get("SHIV_ROOT") == _root else None
from gdos.__main__ import main
sys.exit(main())
"""

CACHE = '''"""Old extractions of this program: removed when nobody runs from them any more."""
import os, shutil
def prune(root, keep):
    """Keep the newest other one too: an upgrade may have to go back to it."""
    if os.name == "nt":
        return
    import fcntl
    others = [n for n in os.listdir(root) if "_" in n and n != keep and n[0] != "." and not n.endswith(".tmp")]
    others = [n for n in others if os.path.isdir(os.path.join(root, n, "site-packages"))]
    others.sort(key=lambda n: os.stat(os.path.join(root, n)).st_mtime)
    for name in others[:-1]:
        path = os.path.join(root, name)
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
'''


def main() -> int:
    """Build; returns the exit code."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--output", type=Path, default=ROOT / "dist" / "gdos")
    options.add_argument("--platform", choices=sorted(PLATFORMS), default=_this_platform())
    options.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="gdos-build-") as folder:
        site = Path(folder) / "site-packages"
        _install(site, asked.platform, asked.python)
        _add_own(site)
        _prune(site)
        size = _write(site, asked.output, asked.platform, asked.python)
    digest = hashlib.sha256(asked.output.read_bytes()).hexdigest()
    print(f"{asked.output}: {size / 1e6:.2f} MB, Python {asked.python}, {asked.platform}, SHA-256 {digest[:16]}")
    return 0


def _this_platform() -> str:
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def _install(site: Path, target: str, python: str) -> None:
    uv = shutil.which("uv", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
    requirements = ROOT / "requirements" / "runtime.txt"
    command = [uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    command += ["--target", str(site), "--python-version", python, "--link-mode", "copy", "-r", str(requirements)]
    command += ["--python", sys.executable]
    if target != _this_platform() or target.startswith("linux"):
        command += ["--python-platform", PLATFORMS[target]]
    subprocess.run(command, check=True)


def _add_own(site: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "gdos", site / "gdos", ignore=ignore)
    for name in ("web_dist", "examples"):
        shutil.copytree(ROOT / name, site / "gdos" / "_baked" / name, ignore=ignore)


def _prune(site: Path) -> None:
    for name in UNUSED_FOLDERS:
        path = site / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for part in ("lexers", "styles", "formatters"):
        for path in (site / "pygments" / part).glob("*.py"):
            if path.name not in PYGMENTS_KEPT:
                path.unlink()
    for path in sorted(site.rglob("*")):
        baked = "_baked" in path.parts
        if path.is_file() and not baked and (path.suffix in UNUSED_ENDINGS or path.name in USELESS_METADATA):
            path.unlink()
        elif path.name == "__pycache__":
            shutil.rmtree(path)
    for path in site.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _write(site: Path, output: Path, target: str, python: str) -> int:
    digest = hashlib.sha256()
    for path in sorted(site.rglob("*"), key=str):
        if path.is_file():
            digest.update(f"{path.relative_to(site)}\0".encode())
            digest.update(path.read_bytes())
    digest.update((MAIN + CACHE + target + python).encode())
    build = digest.hexdigest()[:16]
    numbers = ", ".join(python.split("."))
    text = MAIN.replace("@TARGET@", target).replace("@PYTHON@", numbers).replace("@BUILD@", build)
    builder.MAIN_TEMPLATE = text
    env = Environment(
        "2020-01-01 00:00:00", "1.0.8", build_id=build, entry_point="gdos.__main__:main", reproducible=True
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    builder.create_archive([site], part, "/usr/bin/env python3", "_bootstrap:bootstrap", env, compressed=True)
    with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "_gdos_cache.py", CACHE.encode())
        if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
            _compile(site)
            for path in sorted(site.rglob("*.pyc"), key=str):
                _put(archive, f"site-packages/{path.relative_to(site).as_posix()}", path.read_bytes())
    os.replace(part, output)
    return output.stat().st_size


def _compile(site: Path) -> None:
    """Bytecode inside: the first start need not compile. Unchecked, since the folder is ours alone."""
    compileall.compile_dir(
        str(site),
        quiet=2,
        workers=1,
        stripdir=str(site.parent),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    archive.writestr(info, data)


if __name__ == "__main__":
    sys.exit(main())
