"""TensorFlow greets every import with log lines that no log level turns off: import it without them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_NAME = "tensorflow"


class _QuietImport(importlib.abc.MetaPathFinder):
    """Finds `tensorflow` as Python would, and drops what its import writes to stderr.

    Some libraries look for TensorFlow without importing it, so finding it must work any number of times.
    """

    _looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _NAME or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_quietly(module: ModuleType) -> None:
            from deploy.quiet import quiet

            with quiet():
                execute(module)

        spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Make the first `import tensorflow` of this process silent, whoever asks for it."""
    if _NAME not in sys.modules and not any(isinstance(entry, _QuietImport) for entry in sys.meta_path):
        sys.meta_path.insert(0, _QuietImport())
