"""Pillow and the libtiff in it, without what they say of damaged files beside the exception."""

from __future__ import annotations

import ctypes
import logging
import warnings
from pathlib import Path

import PIL
from PIL import Image

_MAPS = Path("/proc/self/maps")
_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def _libtiff() -> list[str]:
    """Return the paths of the libtiff that Pillow works with."""
    if _MAPS.is_file():
        mapped = {line.split(maxsplit=5)[-1] for line in _MAPS.read_text().splitlines() if "/libtiff" in line}
        return sorted(mapped)
    package = Path(PIL.__file__).parent
    folders = (package / ".dylibs", package.parent / "pillow.libs")
    return [str(path) for folder in folders for path in sorted(folder.glob("libtiff*"))]


def quiet() -> None:
    """Leave the exception as the only thing that damaged files cause.

    Pillow warns of tags that it cannot read and then raises or reads on; libtiff writes to the C library's
    stderr, past Python, and has a handler for that which can be taken away. Pillow also warns from 89
    megapixels, which is a normal size here. Where libtiff is built into Pillow (Windows) its lines stay.
    """
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # With a handler of its own, though an idle one, nothing falls through to Python's last resort.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    Image.init()
    for path in _libtiff():
        library = ctypes.CDLL(path)
        for name in _HANDLERS:
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
