"""Encoders: networks that turn an image into features by stride.

`build("resnet50", x)` returns `{2: ..., 4: ..., 8: ..., 16: ..., 32: ...}`; `features` is what decoders call.
A new encoder is one `Encoder` entry in `registry.py`.
"""

from kseg.encoders.construct import build, features, normalization
from kseg.encoders.registry import names, resolve

__all__ = ["build", "features", "names", "normalization", "resolve"]
