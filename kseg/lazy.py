"""Packages whose names load on first use, so that importing one imports neither Keras nor TensorFlow."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from kseg.errors import explained_imports


def load_room(module: str) -> ModuleType:
    """Import a module of kseg or deploy by its dotted name.

    Raises:
        MissingExtraError: if it needs a library that is not installed.
    """
    with explained_imports():
        return importlib.import_module(module)


def lazy(
    package: str, names: Mapping[str, str], rooms: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        names: public name -> module that has it, from the package on, or by its whole name.
        rooms: submodules that are public themselves.

    Example:
        >>> __getattr__, __dir__ = lazy(__name__, {"train": "trainer"})
    """

    def getattribute(name: str) -> Any:
        if name in rooms:
            return load_room(f"{package}.{name}")
        if name in names:
            module = names[name]
            whole = module.partition(".")[0] == package.partition(".")[0]
            return getattr(load_room(module if whole else f"{package}.{module}"), name)
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *rooms})

    return getattribute, directory
