"""Attacked besides models and JSON: images, PyTorch weights, the cache of data sets, foreign data sets."""

from __future__ import annotations

import functools
import io
import random
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutators
import numpy as np
from cases import Kind, Place, WrongResult, number_of, outcome, renew, rng_of
from PIL import Image

TESTS = Path(__file__).resolve().parents[1]
SIZE = (20, 28)
_PNG_START = 8


def _picture(mode: str, kind: str, **options: Any) -> bytes:
    rng = np.random.default_rng(3)
    pixels = (
        rng.integers(0, 255, (*SIZE, 3), np.uint8) if mode == "RGB" else rng.integers(0, 4, SIZE, np.uint8)
    )
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0, 0, 0, 250])
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return held.getvalue()


# Name -> the files that are spoiled: photos and masks.
PICTURES: dict[str, tuple[bytes, ...]] = {
    "png": (_picture("RGB", "PNG"), _picture("L", "PNG"), _picture("P", "PNG")),
    "jpeg": (
        _picture("RGB", "JPEG"),
        _picture("RGB", "JPEG", progressive=True, exif=b"Exif\0\0II*\0\b\0\0\0\0\0"),
    ),
    "tiff": (
        _picture("RGB", "TIFF"),
        _picture("RGB", "TIFF", compression="tiff_lzw"),
        _picture("L", "TIFF", compression="tiff_adobe_deflate"),
    ),
    "bmp": (_picture("RGB", "BMP"), _picture("L", "BMP"), _picture("P", "BMP")),
    "webp": (_picture("RGB", "WEBP"), _picture("RGB", "WEBP", lossless=True)),
}


def _png_parts(content: bytes) -> list[tuple[bytes, bytes, bool]]:
    """Return name, content and "its checksum is right" of the chunks of a PNG."""
    found, at = [], _PNG_START
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        name, part = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        crc = content[at + 8 + length : at + 12 + length]
        found.append((name, part, zlib.crc32(name + part).to_bytes(4, "big") == crc))
        at += 12 + length
    return found


def _png(chunks: list[tuple[bytes, bytes, bool]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(part).to_bytes(4, "big") + name + part + zlib.crc32(name + part).to_bytes(4, "big")
        for name, part, _ in chunks
    )


def spoil_picture(kind: str, seeds: dict[str, bytes], number: int) -> bytes:
    """Spoil bytes of a picture, or the content of a PNG's chunk, of which the checksum is right again."""
    rng = rng_of(kind, number)
    good = rng.choice(PICTURES[kind])
    if kind != "png" or rng.random() < 0.6:
        return mutators.spoil_bytes(good, rng)
    chunks = _png_parts(good)
    at = rng.randrange(len(chunks))
    name, part, _ = chunks[at]
    chunks[at] = (rng.choice((name, name, b"tRNS", b"gAMA", b"zTXt")), mutators.spoil_bytes(part, rng), True)
    return _png(chunks)


def read_picture(kind: str, bad: bytes, place: Place) -> str:
    """Read as photo and as mask; sizes must agree, and a PNG must not differ where its checksums tell."""
    from kseg.data.pictures import images

    path = place.folder / f"x.{kind}"
    path.write_bytes(bad)
    said, image = outcome(lambda: images.read_image(path))
    framed, frame = outcome(lambda: images.read_frame(path))
    masked, mask = outcome(lambda: images.decode_mask(bad, "x"))
    if said == "read":
        if framed != "read" or frame.shown != image.shape[:2]:
            raise WrongResult(f"image {image.shape}, frame {frame}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise WrongResult(f"image {image.dtype} {image.shape}")
    if masked == "read" and (mask.ndim != 2 or mask.dtype not in (np.uint8, np.int32) or mask.min() < 0):
        raise WrongResult(f"mask {mask.dtype} {mask.shape}")
    if kind == "png" and not all(right for *_, right in _png_parts(bad)):
        _same_pixels(bad, image if said == "read" else None, mask if masked == "read" else None)
    return "read" if "read" in (said, masked) else "refused"


def _same_pixels(bad: bytes, image: Any, mask: Any) -> None:
    """Compare what was read of a PNG with a wrong checksum with what any of the good ones holds."""
    from kseg.data.pictures import images

    goods = [images.decode_image(good, "x") for good in PICTURES["png"]]
    if image is not None and not any(np.array_equal(image, good) for good in goods):
        raise WrongResult("a PNG whose checksum is wrong was read, and its pixels are others")
    masks = [images.decode_mask(good, "x") for good in PICTURES["png"][1:]]
    if mask is not None and not any(np.array_equal(mask, good) for good in masks):
        raise WrongResult("a PNG mask whose checksum is wrong was read, and its ids are others")


def _state_dict(form: str) -> bytes:
    return (TESTS / f"encoders/fixtures/state_dict_{form}.pth").read_bytes()


def spoil_state_dict(form: str, seeds: dict[str, bytes], number: int) -> bytes:
    rng = rng_of(f"state dict {form}", number)
    good = _state_dict(form)
    if form == "stream" or rng.random() < 0.5:
        return mutators.spoil_bytes(good, rng)
    name = rng.choice(
        [name for name in mutators.members(good) if name.endswith("data.pkl")] * 3
        + list(mutators.members(good))
    )
    return mutators.with_member(good, name, mutators.spoil_bytes, rng)


def read_state_dict(form: str, bad: bytes, place: Place) -> str:
    """Tensors of numbers or one line; the zip's checksums tell whether they must be the good file's."""
    from kseg.encoders.state_dict import read_state_dict as read

    path = place.folder / "w.pth"
    path.write_bytes(bad)
    said, found = outcome(lambda: read(path))
    if said == "refused":
        return said
    if not found or not all(
        isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in found.values()
    ):
        raise WrongResult(f"{[value.dtype for value in found.values()]}")
    if form == "zip":
        try:
            forged = mutators.members(bad) != mutators.members(_state_dict(form))
        except Exception:  # whatever zipfile raises: nobody sealed this
            forged = False
        path.write_bytes(_state_dict(form))
        good = read(path)
        if not forged and not (
            list(found) == list(good) and all(np.array_equal(found[name], good[name]) for name in good)
        ):
            raise WrongResult("a damaged zip was read, and its tensors are others")
    return said


def _open_all(root: Path, cache: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    from kseg import data

    source = data.open(root, cache_dir=cache)
    return [
        (sample.name, np.array(sample.image), np.array(sample.mask))
        for split in ("train", "val")
        for sample in source.samples(split)
    ]


def attack_cache(bad: bytes, place: Place) -> str:
    """Spoil a file of a finished cache, or delete it; the samples must be those of the folder."""
    root, good, cache = place.folder / "data", place.folder / "good", place.folder / "cache"

    def first() -> Any:
        import targets_commands

        targets_commands.make_data(root)
        return _open_all(root, good)

    expected = place.once("expected", first)
    renew(good, cache)
    rng = rng_of("dataset cache", bad)
    for _ in range(rng.choice((1, 1, 2))):
        file = rng.choice(
            sorted(path for path in cache.rglob("*") if path.is_file()) or [root / "classes.json"]
        )
        if file.parent == root:
            break
        action = rng.random()
        if action < 0.15:
            file.unlink()
        elif action < 0.2:
            shutil.rmtree(file.parent)
        elif file.suffix == ".json" and action < 0.7:
            file.write_bytes(mutators.spoil_json(file.read_bytes(), rng))
        else:
            file.write_bytes(mutators.spoil_bytes(file.read_bytes(), rng))
    said, found = outcome(lambda: _open_all(root, cache))
    if said == "read" and not (
        len(found) == len(expected)
        and all(
            a[0] == b[0] and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])
            for a, b in zip(found, expected, strict=True)
        )
    ):
        raise WrongResult("a damaged cache gave other samples than the folder")
    return said


def _spoil_text(content: bytes, rng: random.Random) -> bytes:
    """Put something odd in the place of a word or number of a text."""
    words = content.decode("utf-8", "replace").split('"' if b'"' in content else " ")
    words[rng.randrange(len(words))] = str(rng.choice(mutators.ODD))
    return ('"' if b'"' in content else " ").join(words).encode("utf-8", "replace")


def attack_converter(format: str, bad: bytes, place: Place) -> str:
    """Spoil a file or two of a foreign data set; what comes out is a folder that reads, or nothing."""
    sys.path.insert(0, str(TESTS / "data/convert"))
    import foreign

    from kseg import data
    from kseg.data import open as open_source

    good, root, out = place.folder / "good", place.folder / "source", place.folder / "out"
    place.once("good", lambda: getattr(foreign, format)(good))
    renew(good, root)
    shutil.rmtree(out, ignore_errors=True)
    rng = rng_of(f"convert {format}", bad)
    described = [path for path in sorted(root.rglob("*")) if path.suffix in (".json", ".xml", ".txt")]
    for _ in range(rng.choice((1, 1, 2))):
        every = sorted(path for path in root.rglob("*") if path.is_file())
        file = rng.choice(described if described and rng.random() < 0.7 else every)
        content = file.read_bytes()
        spoil: Callable[[bytes, random.Random], bytes] = mutators.spoil_bytes
        if file.suffix == ".json" and rng.random() < 0.8:
            spoil = mutators.spoil_json
        elif file.suffix in (".xml", ".txt") and rng.random() < 0.6:
            spoil = _spoil_text
        file.write_bytes(spoil(content, rng))
    skip = rng.random() < 0.3
    name = "cvat" if format == "cvat_masks" else format
    said, _ = outcome(lambda: data.convert(root, name, out, skip_bad=skip))
    if said == "refused":
        if out.exists():
            raise WrongResult(f"refused, and {out.name} is there: {sorted(out.iterdir())}")
        return said
    folder = open_source(out)
    for item in (item for items in folder.items.values() for item in items):
        content = folder.read(item)
        ids = set(np.unique(content.mask).tolist()) - {*range(folder.spec.num_classes), folder.spec.ignore_id}
        if ids or content.mask.shape != content.image.shape[:2]:
            raise WrongResult(f"ids {sorted(ids)} beside {folder.spec.num_classes} classes, or another size")
    return said


FORMATS = ("voc", "cvat_masks", "cityscapes", "ade20k", "labelme", "cvat", "supervisely", "coco")
KINDS = (
    *(
        Kind(name, functools.partial(spoil_picture, name), functools.partial(read_picture, name), f"x.{name}")
        for name in PICTURES
    ),
    *(
        Kind(
            f"state dict {form}",
            functools.partial(spoil_state_dict, form),
            functools.partial(read_state_dict, form),
            "w.pth",
        )
        for form in ("zip", "stream")
    ),
    Kind("dataset cache", number_of, attack_cache, share=0.3, seconds=40),
    *(
        Kind(f"convert {name}", number_of, functools.partial(attack_converter, name), share=0.6)
        for name in FORMATS
    ),
)
