"""PyTorch files: what is read, and that nothing in them is run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kseg.encoders.state_dict import read_state_dict
from kseg.errors import DataError

RECORDED = Path(__file__).parent / "fixtures"
VALUES = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([0.5, -2], np.float16),
}


@pytest.mark.parametrize("form", ["stream", "zip"])
def test_files_of_torch(form: str) -> None:
    """Written by torch 2.13 with `torch.save(..., _use_new_zipfile_serialization=...)`."""
    found = read_state_dict(RECORDED / f"state_dict_{form}.pth")
    assert list(found) == ["conv.weight", "transposed", "bn.num_batches_tracked", "half", "bfloat", "tail"]
    np.testing.assert_array_equal(found["conv.weight"], VALUES["conv.weight"])
    np.testing.assert_array_equal(found["transposed"], VALUES["conv.weight"].transpose(3, 1, 0, 2))
    assert found["bn.num_batches_tracked"].dtype == np.int64
    assert found["bn.num_batches_tracked"] == 7
    np.testing.assert_array_equal(found["half"], VALUES["half"])
    np.testing.assert_array_equal(found["bfloat"], np.array([1.0, -0.375], np.float32))
    np.testing.assert_array_equal(found["tail"], VALUES["conv.weight"].reshape(-1)[20:])


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def zipped(path: Path, content: Any, storages: dict[str, bytes] | None = None, compression: int = 0) -> Path:
    """Write what `torch.save` would, with any pickle in it."""
    raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", raw)
        for key, numbers in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", numbers)
    return path


@pytest.mark.parametrize("function", [os.system, eval, exec, open, getattr, pickle.loads, collections.deque])
def test_nothing_is_called(function: Any, tmp_path: Path) -> None:
    marker = tmp_path / "called"
    content = {"weight": Call(function, f"touch {marker}")}
    with pytest.raises(DataError, match="no part of a state dict"):
        read_state_dict(zipped(tmp_path / "evil.pth", content))
    assert not marker.exists()


def tensor(
    count: object = 4,
    offset: object = 0,
    size: object = (2, 2),
    stride: object = (2, 1),
    key: str = "0",
) -> bytes:
    """Return a pickle of `{"w": tensor}` over a storage of `count` floats, with any numbers in it."""

    class Torch(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj if isinstance(obj, tuple) and obj and obj[0] == "storage" else None

    out = io.BytesIO()
    pickler = Torch(out, protocol=2)
    stand_in = Call(_stand_in, ("storage", _Float, key, "cpu", count), offset, size, stride, False, None)
    pickler.dump({"w": stand_in})
    # The stand-ins take the names that torch gives these two.
    module = __name__.encode()
    raw = out.getvalue()
    raw = raw.replace(b"c" + module + b"\n_stand_in\n", b"ctorch._utils\n_rebuild_tensor_v2\n")
    return raw.replace(b"c" + module + b"\n_Float\n", b"ctorch\nFloatStorage\n")


def _stand_in() -> None:
    """Named in a pickle in the place of torch's function."""


class _Float:
    """Named in a pickle in the place of torch's class."""


def test_own_writer_is_read(tmp_path: Path) -> None:
    file = zipped(tmp_path / "w.pth", tensor(), {"0": np.arange(4, dtype="<f4").tobytes()})
    np.testing.assert_array_equal(read_state_dict(file)["w"], [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    "described",
    [
        {"size": (2, 3)},
        {"size": (10**9, 10**9), "stride": (0, 0)},
        {"size": (5, 1), "stride": (0, 0)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"stride": (-2, 1)},
        {"stride": (2**62, 1)},
        {"size": ("2", 2)},
        {"size": (2,)},
        {"size": (1,) * 40, "stride": (1,) * 40},
        {"count": 10**12},
        {"count": -1},
        {"count": 3},
        {"count": "4"},
        {"key": "../../0"},
    ],
    ids=str,
)
def test_tensors_beyond_their_numbers_are_refused(described: dict[str, Any], tmp_path: Path) -> None:
    file = zipped(tmp_path / "w.pth", tensor(**described), {"0": np.arange(4, dtype="<f4").tobytes()})
    with pytest.raises(DataError, match="The PyTorch weights"):
        read_state_dict(file)


@pytest.mark.parametrize("content", [[], {}, 5, "text", {"epoch": 3}, {"state_dict": {}}, None])
def test_files_without_tensors(content: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no state dict|no tensor"):
        read_state_dict(zipped(tmp_path / "w.pth", content))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    file = zipped(tmp_path / "w.pth", tensor(), {"0": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="compressed"):
        read_state_dict(file)


@pytest.mark.parametrize("form", ["stream", "zip"])
def test_any_damage_is_one_line(form: str, tmp_path: Path) -> None:
    whole = (RECORDED / f"state_dict_{form}.pth").read_bytes()
    random = np.random.default_rng(0)
    file = tmp_path / "w.pth"
    refused = 0
    for case in range(400):
        content = bytearray(whole)
        if case % 4 == 0:
            content = content[: random.integers(len(content))]
        else:
            for _ in range(random.integers(1, 4)):
                content[random.integers(len(content))] = random.integers(256)
        file.write_bytes(content)
        try:
            read_state_dict(file)
        except DataError as error:
            refused += 1
            text = str(error)
            if "\n" in text:
                pytest.fail(f"more than one line: {text}")
    assert refused > 100


def test_stream_of_another_protocol(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1002, 2))
    with pytest.raises(DataError, match="no file of"):
        read_state_dict(file)
    file.write_bytes(struct.pack("<q", 5))
    with pytest.raises(DataError, match="cannot be read"):
        read_state_dict(file)


def test_a_number_of_an_object_makes_no_table(tmp_path: Path) -> None:
    """LONG_BINPUT with an index of 2**27: Python's unpickler would make a table of gigabytes for it."""
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**27) + b".")
    with pytest.raises(DataError, match="numbers an object 134217728"):
        read_state_dict(path)
