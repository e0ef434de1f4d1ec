"""Write the generated pages: docs/api.md, docs/configuration.md, and the state diagram in docs/architecture.md.

python docs/generate.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gdos.master import config as master_config  # noqa: E402
from gdos.master.api import access, adoptions, instances, meta, nodes, openapi, packages, systems, tasks, values  # noqa: E402
from gdos.model import metrics, states  # noqa: E402
from gdos.model.errors import all_errors  # noqa: E402
from gdos.settings import Setting  # noqa: E402
from gdos.worker import config as worker_config  # noqa: E402

MADE = "<!-- made by docs/generate.py; do not edit -->\n\n"


def api_page() -> str:
    apis = (access, nodes, packages, systems, instances, values, adoptions, tasks)
    parts = (meta.root, *(module.api for module in apis))
    routes = [route for part in parts for route in part.routes]
    routes += meta.describe(routes).routes
    document = openapi.describe(routes)
    lines = [MADE + "# The REST API", "", document["info"]["description"], ""]
    lines += ["A running master shows the same at `/api/docs` and, as OpenAPI 3.1, at `/api/v1/openapi.json`.", ""]
    lines += ["| method | path | who | what |", "|---|---|---|---|"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines.append(f"| {method.upper()} | `{path}` | {operation['x-access']} | {operation['summary']} |")
    lines += ["", "## Query parameters", "", "| route | parameters |", "|---|---|"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
            if names:
                lines.append(f"| {method.upper()} `{path}` | {', '.join(names)} |")
    lines += ["", "## Objects", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        fields = ", ".join(f"`{field}`" for field in schema.get("properties", {}))
        lines.append(f"- **{name}**: {fields}")
    lines += ["", "## Errors", "", "| code | status | exit code | title |", "|---|---|---|---|"]
    for code, kind in sorted(all_errors().items()):
        lines.append(f"| `{code}` | {kind.status} | {kind.exit_code} | {kind.title} |")
    return "\n".join(lines) + "\n"


def _settings(title: str, table: tuple[Setting, ...], prefix: str) -> list[str]:
    lines = [f"## {title}", "", "| key in the file | flag | environment | default | meaning |", "|---|---|---|---|---|"]
    for s in table:
        default = "" if s.default in ("", None, {}) else s.default
        lines.append(f"| `{s.key}` | `--{s.flag}` | `{s.env(prefix)}` | {default} | {s.text} |")
    return [*lines, ""]


def configuration_page() -> str:
    lines = [MADE + "# Settings", ""]
    lines += [
        "Flag before environment before file before default; `gdos config show master --origin` says which it was."
    ]
    lines += ["Files are YAML: `config.yaml` and `worker.yaml` in the current folder, or `--config FILE`.", ""]
    lines += _settings("Master", master_config.TABLE, master_config.PREFIX)
    lines += _settings("Worker", worker_config.TABLE, worker_config.PREFIX)
    lines += ["`GDOS_ADMIN_PASSWORD` sets the first admin password, `GDOS_JOIN_TOKEN` a worker's join token,", ""]
    lines[-1:] = ["`GDOS_MASTER` and `GDOS_TOKEN` the connection of the client commands.", ""]
    lines += ["## Metrics", "", "| series | unit | meaning |", "|---|---|---|"]
    for kind, columns in (("node", metrics.HOST), ("instance", metrics.INSTANCE)):
        lines += [f"| `gdos_{kind}_{c.name}` | {c.unit} | {c.text} |" for c in columns]
    return "\n".join(lines) + "\n"


def architecture_page() -> str:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = f"<!-- states -->\n```mermaid\n{states.mermaid()}\n```\n<!-- /states -->"
    return re.sub(r"<!-- states -->.*<!-- /states -->", lambda _: diagram, text, flags=re.DOTALL)


PAGES = {"api.md": api_page, "configuration.md": configuration_page, "architecture.md": architecture_page}


def main() -> int:
    """Write, or with --check only compare; returns the exit code."""
    old = []
    for name, make in PAGES.items():
        path = ROOT / "docs" / name
        text = make()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
    if old:
        print(f"out of date: {', '.join(old)}; run `make docs`")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
