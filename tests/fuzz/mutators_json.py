"""Seeded mutation of JSON documents: of values and structure, and of the bytes they are written as."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# What stands where something else is expected. The last ones are written by hand: json.dumps cannot.
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    255,
    256,
    65_536,
    2**31,
    2**40,
    2**63,
    2**70,
    -(2**63),
    0.5,
    -0.0,
    1e9,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "0",
    "road",
    "a\nb\x1b[31m",
    "\x00",
    "‮abc",
    "x" * 5000,
    "../../../etc/passwd",
    "/dev/zero",
    "~~~",
    "PPPPPPPP`0",
    [],
    {},
    [[]],
    [0, 1, 2],
    ["a", "a"],
    [[[[[[1]]]]]],
    {"a": {"b": 1}},
    {"size": [4, 5], "counts": "0"},
    [[0, 0, 1e9, 0, 1e9, 1e9]],
    [[1, 1, 1, 1]],
    list(range(2000)),
)
RAW = (b"NaN", b"1e999", b"-Infinity", b"9" * 5000, b"[" * 5000, b'"\\ud800"', b"\xff\xfe", b"{", b"")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values below `value`."""
    found = []
    entries: Any = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        entries = value.items()
    for key, inner in entries:
        found += [(*path, key), *places(inner, (*path, key))]
    return found


def mutate(document: Any, rng: random.Random) -> bytes:
    """Return the text of `document` with one to three things wrong."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        known = places(changed)
        if not known:
            break
        *above, key = rng.choice(known)
        holder = changed
        for step in above:
            holder = holder[step]
        kind = rng.random()
        if kind < 0.55:
            holder[key] = copy.deepcopy(rng.choice(STRANGE))
        elif kind < 0.7:
            del holder[key]
        elif kind < 0.8:
            *above, other = rng.choice(known)
            source: Any = changed
            try:
                for step in (*above, other):
                    source = source[step]
            except (LookupError, TypeError):
                continue  # it was deleted a moment ago
            holder[key] = copy.deepcopy(source)
        elif isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 2, 300))))
        else:
            holder[str(rng.choice(STRANGE))[:40]] = copy.deepcopy(rng.choice(STRANGE))
    text = bytearray(json.dumps(changed).encode())
    if rng.random() < 0.3:
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((0, 1, 1, 5, 50)))
        text[at:end] = rng.choice((*RAW, bytes([rng.randrange(256)])))
    if rng.random() < 0.05:
        del text[rng.randrange(len(text) + 1) :]
    return bytes(text)
