"""Small files that ask for gigabytes or for ever."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

import mutators
import targets_data
import targets_files
from cases import Kind, Place, WrongResult, number_of, outcome

_PIECE = 16 * 2**20
_PIECES = 192  # 3 GiB


def zeros() -> tuple[bytes, int, int]:
    """Return 3 GiB of zeros deflated, their checksum and length, without having them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(_PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(_PIECES):
        crc = zlib.crc32(bytes(_PIECE), crc)
    return piece * _PIECES + packer.flush(), crc, _PIECE * _PIECES


def archive(parts: dict[str, bytes], name: str, packed: tuple[bytes, int, int], stated: int | None) -> bytes:
    """Return a zip of `parts` in which the member `name` unpacks to gigabytes.

    Args:
        parts: the others.
        name: of the member.
        packed: see `zeros`.
        stated: length that the archive states; None: the true one.
    """
    body, directory = bytearray(), bytearray()
    for entry, plain in {**parts, name: b""}.items():
        content, crc, length = packed if entry == name else (plain, zlib.crc32(plain), len(plain))
        length = length if entry != name or stated is None else stated
        method, named = 8 if entry == name else 0, entry.encode()
        numbers = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, crc, len(content), length, len(named), 0)
        directory += (
            b"PK\1\2" + struct.pack("<H", 20) + numbers + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + named
        )
        body += b"PK\3\4" + numbers + named + content
    count = len({**parts, name: b""})
    return (
        bytes(body + directory)
        + b"PK\5\6"
        + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    )


def _members(kind: str, name: str, stated: int | None) -> Callable[[Place], object]:
    def act(place: Place) -> object:
        import targets_artefacts

        target = next(target for target in targets_artefacts.TARGETS if target.kind == kind)
        parts = mutators.members(place.seeds[kind])
        path = place.folder / target.file
        path.write_bytes(archive(parts, name, place.once("zeros", zeros), stated))
        return target.read(path)

    return act


def _picture(kind: str) -> Callable[[Place], object]:
    def act(place: Place) -> object:
        from kseg.data.pictures.images import decode_image

        good = bytearray(targets_files.PICTURES[kind][0])
        if kind == "png":
            struct.pack_into(">II", good, 16, 60_000, 60_000)
            struct.pack_into(">I", good, 29, zlib.crc32(good[12:29]))
        elif kind == "bmp":
            struct.pack_into("<ii", good, 18, 60_000, 60_000)
        else:
            # ImageWidth and ImageLength of a little-endian TIFF: short or long at the entry's value.
            first = struct.unpack_from("<I", good, 4)[0]
            for entry in range(struct.unpack_from("<H", good, first)[0]):
                at = first + 2 + 12 * entry
                if struct.unpack_from("<H", good, at)[0] in (256, 257):
                    struct.pack_into("<HII", good, at + 2, 4, 1, 60_000)
        return decode_image(bytes(good), "bomb")

    return act


def _text_chunk(place: Place) -> object:
    from kseg.data.pictures.images import decode_image

    chunks = targets_files._png_parts(targets_files.PICTURES["png"][0])
    text = b"Comment\0\0" + zlib.compress(bytes(300_000_000), 1)
    return decode_image(targets_files._png([chunks[0], (b"zTXt", text, True), *chunks[1:]]), "bomb")


def _deep(text: str) -> Callable[[Place], object]:
    def act(place: Place) -> object:
        from kseg.data import check

        root = place.once("semantic", lambda: targets_data.semantic(place.folder / "semantic"))
        (root / "classes.json").write_text(text)
        report = check(root)
        return _must_report(report)

    return act


def _must_report(report: Any) -> None:
    from kseg.errors import DataError

    wrong = [finding for finding in report.findings if finding.severity == "error"]
    if not wrong:
        raise WrongResult("check-data calls it fit for training")
    raise DataError(wrong[0].code)


def _coco(segmentation: Any, **image: int) -> Callable[[Place], object]:
    def act(place: Place) -> object:
        from kseg.data import open as open_source

        root = place.once("coco", lambda: targets_data.coco(place.folder / "coco"))
        values = json.loads(json.dumps(targets_data.COCO))
        values["annotations"] = [{**values["annotations"][0], "segmentation": segmentation}]
        values["images"] = [{**entry, **image} for entry in values["images"]]
        (root / "instances_train.json").write_text(json.dumps(values))
        folder = open_source(root)
        for items in folder.items.values():
            for item in items:
                assert folder.read(item).mask.shape == targets_data.SIZE
        return None

    return act


def _entities(place: Place) -> object:
    import sys

    from kseg import data

    sys.path.insert(0, str(targets_files.TESTS / "data/convert"))
    import foreign

    root = place.folder / "cvat"
    foreign.cvat(root)
    text = (root / "annotations.xml").read_text()
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    text = text.replace("<annotations>", f"<!DOCTYPE annotations [{entities}]>\n<annotations>", 1)
    (root / "annotations.xml").write_text(text.replace("<version>1.1", "<version>&a11;", 1))
    return data.convert(root, "cvat", place.folder / "cvat-out")


def _pickled(place: Place) -> object:
    from kseg.encoders.state_dict import read_state_dict

    value: Any = ()
    for _ in range(60):
        value = (value, value)
    path = place.folder / "w.pth"
    held = io.BytesIO()
    name = next(
        name for name in mutators.members(targets_files._state_dict("zip")) if name.endswith("data.pkl")
    )
    path.write_bytes(mutators.zipped({name: pickle.dumps({"a": value}, 2)}, before=held.getvalue()))
    return read_state_dict(path)


BOMBS: dict[str, Callable[[Place], object]] = {
    **{
        f"{kind} {name}{'' if stated is None else ', length a lie'}": _members(kind, name, stated)
        for kind, name in (
            ("keras", "config.json"),
            ("keras", "model.weights.h5"),
            ("keras", "kseg.json"),
            ("checkpoint", "meta.npy"),
            ("checkpoint", "model/0.npy"),
            ("segment classifier", "kseg_segments.json"),
        )
        for stated in (None, 100)
    },
    **{f"{kind} of 60,000 x 60,000": _picture(kind) for kind in ("png", "bmp", "tiff")},
    "PNG text of 300 MB": _text_chunk,
    "JSON 100,000 deep": _deep("[" * 100_000 + "]" * 100_000),
    "JSON objects 100,000 deep": _deep('{"classes":' * 100_000 + "1" + "}" * 100_000),
    "number of a million digits": _deep('{"classes": ["a", "b"], "void_id": ' + "9" * 10**6 + "}"),
    "COCO polygon of 1e9": _coco([[0, 0, 1e9, 0, 1e9, 1e9]]),
    "COCO polygon of 1e308": _coco([[0, 0, 1e308, 0, 1e308, -1e308]]),
    "COCO RLE of 1e9": _coco({"size": [10**9, 10**9], "counts": [10**18]}),
    "COCO image of 1e9": _coco({"size": [10**9, 10**9], "counts": [10**18]}, height=10**9, width=10**9),
    "XML entities": _entities,
    "pickled tuples, 2**60 of them": _pickled,
}


def explode(bad: bytes, place: Place) -> str:
    """Read one bomb: refused, or harmless."""
    names = sorted(BOMBS)
    said, _ = outcome(lambda: BOMBS[names[int(bad) % len(names)]](place))
    return said


KINDS = (Kind("bombs", number_of, explode, share=len(BOMBS), whole=True),)
