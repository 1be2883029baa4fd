"""What an `.onnx` says about itself, read from its bytes before any library parses them.

Neither onnx nor onnxruntime can be asked without building the whole graph, and onnxruntime reads external
data from the current folder while it does. Protobuf's wire format is small: a number for field and kind, then
a varint, 4 or 8 bytes, or a length and as many bytes (protobuf.dev/programming-guides/encoding,
onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT = 10
_METADATA, _KEY, _VALUE = 14, 1, 2
_DATA_LOCATION, _EXTERNAL, _EXTERNAL_DATA = 14, 1, 13
_MOST_DEPTH = 64

# Message -> field number -> message, on every way to a tensor.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}


class WireError(ValueError):
    """The bytes are no protobuf message."""


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MOST_VARINT):
        if at >= end:
            raise WireError("it ends within a number")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise WireError("a number has no end")


def _fields(content: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field, kind, begin, end) of each field; a varint's begin is its value."""
    while at < end:
        tag, at = _varint(content, at, end)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(content, at, end)
            yield tag >> 3, kind, value, at
            continue
        if kind == _BYTES:
            length, at = _varint(content, at, end)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise WireError(f"a field has the unknown kind {kind}")
        if length > end - at:
            raise WireError("a field reaches beyond the end")
        yield tag >> 3, kind, at, at + length
        at += length


def metadata(content: bytes) -> dict[str, str]:
    """Return `metadata_props` of a serialised model.

    Raises:
        WireError: if the bytes are no model.
    """
    view = memoryview(content)
    properties = {}
    for field, kind, begin, end in _fields(view, 0, len(view)):
        if (field, kind) != (_METADATA, _BYTES):
            continue
        entry = {
            inner: bytes(view[start:stop]).decode("utf-8", "replace")
            for inner, its_kind, start, stop in _fields(view, begin, end)
            if its_kind == _BYTES
        }
        properties[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    return properties


def has_external_data(content: bytes) -> bool:
    """Tell whether a serialised model keeps a tensor in another file.

    Raises:
        WireError: if the bytes are no model, or one nested deeper than any network.
    """
    view = memoryview(content)
    waiting = [("model", 0, len(view), 0)]
    while waiting:
        message, at, stop, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            raise WireError(f"it is nested deeper than {_MOST_DEPTH} levels")
        parts = _PARTS[message]
        for field, kind, begin, end in _fields(view, at, stop):
            if kind == _BYTES and field in parts:
                waiting.append((parts[field], begin, end, depth + 1))
            elif message == "tensor" and (
                field == _EXTERNAL_DATA or ((field, kind, begin) == (_DATA_LOCATION, _VARINT, _EXTERNAL))
            ):
                return True
    return False
