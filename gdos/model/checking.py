"""Check plain data against msgspec types and collect ALL problems, each with its path.

msgspec itself stops at the first problem and writes map keys as `[...]`; people who fix a file want the whole list.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as mi

from gdos.model.errors import BadInput, GdosError, Problem, raise_if

T = TypeVar("T")
_INT_MAX = 2**63 - 1


def load(kind: type[T], value: Any, what: str, error: type[GdosError] = BadInput) -> T:
    """`value` as a `kind`. Raises `error` that lists every problem at once; unknown fields are problems too."""
    raise_if(problems_of(kind, value), what, error)
    return msgspec.convert(value, kind)


def problems_of(kind: Any, value: Any, path: str = "", *, allow_unknown: bool = False) -> list[Problem]:
    """Everything that keeps `value` from being a `kind`; an empty list means that msgspec.convert succeeds."""
    found: list[Problem] = []
    _walk(_type_info(kind), value, path, found, allow_unknown)
    return found


@lru_cache(maxsize=256)
def _type_info(kind: Any) -> mi.Type:
    """Taking a type apart costs milliseconds; there are as many as the program has."""
    return mi.type_info(kind)


def show(value: Any) -> str:
    """A value as it may stand in an error: JSON, cut to what a line can hold."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _walk(info: mi.Type, value: Any, path: str, found: list[Problem], loose: bool, unit: str = "") -> None:
    if isinstance(info, mi.Metadata):
        extra = info.extra or {}
        unit = str(extra.get("unit", unit))
        if "what" in extra and not _fits(info.type, value):
            found.append(Problem(path, f"expected {extra['what']}, got {show(value)}"))
            return
        _walk(info.type, value, path, found, loose, unit)
    elif isinstance(info, mi.UnionType):
        _walk_union(info, value, path, found, loose, unit)
    elif isinstance(info, mi.StructType) and isinstance(value, dict):
        _walk_struct(info, value, path, found, loose)
    elif isinstance(info, mi.ListType) and isinstance(value, list):
        for i, item in enumerate(value):
            _walk(info.item_type, item, f"{path}[{i}]", found, loose)
        if info.max_length is not None and len(value) > info.max_length:
            found.append(Problem(path, f"expected at most {info.max_length} entries, got {len(value)}"))
    elif isinstance(info, mi.DictType) and isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else str(key)
            if not _fits(info.key_type, key):
                found.append(Problem(here, f"expected as a key {describe(info.key_type)}, got {show(key)}"))
            _walk(info.value_type, item, here, found, loose)
    elif not _fits(info, value):
        found.append(Problem(path, f"expected {describe(info, unit)}, got {show(value)}"))


def _walk_struct(info: mi.StructType, value: dict[str, Any], path: str, found: list[Problem], loose: bool) -> None:
    fields = {field.encode_name: field for field in info.fields}
    for name, field in fields.items():
        here = f"{path}.{name}" if path else name
        if name in value:
            _walk(field.type, value[name], here, found, loose)
        elif field.required:
            found.append(Problem(here, f"is missing; expected {describe(field.type)}"))
    if not loose:
        for name in value.keys() - fields.keys():
            here = f"{path}.{name}" if path else name
            found.append(Problem(here, f"is not a known field; known are {', '.join(sorted(fields))}"))


def _walk_union(info: mi.UnionType, value: Any, path: str, found: list[Problem], loose: bool, unit: str) -> None:
    """The branch that fits; otherwise the problems of the only branch of the value's own shape, or one for all."""
    tries: list[list[Problem]] = []
    for branch in info.types:
        tries.append([])
        _walk(branch, value, path, tries[-1], loose, unit)
        if not tries[-1]:
            return
    deep = [t for t in tries if any(p.path != path for p in t)]
    if len(deep) == 1:
        found.extend(deep[0])
    else:
        found.append(Problem(path, f"expected {describe(info, unit)}, got {show(value)}"))


def _fits(info: mi.Type, value: Any) -> bool:
    if isinstance(info, mi.Metadata):
        return _fits(info.type, value)
    if isinstance(info, mi.StrType):
        long_enough = info.min_length is None or (isinstance(value, str) and len(value) >= info.min_length)
        short_enough = info.max_length is None or (isinstance(value, str) and len(value) <= info.max_length)
        like = info.pattern is None or (isinstance(value, str) and re.search(info.pattern, value) is not None)
        return isinstance(value, str) and long_enough and short_enough and like
    if isinstance(info, mi.BoolType):
        return isinstance(value, bool)
    if isinstance(info, mi.IntType):
        return isinstance(value, int) and not isinstance(value, bool) and _within(info, value)
    if isinstance(info, mi.FloatType):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value) and _within(info, value)
    if isinstance(info, mi.NoneType):
        return value is None
    if isinstance(info, mi.LiteralType):
        return value in info.values
    if isinstance(info, mi.EnumType):
        return value in [member.value for member in info.cls]
    return isinstance(info, mi.AnyType)


def _within(info: mi.IntType | mi.FloatType, value: float) -> bool:
    low = info.ge is None or value >= info.ge
    high = info.le is None or value <= info.le
    above = info.gt is None or value > info.gt
    below = info.lt is None or value < info.lt
    return low and high and above and below and abs(value) <= _INT_MAX


def describe(info: mi.Type, unit: str = "") -> str:
    """What is allowed, in words: 'an integer number of seconds from 1 to 3600'."""
    if isinstance(info, mi.Metadata):
        extra = info.extra or {}
        return str(extra["what"]) if "what" in extra else describe(info.type, str(extra.get("unit", unit)))
    if isinstance(info, mi.UnionType):
        return " or ".join(describe(t, unit) for t in info.types if not isinstance(t, mi.NoneType))
    if isinstance(info, (mi.IntType, mi.FloatType)):
        word = "an integer" if isinstance(info, mi.IntType) else "a number"
        return f"{word}{f' number of {unit}' if unit else ''}{_bounds(info)}"
    if isinstance(info, mi.StrType):
        if info.pattern is not None:
            return f"a string like {info.pattern}"
        return "a non-empty string" if info.min_length else "a string"
    if isinstance(info, (mi.LiteralType, mi.EnumType)):
        values = info.values if isinstance(info, mi.LiteralType) else tuple(m.value for m in info.cls)
        return "one of " + ", ".join(json.dumps(v) for v in values)
    words: dict[type[mi.Type], str] = {
        mi.BoolType: "true or false",
        mi.DictType: "a map",
        mi.StructType: "a map",
        mi.NoneType: "null",
    }
    if isinstance(info, mi.ListType):
        return f"a list, each entry {describe(info.item_type)}"
    return words.get(type(info), "a value")


def _bounds(info: mi.IntType | mi.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge} to {info.le}"
    if info.ge is not None:
        return f" of at least {info.ge}"
    return f" of at most {info.le}" if info.le is not None else ""
