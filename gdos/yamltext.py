"""YAML as people write it, read strictly: plain data only, and a key that stands there twice is an error."""

from __future__ import annotations

from typing import Any

from gdos.model.errors import BadConfig


def load(name: str, text: str) -> Any:
    """The data in `text`; `name` says where it is from. Raises BadConfig."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands there twice."""

    def mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = [k for k in keys if keys.count(k) > 1]
        if twice:
            raise BadConfig(f"{name}: the key {twice[0]} stands there twice (line {node.start_mark.line + 1})")
        return dict(loader.construct_mapping(node, deep=True))

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise BadConfig(f"{name}: not YAML: {' '.join(str(e).split())}") from e


def dump(data: Any) -> str:
    """The same data as YAML, keys in their order."""
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100))
