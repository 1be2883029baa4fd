"""YAML as JSON text, so that the one reader of JSON (`kseg.records`) checks both."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from kseg.errors import require

# The core schema of YAML 1.2: `1e-3` is a number and `off` is a word, which PyYAML (1.1) has the other way.
_SCALARS = (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,30})", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


def to_json(text: bytes) -> bytes:
    """Return one YAML document as JSON.

    Raises:
        ValueError: in one line, if it is not YAML, or holds what JSON has not: aliases (a few lines of them
            unpack to gigabytes), a key twice, tags, infinite numbers.
        MissingExtraError: if PyYAML is not installed.
    """
    yaml = require("yaml", "train")
    try:
        values = yaml.load(text.decode("utf-8-sig"), _loader())
        return json.dumps(values, allow_nan=False).encode()
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{getattr(failure, 'problem', None) or 'unreadable'}{line}") from failure
    except TypeError as failure:
        raise ValueError(f"only text, numbers, lists and mappings are read ({failure})") from failure
    except RecursionError as failure:
        raise ValueError("it is nested too deep") from failure


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (filled below, for this class alone)

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
                problem = "aliases (*name) and tags (!name) are not read"
                raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    problem = f"key '{key.value}' is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), first)
    return Loader
