"""Read the tensors of a PyTorch state dict without PyTorch, and without running anything from the file.

A `.pth` file is a pickle, which can call any function. Here only what a state dict is made of is let in:
ordered dicts, tensors, storages of known number types. Both forms are read: the plain pickle stream of
PyTorch before 1.6, and the zip with `data.pkl` and raw storages since then.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kseg.errors import DataError
from kseg.text import printable

MAX_BYTES = 4 * 2**30
MAX_TENSORS = 100_000
MAX_RANK = 8
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# bfloat16 is the upper half of a float32.
_BFLOAT16 = "bfloat16"
_STORAGES: dict[str, str] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# Under these keys training scripts store the state dict beside epoch, optimizer and the like.
_NESTED = ("state_dict", "model_state_dict", "model")
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    struct.error,
    OSError,
)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the tensors of a PyTorch state dict by name, in the file's order.

    Args:
        path: a `.pth`, `.pt` or `.bin` file that `torch.save` wrote, at most 4 GB. A checkpoint with the
            state dict under `state_dict`, `model_state_dict` or `model` is understood too.

    Returns:
        Arrays of their own memory. bfloat16 comes as float32.

    Raises:
        DataError: if the file is missing, damaged, too large, or holds anything but tensors.
    """
    file = Path(path)
    where = f"The PyTorch weights '{printable(file)}'"
    if not file.is_file():
        raise DataError(f"{where} cannot be read: there is no such file")
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{where} have {file.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        with open(file, "rb") as handle:
            zipped = zipfile.is_zipfile(handle)
            handle.seek(0)
            found = _read_zip(handle) if zipped else _read_stream(handle)
        return _tensors(found)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except _DAMAGE as error:
        raise DataError(
            f"{where} cannot be read ({type(error).__name__}: {printable(error, 200)}): damaged, or not "
            "written by torch.save. Get the file again"
        ) from error


@dataclass
class _Storage:
    """Numbers that tensors are views of; `values` is filled in when the file's raw part has been read."""

    kind: str
    count: int
    values: np.ndarray | None = None


@dataclass(frozen=True)
class _Tensor:
    """A view on a storage, as the pickle describes it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        values = self.storage.values
        if values is None:
            raise DataError("a tensor has no numbers in the file")
        last = self.offset
        for side, step in zip(self.size, self.stride, strict=True):
            last += (side - 1) * step
        count = int(np.prod(self.size, dtype=object))
        if count == 0:
            return np.zeros(self.size, values.dtype)
        if last >= len(values) or count > len(values):
            raise DataError(f"a tensor of shape {self.size} reaches beyond its {len(values)} numbers")
        width = values.itemsize
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.size, [step * width for step in self.stride], writeable=False
        )
        return np.array(view)


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows nothing but ordered dicts, tensors and storages."""

    def __init__(self, file: io.BufferedIOBase | BinaryIO) -> None:
        _check_memo(file)
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return name
        raise DataError(
            f"it names '{printable(module, 60)}.{printable(name, 60)}', which is no part of a state dict"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in _STORAGES:
            raise DataError("it refers to something that is no storage")
        key, count = str(pid[2]), pid[4]
        if len(pid) > 5 and pid[5] is not None:
            raise DataError("it holds views of storages, which PyTorch has not written since 2017")
        known = self.storages.setdefault(key, _Storage(pid[1], _whole(count)))
        if (known.kind, known.count) != (pid[1], count):
            raise DataError(f"storage {printable(key, 40)} is described twice, differently")
        return known


def _check_memo(file: Any) -> None:
    """Refuse a pickle that numbers an object beyond their count, and go back to its beginning.

    Python's unpickler makes a table as long as the largest number, which five bytes can make gigabytes.
    """
    start = file.tell()
    for seen, (operation, number, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(number or 0) > seen:
            raise DataError(f"it numbers an object {number}, and has no more than {seen}")
    file.seek(start)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_BYTES:
        raise DataError(f"expected a count, found {printable(repr(value), 40)}")
    return value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    """What `torch._utils._rebuild_tensor_v2` is called with."""
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise DataError("a tensor is not made of storage, offset, size and stride")
    if len(size) != len(stride) or len(size) > MAX_RANK:
        raise DataError(f"a tensor has {len(size)} sides and {len(stride)} strides")
    return _Tensor(storage, _whole(offset), tuple(map(_whole, size)), tuple(map(_whole, stride)))


def _parameter(data: Any, *_: Any) -> Any:
    """What `torch._utils._rebuild_parameter` is called with."""
    return data


def _numbers(kind: str, raw: bytes) -> np.ndarray:
    if _STORAGES[kind] == _BFLOAT16:
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, _STORAGES[kind])


def _width(kind: str) -> int:
    return 2 if _STORAGES[kind] == _BFLOAT16 else np.dtype(_STORAGES[kind]).itemsize


def _read_stream(file: BinaryIO) -> Any:
    """The form before PyTorch 1.6: magic, protocol, system, state dict, storage keys, raw storages."""
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise DataError("it is no file of torch.save")
    system = _Unpickler(file).load()
    if isinstance(system, Mapping) and system.get("little_endian") is False:
        raise DataError("it was written on a big-endian machine, which is not supported")
    unpickler = _Unpickler(file)
    found = unpickler.load()
    keys = _Unpickler(file).load()
    if not isinstance(keys, list) or len(keys) > MAX_TENSORS:
        raise DataError("its list of storages is no list")
    for key in keys:
        storage = unpickler.storages.get(str(key))
        (count,) = struct.unpack("<q", file.read(8))
        if storage is None or count != storage.count:
            raise DataError(f"storage {printable(key, 40)} is not as described")
        size = count * _width(storage.kind)
        raw = file.read(size)
        if len(raw) != size:
            raise DataError("it ends in the middle of its numbers")
        storage.values = _numbers(storage.kind, raw)
    return found


def _read_zip(file: BinaryIO) -> Any:
    """The form since PyTorch 1.6: NAME/data.pkl, NAME/byteorder and a member NAME/data/KEY per storage."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        described = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(described) != 1:
            raise DataError("it is a zip, but holds no data.pkl of torch.save")
        folder = described[0].removesuffix("data.pkl")
        # torch.save stores; a compressed member is somebody else's, and could unpack to anything.
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise DataError("its members are compressed, which torch.save does not do")
        order = members.get(f"{folder}byteorder")
        if order is not None and archive.read(order).strip() != b"little":
            raise DataError("it was written on a big-endian machine, which is not supported")
        unpickler = _Unpickler(io.BytesIO(archive.read(described[0])))
        found = unpickler.load()
        for key, storage in unpickler.storages.items():
            raw = archive.read(f"{folder}data/{key}")
            if len(raw) != storage.count * _width(storage.kind):
                raise DataError(f"storage {printable(key, 40)} is not as long as described")
            storage.values = _numbers(storage.kind, raw)
    return found


def _tensors(found: Any) -> dict[str, np.ndarray]:
    """Pick the state dict out of what the file holds, and its tensors out of that."""
    if isinstance(found, Mapping):
        nested = next((found[key] for key in _NESTED if isinstance(found.get(key), Mapping)), None)
        found = found if nested is None else nested
    if not isinstance(found, Mapping) or not found:
        raise DataError(f"it holds a {type(found).__name__}, no state dict")
    if len(found) > MAX_TENSORS:
        raise DataError(f"it has {len(found)} entries; at most {MAX_TENSORS} are read")
    tensors = {str(name): value.array() for name, value in found.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise DataError("it holds no tensor")
    return tensors
