"""kseg.archives: zip archives within bounds."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kseg import archives
from kseg.errors import ArtefactError

MIB = 2**20


def read_all(source: Path | bytes) -> dict[str, bytes]:
    with archives.open_archive(source, where="'x'", alien="is no archive") as archive:
        archive.verify()
        return {name: archive.read(name) for name in archive.names}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(ArtefactError) as caught:
        read_all(content)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_written_is_read(method: int, tmp_path: Path) -> None:
    members = {"a": b"x" * 3 * MIB, "b/c.json": b"{}", "empty": b""}
    content = packed(members, method)
    (tmp_path / "x.zip").write_bytes(b"something before" + content)
    assert read_all(content) == read_all(tmp_path / "x.zip") == members


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    assert "unpack to at most" in refusal(packed({"w": bytes(300 * MIB)}))


@pytest.mark.parametrize("claimed", [0, 100, MIB - 1, MIB + 1, 2**31])
def test_a_directory_that_lies_about_a_size_is_not_believed(claimed: int) -> None:
    content = bytearray(packed({"w": bytes(MIB)}))
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, claimed)
    assert any(word in refusal(bytes(content)) for word in ("is damaged", "unpack to at most"))


def test_a_member_is_read_up_to_a_limit() -> None:
    with archives.open_archive(packed({"w": bytes(MIB)}), where="'x'", alien="") as archive:
        assert len(archive.read("w", MIB)) == MIB
        with pytest.raises(ArtefactError, match="has more than"):
            archive.read("w", MIB - 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_whose_pieces_cannot_be_bounded(method: int) -> None:
    assert "kseg never does" in refusal(packed({"w": b"x" * 99}, method))


def test_a_directory_of_a_million_members() -> None:
    content = packed({f"{index:060}": b"" for index in range(50_000)}, zipfile.ZIP_STORED)
    assert refusal(content) == "'x' is no archive"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name() -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert "two members of one name" in refusal(whole.getvalue())


def saved(**arrays: np.ndarray) -> dict[str, bytes]:
    whole = io.BytesIO()
    np.savez(whole, **arrays)
    return read_all(whole.getvalue())


def arrays_of(members: dict[str, bytes]) -> dict[str, np.ndarray]:
    with archives.open_archive(packed(members), where="'x'", alien="") as archive:
        return archives.read_arrays(archive, where="'x'")


def test_arrays_are_read_as_numpy_wrote_them() -> None:
    given = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.asarray(3, np.int64),
        "none": np.zeros((0, 4), bool),
    }
    found = arrays_of(saved(**given))
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def _header(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content[:10] + text.ljust(117).encode() + b"\n" + content[128:]


@pytest.mark.parametrize(
    "spoil",
    [
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        _header("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"),
        _header("{'descr': '|V0', 'fortran_order': False, 'shape': (3,), }"),
        _header("((((((("),
        _header("'''"),
        lambda content: content[:60],
        lambda content: content + b"more",
        lambda content: b"\x80\x04pickle",
        lambda content: b"",
    ],
)
def test_arrays_that_lie_about_their_length_or_are_none(spoil: Callable[[bytes], bytes]) -> None:
    members = saved(a=np.ones(3, np.float32))
    with pytest.raises(ArtefactError, match=r"'x' is damaged: its member a\.npy is no array"):
        arrays_of({"a.npy": spoil(members["a.npy"])})
