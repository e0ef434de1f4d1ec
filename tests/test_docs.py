"""What is documented is what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from gdos import __version__
from gdos.cli.main import COMMANDS
from gdos.model.manifest import Manifest
from gdos.wire.messages import MESSAGES

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_of_the_manifest_is_described() -> None:
    text = read("docs/service-json.md")
    assert [f.encode_name for f in msgspec.structs.fields(Manifest) if f"`{f.encode_name}`" not in text] == []


def test_every_message_is_described() -> None:
    text = read("docs/protocol.md")
    assert [kind.__name__ for kind in MESSAGES if kind.__name__ not in text and kind.__name__ != "ReportsAck"] == []


def test_every_link_of_the_readmes_leads_somewhere() -> None:
    for name in ("README.md", "README.zh-CN.md", "docs/architecture.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", read(name)):
            assert (ROOT / name).parent.joinpath(target).exists(), (name, target)


def test_every_command_of_the_readmes_exists() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        for command in re.findall(r"(?:^|[;&] )gdos ([a-z-]+)", read(name), re.MULTILINE):
            assert command in COMMANDS, command
        assert "make demo" in read(name)
        assert "make test" in read(name)


def test_every_command_has_an_example() -> None:
    for path in (ROOT / "gdos" / "cli").glob("*.py"):
        for doc in re.findall(r'@command\ndef \w+\(.*?\n    """(.*?)"""', path.read_text(), re.DOTALL):
            assert "Example: gdos " in doc, (path.name, doc.splitlines()[0])


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in read("CHANGELOG.md")
