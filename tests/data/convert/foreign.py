"""Tiny data sets as the tools write them, with the label maps that must come out of them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kseg.spec import voc_palette

SIZE = (12, 16)


def image(folder: Path, name: str, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Write a picture of noise."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def ids(seed: int, values: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), size)


def png(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture = Image.fromarray(pixels, mode="L").convert("L")
        picture.putpalette([value for color in voc_palette(256) for value in color])
    picture.save(path)


def voc(root: Path) -> dict[str, np.ndarray]:
    """VOC: palette PNGs with the border 255; test.txt lists an image without a mask."""
    expected = {}
    for index, (split, name) in enumerate([("train", "2007_000032"), ("val", "2007_000033")]):
        image(root / "JPEGImages", f"{name}.jpg")
        expected[f"{split}/{name}"] = ids(index, [0, 1, 15, 20, 255])
        png(root / "SegmentationClass" / f"{name}.png", expected[f"{split}/{name}"], palette=True)
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", f"{name}\n")
    image(root / "JPEGImages", "2008_000001.jpg")
    image(root / "JPEGImages", "2009_000001.jpg")  # of the detection task, in no list
    write(root / "ImageSets" / "Segmentation" / "test.txt", "2008_000001\n")
    write(root / "ImageSets" / "Segmentation" / "trainval.txt", "2007_000032\n2007_000033\n")
    return expected


def cvat_masks(root: Path) -> dict[str, np.ndarray]:
    """CVAT's "Segmentation mask 1.1": colours by labelmap.txt, one list default.txt."""
    colors = {
        "background": (0, 0, 0),
        "cat": (250, 50, 83),
        "ignored": (224, 224, 192),
        "dog": (51, 221, 255),
    }
    write(
        root / "labelmap.txt",
        "# label:color_rgb:parts:actions\n"
        + "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in colors.items()),
    )
    lookup = np.zeros((256, 3), np.uint8)
    for value, name in {0: "background", 1: "cat", 2: "dog", 255: "ignored"}.items():
        lookup[value] = colors[name]
    expected = {}
    for index, name in enumerate(["a", "b", "c"]):
        image(root / "JPEGImages", f"{name}.jpg")
        expected[name] = ids(index, [0, 1, 2, 255])
        png(root / "SegmentationClass" / f"{name}.png", lookup[expected[name]])
    write(root / "ImageSets" / "Segmentation" / "default.txt", "a\nb\nc\n")
    return expected


def cityscapes(root: Path) -> dict[str, np.ndarray]:
    """34 ids in train, trainIds in val, a test split that is all void."""
    train_ids = {0: 255, 7: 0, 8: 1, 11: 2, 26: 13, 33: 18, 3: 255, 29: 255}
    expected = {}
    for split, city, end in [
        ("train", "aachen", "labelIds"),
        ("val", "lindau", "labelTrainIds"),
        ("test", "berlin", "labelIds"),
    ]:
        stem = f"{city}_000000_000019"
        image(root / "leftImg8bit" / split / city, f"{stem}_leftImg8bit.png")
        raw = ids(3, list(train_ids)) if split != "test" else np.full(SIZE, 3, np.uint8)
        wanted = np.vectorize(train_ids.get)(raw).astype(np.uint8)
        stored = raw if end == "labelIds" else wanted
        png(root / "gtFine" / split / city / f"{stem}_gtFine_{end}.png", stored)
        if split != "test":
            expected[f"{split}/{city}/{stem}"] = wanted
    return expected


def ade20k(root: Path) -> dict[str, np.ndarray]:
    expected = {}
    for index, (folder, split) in enumerate([("training", "train"), ("validation", "val")]):
        name = f"ADE_{split}_0000000{index + 1}"
        image(root / "images" / folder, f"{name}.jpg")
        raw = ids(index, [0, 1, 13, 150])
        png(root / "annotations" / folder / f"{name}.png", raw)
        expected[f"{split}/{name}"] = (raw - 1).astype(np.uint8)  # 0 wraps round to 255: void
    return expected


def id_masks(root: Path) -> dict[str, np.ndarray]:
    """Folders of images and of 16-bit masks in which each object has an id."""
    expected = {}
    for split, name, seed in (("train", "a", 1), ("train", "b", 2), ("val", "c", 3)):
        image(root / "images" / split, f"{name}.jpg", seed)
        mask = ids(seed, [0, 1, 2, 7]).astype(np.uint16) * 100
        target = root / "instances" / split / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png_bytes(mask))
        expected[f"{split}/{name}"] = (mask > 0).astype(np.uint8)
    return expected


def labelme(root: Path) -> dict[str, np.ndarray]:
    """Polygon, rectangle, circle, mask, a line, and an image that only the JSON file holds."""
    expected = {}
    on = np.eye(3, dtype=np.uint8) * 255
    shapes = [
        {"label": "cat", "points": [[1, 1], [5, 1], [5, 6], [1, 6]], "shape_type": "polygon"},
        {"label": "dog", "points": [[9, 7], [7, 3]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[12, 3], [12, 5]], "shape_type": "circle"},
        {
            "label": "cat",
            "points": [[2, 8], [4, 10]],
            "shape_type": "mask",
            "mask": base64.b64encode(png_bytes(on)).decode(),
        },
        {"label": "dog", "points": [[0, 0], [3, 3]], "shape_type": "line"},
    ]
    wanted = np.zeros(SIZE, np.uint8)
    wanted[1:7, 1:6] = 1
    wanted[3:8, 7:10] = 2
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.hypot(rows - 3, columns - 12) <= 2.3  # Pillow's ellipse in the box 10-14, 1-5
    wanted[disc] = 255
    for step in range(3):
        wanted[8 + step, 2 + step] = 1
    for name in ("walk_001", "walk_002", "home_001"):
        path = image(root, f"{name}.jpg")
        expected[name] = wanted
        write(root / f"{name}.json", _labelme_file(f"{name}.jpg", shapes, None))
    data = base64.b64encode(path.read_bytes()).decode()
    write(root / "held_7.json", _labelme_file("..\\gone\\held_7.jpg", shapes[:1], data))
    held = np.zeros(SIZE, np.uint8)
    held[1:7, 1:6] = 1
    expected["held_7"] = held
    write(root / "labels.txt", "__ignore__\n_background_\ncat\ndog\n")
    image(root, "not_drawn_on.jpg")
    return expected


def _labelme_file(name: str, shapes: list[dict[str, Any]], data: str | None) -> str:
    common = {"group_id": None, "description": "", "flags": {}}
    return json.dumps(
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": [{**shape, **common} for shape in shapes],
            "imagePath": name,
            "imageData": data,
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
    )


def png_bytes(pixels: np.ndarray, mode: str | None = None) -> bytes:
    held = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(held, "png")
    return held.getvalue()


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths of CVAT's XML, off first, row by row; written apart from the reader, pixel by pixel."""
    result, value = [0], False
    for pixel in mask.ravel().tolist():
        if pixel != value:
            result.append(0)
            value = pixel
        result[-1] += 1
    return result


def cvat(root: Path) -> dict[str, np.ndarray]:
    """Polygon below a box by z_order, a mask, a polyline; subsets as splits."""
    bits = ids(5, [0, 1], (4, 5)).astype(bool)
    shapes = f"""
    <polygon label="dog" source="manual" occluded="0" z_order="1"
      points="0.00,0.00;8.00,0.00;8.00,8.00;0.00,8.00"/>
    <box label="cat" source="manual" occluded="0" xtl="2.00" ytl="2.00" xbr="6.00" ybr="5.00" z_order="0"/>
    <box label="cat" source="manual" occluded="0" xtl="4.00" ytl="6.00" xbr="10.00" ybr="10.00" z_order="2"/>
    <mask label="void" source="manual" occluded="0" rle="{", ".join(map(str, runs(bits)))}" left="11" top="7"
      width="5" height="4" z_order="3"/>
    <polyline label="dog" source="manual" occluded="0" points="1.0,1.0;4.0,4.0" z_order="0"/>"""
    wanted = np.zeros(SIZE, np.uint8)
    wanted[:8, :8] = 2
    wanted[6:10, 4:10] = 1
    wanted[7:11, 11:16][bits] = 255
    body, expected = "", {}
    for index, (subset, split) in enumerate([("Train", "train"), ("Validation", "val"), ("Test", "test")]):
        image(root / "images" / subset, "frame_0.png")
        body += (
            f'<image id="{index}" name="frame_0.png" subset="{subset}" task_id="1" width="{SIZE[1]}" '
            f'height="{SIZE[0]}">{shapes}\n</image>\n'
        )
        expected[f"{split}/frame_0"] = wanted
    labels = "".join(
        f"<label><name>{name}</name><color>{color}</color><type>any</type><attributes></attributes></label>"
        for name, color in {"cat": "#fa3253", "dog": "#33ddff", "void": "#ffffff"}.items()
    )
    write(
        root / "annotations.xml",
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><project><labels>{labels}</labels></project></meta>\n{body}</annotations>\n",
    )
    return expected


def supervisely(root: Path) -> dict[str, np.ndarray]:
    """Two datasets that are splits; a polygon with a hole and a bitmap."""
    classes = [
        {"title": "lemon", "shape": "bitmap", "color": "#51C6AA", "geometry_config": {}},
        {"title": "kiwi", "shape": "polygon", "color": "#FF0000", "geometry_config": {}},
    ]
    write(root / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    bits = ids(9, [0, 1], (5, 4))
    palette = Image.fromarray(bits)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    held = io.BytesIO()
    palette.save(held, "png", transparency=0, optimize=0)  # supervisely's Bitmap.data_2_base64
    square = {"exterior": [[1, 1], [8, 1], [8, 8], [1, 8]], "interior": [[[4, 4], [5, 4], [5, 5], [4, 5]]]}
    objects = [
        {"classTitle": "kiwi", "geometryType": "polygon", "points": square, "tags": []},
        {
            "classTitle": "lemon",
            "geometryType": "bitmap",
            "bitmap": {"data": base64.b64encode(zlib.compress(held.getvalue())).decode(), "origin": [10, 6]},
        },
        {"classTitle": "kiwi", "geometryType": "point", "points": {"exterior": [[0, 0]], "interior": []}},
    ]
    wanted = np.zeros(SIZE, np.uint8)
    wanted[1:9, 1:9] = 2
    wanted[4:6, 4:6] = 0
    wanted[6:11, 10:14][bits > 0] = 1
    expected = {}
    for split in ("train", "val"):
        image(root / split / "img", "a.jpg")
        size = {"height": SIZE[0], "width": SIZE[1]}
        values = {"description": "", "tags": [], "size": size, "objects": objects}
        write(root / split / "ann" / "a.jpg.json", json.dumps(values))
        expected[f"{split}/a"] = wanted
    return expected


def coco(root: Path) -> dict[str, np.ndarray]:
    """instances_train2017.json and val: polygon over RLE, a crowd."""
    bits = np.zeros(SIZE, bool)
    bits[2:9, 3:12] = True
    column_runs = runs(bits.T)
    square = [4.0, 4.0, 8.0, 4.0, 8.0, 7.0, 4.0, 7.0]
    crowd = np.zeros(SIZE, bool)
    crowd[0:2, 0:2] = True
    wanted = np.zeros(SIZE, np.uint8)
    wanted[crowd] = 255
    wanted[bits] = 2
    wanted[4:7, 4:8] = 1
    expected = {}
    for split in ("train2017", "val2017"):
        image(root / split, "000000000009.jpg")
        records = [
            {"id": 1, "image_id": 9, "category_id": 7, "segmentation": [square], "iscrowd": 0, "area": 12.0},
            {"id": 2, "image_id": 9, "category_id": 9, "iscrowd": 0, "bbox": [3, 2, 9, 7]}
            | {"segmentation": {"size": list(SIZE), "counts": column_runs}},
            {"id": 3, "image_id": 9, "category_id": 7, "iscrowd": 1}
            | {"segmentation": {"size": list(SIZE), "counts": runs(crowd.T)}},
        ]
        values = {
            "info": {},
            "images": [{"id": 9, "file_name": "000000000009.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": records,
            "categories": [{"id": 9, "name": "bus"}, {"id": 7, "name": "person", "supercategory": "x"}],
        }
        write(root / "annotations" / f"instances_{split}.json", json.dumps(values))
        expected[f"{split.removesuffix('2017')}/000000000009"] = wanted
    return expected


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
