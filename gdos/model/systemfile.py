"""A whole business system as one file, checked with all problems at once. Format: docs/systems.md."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gdos.model import checking, manifest, order
from gdos.model.errors import BadInput, BadPackage, Problem, raise_if
from gdos.model.manifest import Manifest, Name
from gdos.model.order import Dependency
from gdos.model.placement import Placement
from gdos.model.rollout import Strategy
from gdos.model.values import NAME_PATTERN, VERSION_PATTERN

VarName = Annotated[str, Meta(pattern=r"^[^=\x00]+$", extra={"what": "a variable's name without ="})]
Text = Annotated[str, Meta(max_length=65536)]
_PACKAGE = re.compile(rf"{NAME_PATTERN[:-1]}:{VERSION_PATTERN[1:]}")


class Kept(msgspec.Struct, frozen=True):
    """In the place of a secret: it stays as it is on the master. What an export writes."""

    keep: bool = True


Secret = Text | Kept
PackageName = Annotated[str, Meta(extra={"what": 'a package such as "web:1.0.0"'}, pattern=_PACKAGE.pattern)]


class ModuleFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module. `package` or `external`; `nodes` are where it was adopted, or what placement may choose from."""

    package: PackageName | None = None
    external: dict[str, Any] | None = None
    nodes: list[Name] = []
    count: Annotated[int, Meta(ge=0, le=1000)] = 1
    run: bool = True
    depends_on: list[Name | Dependency] = []
    values: dict[VarName, Text] = {}
    secrets: dict[VarName, Secret] = {}
    placement: Placement = Placement()
    strategy: Strategy = Strategy()


class SystemFile(msgspec.Struct, frozen=True, omit_defaults=True):
    system: Name
    description: Annotated[str, Meta(max_length=10_000)] = ""
    values: dict[VarName, Text] = {}
    secrets: dict[VarName, Secret] = {}
    modules: dict[Name, ModuleFile] = {}


def check(file: SystemFile) -> None:
    """What the types alone cannot say. Raises BadInput with all problems, circles of dependencies by name."""
    problems: list[Problem] = []
    for name, module in file.modules.items():
        at = f"modules.{name}"
        if (module.package is None) == (module.external is None):
            problems.append(Problem(at, 'expected either package ("NAME:VERSION") or external, to adopt what runs'))
        if module.external is not None:
            problems += [
                Problem(f"{at}.external.{p.path}", p.message) for p in external_problems(name, module.external)
            ]
            if not module.nodes:
                problems.append(Problem(f"{at}.nodes", "is missing; an adopted service is where it is"))
        for i, dependency in enumerate(depends_of(module)):
            if dependency.module not in file.modules or dependency.module == name:
                said = f"there is no other module {dependency.module} in this file"
                problems.append(Problem(f"{at}.depends_on[{i}]", said))
        both = sorted(module.values.keys() & module.secrets.keys())
        problems += [Problem(f"{at}.secrets.{key}", "stands among the values too") for key in both]
    both = sorted(file.values.keys() & file.secrets.keys())
    problems += [Problem(f"secrets.{key}", "stands among the values too") for key in both]
    raise_if(problems, "the system file")
    waves(file)


def waves(file: SystemFile) -> list[list[str]]:
    """The modules in start order. Raises BadInput naming a circle."""
    return order.waves({name: [d.module for d in depends_of(m)] for name, m in file.modules.items()})


def depends_of(module: ModuleFile) -> list[Dependency]:
    """Dependencies, a plain name with the gate that it means."""
    return [Dependency(d) if isinstance(d, str) else d for d in module.depends_on]


def split_package(text: str) -> tuple[str, str]:
    """'web:1.0.0' -> both parts."""
    name, _, version = text.partition(":")
    return name, version


def external_of(name: str, raw: dict[str, Any]) -> Manifest:
    """The description of a service to adopt. Raises BadInput with all problems."""
    problems = external_problems(name, raw)
    raise_if(problems, "external", BadInput)
    return manifest.check(_whole(name, raw), "external").manifest


def external_problems(name: str, raw: dict[str, Any]) -> list[Problem]:
    """All that is wrong with it; unknown fields too, since nobody else wrote them."""
    known = {f.encode_name for f in msgspec.structs.fields(Manifest)}
    unknown = sorted(raw.keys() - known)
    found = [Problem(key, f"is not a known field; known are {', '.join(sorted(known))}") for key in unknown]
    try:
        manifest.check(_whole(name, raw), "external")
    except BadPackage as e:
        found += e.problems or [Problem("", e.detail)]
    return found


def _whole(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "0", **raw, "is_external": True}


def read(raw: Any, what: str = "the system file") -> SystemFile:
    """Plain data, as YAML or JSON gives it, as a checked file. Raises BadInput with all problems."""
    if not isinstance(raw, dict):
        raise BadInput(f"{what}: expected a map with system and modules, got {checking.show(raw)}")
    file = checking.load(SystemFile, _spelled(raw), what)
    check(file)
    return file


def _spelled(raw: dict[str, Any]) -> dict[str, Any]:
    """YAML reads `PORT: 8080` as a number and `1.0` as one too: values are text, as they were written."""
    tidy = {**raw, "values": _texts(raw.get("values")), "secrets": _texts(raw.get("secrets"))}
    modules = raw.get("modules")
    if isinstance(modules, dict):
        tidy["modules"] = {
            name: {
                **m,
                **({"values": _texts(m["values"])} if "values" in m else {}),
                **({"secrets": _texts(m["secrets"])} if "secrets" in m else {}),
            }
            if isinstance(m, dict)
            else m
            for name, m in modules.items()
        }
    return {k: v for k, v in tidy.items() if v is not None}


def _texts(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {k: _text(v) if isinstance(v, (bool, int, float)) else v for k, v in values.items()}


def _text(value: bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
