"""The import rule, the homes of the dependencies, and the size of files, read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gdos"
FILES = sorted(PACKAGE.rglob("*.py"))
SHARED = {
    "gdos",
    "gdos.settings",
    "gdos.logs",
    "gdos.diskio",
    "gdos.filelock",
    "gdos.localjoin",
    "gdos.console",
    "gdos.yamltext",
}

# What each part may import of the program, beside itself and what is shared by all.
MAY_IMPORT = {
    "gdos.model": set(),
    "gdos.wire": {"gdos.model"},
    "gdos.pack": {"gdos.model"},
    "gdos.master.store": {"gdos.model"},
    "gdos.master.blobs": {"gdos.model"},
    "gdos.master.services": {"gdos.model", "gdos.pack", "gdos.wire", "gdos.master.store", "gdos.master.blobs"},
    "gdos.master.api": {"gdos.model", "gdos.wire", "gdos.master.services", "gdos.master.store.db"},
    "gdos.worker.platform": {"gdos.model"},
    "gdos.worker.drivers": {"gdos.model", "gdos.worker.platform"},
    "gdos.worker.sampling": {"gdos.model"},
    "gdos.worker.livelog": set(),
    "gdos.worker.probes": {"gdos.model", "gdos.worker.executor.launch", "gdos.worker.livelog", "gdos.worker.platform"},
    "gdos.worker.executor": {"gdos.model", "gdos.pack", "gdos.wire.messages", "gdos.worker"},
    "gdos.worker.link": {"gdos.model", "gdos.wire", "gdos.worker.journal"},
    "gdos.worker": {"gdos.model", "gdos.wire", "gdos.pack"},
    "gdos.master": {"gdos.model", "gdos.wire", "gdos.pack"},
    "gdos.cli": {
        "gdos.model", "gdos.pack",
        "gdos.master.config", "gdos.master.app", "gdos.worker.config", "gdos.worker.slim",
    },
}  # fmt: skip
# Modules outside a part's own folder that it may not touch, whatever the table above says.
NEVER = {
    "gdos.worker.executor": {"gdos.worker.link", "gdos.worker.agent", "gdos.worker.app"},
    "gdos.master.services": {"gdos.master.hub", "gdos.master.rings", "gdos.master.sockets"},
}
HOMES = {
    "bottle": {"gdos.master.api.border"},
    "sqlite3": {"gdos.master.store"},
    "uvicorn": {"gdos.master.listener"},
    "websockets": {"gdos.master.sockets"},
    "websocket": {"gdos.worker.link"},
    "psutil": {"gdos.worker", "gdos.cli.demo"},
    "subprocess": {
        "gdos.worker.drivers", "gdos.worker.platform", "gdos.worker.probes", "gdos.worker.executor.hooks",
        "gdos.cli.demo",
    },
    "typer": {"gdos.cli"},
    "rich": {"gdos.cli"},
    "prometheus_client": {"gdos.master.exposition"},
    "argon2": {"gdos.master.services.access"},
    "yaml": {"gdos.yamltext"},
    "minio": {"gdos.master.blobs.s3"},
    "cronsim": {"gdos.model.cron"},
    "Crypto": {"gdos.master.services.vault"},
}  # fmt: skip
IMPURE = {"socket", "subprocess", "sqlite3", "threading", "asyncio", "time", "random", "os", "pathlib", "logging"}
LINES_MAX = 500
FUNCTION_MAX = 60


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every import, inside functions too; `from a import b` as 'a.b' where b is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                yield full if is_module or (ROOT / Path(*full.split("."))).is_dir() else node.module


def part_of(module: str, parts: dict[str, set[str]]) -> str | None:
    """The most particular part that a module belongs to."""
    fitting = [p for p in parts if module == p or module.startswith(p + ".")]
    return max(fitting, key=len, default=None)


def below(module: str, roots: set[str]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


def violations(path: Path) -> list[str]:
    module = module_of(path)
    part = part_of(module, MAY_IMPORT)
    found = []
    for name in imports_of(path):
        if not name.startswith("gdos") or part is None or name in SHARED:
            continue
        allowed = below(name, {part, *MAY_IMPORT[part]})
        if not allowed or below(name, NEVER.get(part, set())):
            found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_downwards(path: Path) -> None:
    assert violations(path) == []


def test_master_and_worker_never_meet() -> None:
    for path in FILES:
        module = module_of(path)
        for mine, other in (("gdos.master", "gdos.worker"), ("gdos.worker", "gdos.master")):
            if below(module, {mine}):
                assert not [n for n in imports_of(path) if below(n, {other})], module


def test_the_rule_catches_a_planted_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "gdos" / "model" / "bad.py"
    planted.parent.mkdir(parents=True)
    planted.write_text("def f():\n    from gdos.worker import agent\n    return agent\n")
    monkeypatch.setattr("tests.test_architecture.ROOT", tmp_path)
    assert violations(planted) == ["gdos.model.bad imports gdos.worker"]


@pytest.mark.parametrize("path", [p for p in FILES if "model" in p.parts], ids=module_of)
def test_the_model_is_pure(path: Path) -> None:
    assert not {n.split(".")[0] for n in imports_of(path)} & IMPURE


@pytest.mark.parametrize("path", [p for p in FILES if "wire" in p.parts], ids=module_of)
def test_the_protocol_does_no_io(path: Path) -> None:
    used = {n.split(".")[0] for n in imports_of(path)}
    assert not used & {"socket", "asyncio", "threading", "time", "bottle", "websocket", "websockets"}


def test_every_dependency_has_one_home() -> None:
    for path in FILES:
        module = module_of(path)
        for name in imports_of(path):
            homes = HOMES.get(name.split(".")[0])
            assert homes is None or below(module, homes), f"{module} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno
            assert length <= FUNCTION_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_state_words_stand_in_the_model_only() -> None:
    """No comparison with a state's name outside of it, the command line's colours and filters apart."""
    from gdos.model.states import State

    words = {s.value for s in State} - {"running", "failed", "stopped", "completed", "pending"}
    for path in FILES:
        if below(module_of(path), {"gdos.model", "gdos.cli"}):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                used = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
                assert not words & set(used), f"{module_of(path)}:{node.lineno}"
