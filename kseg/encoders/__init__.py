"""Encoders: networks that turn an image into features by stride.

`build("resnet50", x)` returns `{2: ..., 4: ..., 8: ..., 16: ..., 32: ...}`; a new encoder is one `Encoder`
entry in `registry.py`.
"""

from kseg.encoders.construct import build, normalization
from kseg.encoders.registry import names, resolve

__all__ = ["build", "names", "normalization", "resolve"]
