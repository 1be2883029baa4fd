"""A split where the data has none: whole groups of frames, every class in train where that can be."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kseg.errors import UsageError
from kseg.patterns import compiled

NAMES = ("train", "val", "test")
DEFAULT = "80/10/10"
# Everything before the last number of a name, without what separates them: seq01_000123_left -> seq01.
_BEFORE_LAST_NUMBER = re.compile(r"^(.*?)[ ._\-(#]*\d+\D*$", re.DOTALL)


@dataclass(frozen=True)
class Division:
    """Who is where.

    Args:
        splits: the split of each name, in order.
        note: one sentence on what was kept together.
    """

    splits: tuple[str, ...]
    note: str


def parse(text: str) -> tuple[float, ...]:
    """Read `80/10/10` (train/val/test) or `90/10` (train/val) as shares that sum to 1.

    Raises:
        UsageError: if it is not of that form.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(re.fullmatch(r"\d{1,6}(\.\d{1,6})?", part) for part in parts):
        raise UsageError(f"Argument `split` must be like 80/10/10 or 90/10. Received: {text!r}")
    shares = [float(part) for part in parts]
    if shares[0] <= 0:
        raise UsageError(f"Argument `split` must give train a share. Received: {text!r}")
    return tuple(share / sum(shares) for share in shares)


def group_keys(names: Sequence[str], pattern: str | None) -> list[str]:
    """Return the group of each name: by `pattern`, or what stands before its last number.

    Args:
        names: names without suffix.
        pattern: regular expression, searched in the name; its first group (or all of it) names the group. A
            name that it does not match is a group of its own.

    Raises:
        UsageError: if the pattern is none.
    """
    if pattern is None:
        found = [_BEFORE_LAST_NUMBER.match(name) for name in names]
        # A name that is a number and nothing else says nothing about its neighbours.
        return [match[1] if match and match[1] else name for match, name in zip(found, names, strict=True)]
    expression = compiled(pattern, "Argument `group_by`")
    keys = []
    for name in names:
        match = expression.search(name)
        part = None if match is None else (match[1] if expression.groups else match[0])
        keys.append(f"name:{name}" if part is None else f"group:{part}")
    return keys


def divide(
    names: Sequence[str],
    contents: Sequence[frozenset[int]],
    shares: tuple[float, ...],
    *,
    seed: int = 0,
    pattern: str | None = None,
) -> Division:
    """Divide pictures over train, val and test.

    Args:
        names: one per picture.
        contents: the classes that occur in each.
        shares: of train, val and, if there is one, test; see `parse`.
        seed: of the order in which groups are dealt.
        pattern: see `group_keys`.

    Raises:
        UsageError: if there are fewer pictures, or groups by `pattern`, than splits.
    """
    wanted = [index for index, share in enumerate(shares) if share > 0]
    if len(names) < len(wanted):
        raise UsageError(
            f"{len(names)} images cannot be divided into {len(wanted)} splits. Add images, or give "
            "fewer shares"
        )
    keys = group_keys(names, pattern)
    count = len(set(keys))
    if count < len(wanted) and pattern is not None:
        raise UsageError(
            f"Argument `group_by` makes {count} groups, fewer than the {len(wanted)} splits. "
            f"Received: {pattern!r}"
        )
    note = f"{len(names)} images in {count} groups that stay together ({_example(names, keys)})"
    if count < len(wanted):
        keys = list(names)
        note = (
            f"all names begin alike ('{names[0]}'), so images were divided one by one; if neighbours show "
            "the same scene, say by group_by (--group-by) what belongs together"
        )
    elif count == len(names):
        note = "no names belong together, so images were divided one by one"
    groups = _Groups(keys, contents)
    groups.deal(shares, wanted, seed)
    groups.bring_classes_into_train()
    return Division(tuple(NAMES[groups.place[key]] for key in keys), note)


def _example(names: Sequence[str], keys: Sequence[str]) -> str:
    members = defaultdict(list)
    for name, key in zip(names, keys, strict=True):
        members[key].append(name)
    largest = max(members.values(), key=len)
    return f"the largest has {len(largest)}, from '{largest[0]}' to '{largest[-1]}'"


class _Groups:
    """Groups with their sizes and classes, and the split that each is in."""

    def __init__(self, keys: Sequence[str], contents: Sequence[frozenset[int]]) -> None:
        self.size: dict[str, int] = defaultdict(int)
        self.classes: dict[str, set[int]] = defaultdict(set)
        self.place: dict[str, int] = {}
        for key, classes in zip(keys, contents, strict=True):
            self.size[key] += 1
            self.classes[key] |= classes

    def deal(self, shares: tuple[float, ...], wanted: Sequence[int], seed: int) -> None:
        """Give the largest group to train, the smallest to the others, the rest to whom most is owed."""
        keys = sorted(self.size)
        np.random.default_rng(seed).shuffle(keys)
        keys.sort(key=lambda key: -self.size[key])
        total = sum(self.size.values())
        owed = {index: shares[index] * total for index in wanted}

        def give(key: str, index: int) -> None:
            self.place[key] = index
            owed[index] -= self.size[key]

        give(keys.pop(0), 0)
        for index in wanted[1:]:
            give(keys.pop(), index)
        for key in keys:
            give(key, max(wanted, key=lambda index: owed[index]))

    def bring_classes_into_train(self) -> None:
        """Exchange groups so that train has every class, while each split keeps one group at least."""
        for wanted in sorted(set().union(*self.classes.values())):
            holders = [key for key in sorted(self.place) if wanted in self.classes[key]]
            if any(self.place[key] == 0 for key in holders):
                continue
            for key in sorted(holders, key=lambda entry: self.size[entry]):
                if self._exchange(key):
                    break

    def _exchange(self, key: str) -> bool:
        """Put a group into train and, for it, one out of train whose classes others there have too."""
        split, self.place[key] = self.place[key], 0
        inside = [other for other in sorted(self.place) if self.place[other] == 0]
        held = Counter(value for other in inside for value in self.classes[other])
        spare = [
            other
            for other in inside
            if other != key and all(held[value] > 1 for value in self.classes[other])
        ]
        if spare:
            self.place[min(spare, key=lambda other: abs(self.size[other] - self.size[key]))] = split
        elif split not in self.place.values():
            self.place[key] = split  # an empty split would be worse
            return False
        return True
