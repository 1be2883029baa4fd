"""`kseg evaluate`, `kseg predict` and `kseg inspect`: what they write, print and answer to bad input."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from kseg import output, saving, viz
from kseg.cli.main import main
from kseg.errors import UsageError
from kseg.inference.image_files import find_images, unique_names
from kseg.spec import Normalization, Spec, voc_palette
from kseg.training import TrainConfig

CLASSES = ("dark", "bright")
SPEC = Spec(
    classes=CLASSES,
    palette=((10, 20, 30), (200, 100, 0)),
    normalization=Normalization(mean=(127.5,) * 3, std=(127.5,) * 3),
    input_size=(24, 32),
    recipe={"seed": 1, "resolved": {"class_weights": [1.0, math.e]}},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that calls a pixel bright when its mean is above the middle: no training needed."""
    image = keras.Input((None, None, 3), name="image")
    head = keras.layers.Conv2D(2, 1)
    network = keras.Model(image, head(image))
    head.set_weights([np.array([[[[-1, 1]] * 3]], np.float32), np.zeros(2, np.float32)])
    path = tmp_path_factory.mktemp("model") / "model.keras"
    saving.save(network, path, SPEC)
    return path


def photo(size: tuple[int, int]) -> np.ndarray:
    """Dark left, bright right."""
    image = np.full((*size, 3), 20, np.uint8)
    image[:, size[1] // 2 :] = 230
    return image


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A semantic folder with a void strip, and one wrong column in every truth."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
    for index, size in enumerate([(24, 32), (30, 50), (11, 16)]):
        truth = np.zeros(size, np.uint8)
        truth[:, size[1] // 2 - 1 :] = 1
        truth[0] = 255
        Image.fromarray(photo(size)).save(root / f"images/val/{index}.png")
        Image.fromarray(truth).save(root / f"labels/val/{index}.png")
    classes = {"classes": list(CLASSES), "palette": [[10, 20, 30], [200, 100, 0]], "void_id": 255}
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def test_evaluate_json_equals_counting_by_hand(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert (
        main(["evaluate", str(model), "--data", str(data), "--split", "val", "--json", "--out", str(out)])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    rows = 23 + 29 + 10
    pixels = 23 * 32 + 29 * 50 + 10 * 16
    assert result == json.loads(out.read_text())
    assert result["images"] == 3
    assert result["pixels"] == pixels
    assert result["pixel_acc"] == pytest.approx((pixels - rows) / pixels)
    dark, bright = result["classes"]
    assert dark["name"] == "dark"
    assert dark["acc"] == 1
    assert bright["iou"] == pytest.approx((pixels / 2) / (pixels / 2 + rows))
    assert result["miou"] == pytest.approx((dark["iou"] + bright["iou"]) / 2)


def test_a_folder_with_a_test_split_only_is_scored_without_a_word(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "labels"):
        shutil.copytree(data / kind / "val", tmp_path / "only" / kind / "test")
    shutil.copy(data / "classes.json", tmp_path / "only")
    scores = []
    for more in (["--split", "test"], []):
        assert main(["evaluate", str(model), "--data", str(tmp_path / "only"), "--json", *more]) == 0
        printed = capsys.readouterr()
        assert printed.err.strip().splitlines() == ["scoring test: 3 …"]
        scores.append(json.loads(printed.out))
    assert scores[0]["split"] == scores[1]["split"] == "test"
    assert scores[0]["miou"] == scores[1]["miou"]


def test_evaluate_prints_a_table_and_the_next_command(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["evaluate", str(model), "--data", str(data), "--limit", "2", "--flip", "--scales", "1,1.5"])
        == 0
    )
    printed = capsys.readouterr()
    for word in ("bright", "miou", "fwiou", "2 images"):
        assert word in printed.out
    assert "kseg predict" in printed.err


def test_prior_takes_back_class_weights(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), "--data", str(data), "--json", "--prior", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["prior"] == 2
    from kseg.semantic.options.look import prior_bias

    assert prior_bias(SPEC, 0.5, "m") == pytest.approx([0, -0.5])
    other_head = dataclasses.replace(SPEC, classes=("sky", "horizontal", "vertical"), palette=None)
    with pytest.raises(UsageError, match="those of 2 classes and gives 3"):
        prior_bias(other_head, 0.5, "m")


def test_evaluate_refuses_what_cannot_be_scored(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.keras"
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    saving.save(network, other, Spec(classes=("dark", "bright", "grey")))
    assert main(["evaluate", str(other), "--data", str(data)]) == 2
    assert "only the model has grey" in capsys.readouterr().err
    assert main(["evaluate", str(other), "--data", str(data), "--prior", "1"]) == 2
    assert "class weights" in capsys.readouterr().err
    assert main(["evaluate", str(model), "--data", str(data), "--split", "test"]) == 2
    assert "test" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none.keras"), "--data", str(data)]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--scales", "a"], ["--limit", "0"], ["--overlap", "1"], ["--size", "32by32"], ["--prior", "x"]],
)
def test_wrong_numbers_are_usage_errors(options: list[str], model: Path, data: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(model), "--data", str(data), *options])
    assert caught.value.code == 2


def test_predict_writes_ids_colours_and_overlays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, size in (("a.png", (24, 32)), ("b.PNG", (50, 70)), ("sub/a.png", (1, 2))):
        Image.fromarray(photo(size)).save(folder / name, format="PNG")
    (folder / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    assert main(["predict", str(model), str(folder), "--out", str(out), "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in listing["images"]] == ["photos_a", "b", "sub_a"]
    assert len(list(out.iterdir())) == 9
    for entry in listing["images"]:
        mask = Image.open(entry["mask"])
        ids = np.asarray(mask)
        assert mask.mode == "P"
        assert ids.shape == (entry["height"], entry["width"])
        assert np.array_equal(ids, np.asarray(Image.open(entry["image"]))[..., 0] > 127)
        colors = np.asarray(Image.open(entry["color"]))
        assert np.array_equal(colors, np.array(SPEC.palette, np.uint8)[ids])
        assert np.array_equal(np.asarray(mask.convert("RGB")), colors)
        overlay = Image.open(entry["overlay"])
        assert overlay.format == "JPEG"
        assert overlay.height > entry["height"]  # the legend
    assert listing["images"][0]["shares"] == {"dark": 0.5, "bright": 0.5}


def test_plain_has_the_image_s_own_size_and_no_seams(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photo((700, 2000))
    image[250:262, :] = 230
    Image.fromarray(image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    words = ["predict", str(model), str(tmp_path / "a.png"), "--out", str(out), "--json"]
    assert main([*words, "--write", "mask,plain,overlay"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["images"]
    plain = np.asarray(Image.open(entry["plain"])).astype(int)
    assert plain.shape == image.shape
    assert np.asarray(Image.open(entry["overlay"])).shape[1] == 2000
    # Written by bands of rows: the same as in one go, to JPEG's rounding.
    whole = viz.overlay(image, np.asarray(Image.open(entry["mask"])), SPEC).astype(int)
    assert np.abs(plain - whole).mean() < 2
    bands = plain[255:258] - whole[255:258]
    assert np.abs(bands).mean() < 4


def test_the_sum_of_unread_images_fits_their_number(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(model), str(tmp_path), "--out", str(tmp_path / "out"), "--write", "mask"]

    def lines() -> list[str]:
        assert main(words) == 2
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("kseg: ")]

    (tmp_path / "a.png").write_bytes(b"")
    assert len(lines()) == 1  # the image's own line says all
    (tmp_path / "b.png").write_bytes(b"")
    assert lines()[-1] == "kseg: none of the 2 images could be read"
    Image.fromarray(photo((8, 8))).save(tmp_path / "c.png")
    assert lines()[-1] == "kseg: 2 of 3 images could not be read; the other is done"
    Image.fromarray(photo((8, 8))).save(tmp_path / "d.png")
    assert lines()[-1] == "kseg: 2 of 4 images could not be read; the others are done"


def test_predict_names_a_bad_image_and_does_the_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo((20, 20))).save(folder / "good.png")
    Image.fromarray(photo((20, 20))).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.full((5, 6), 60000, np.uint16)).save(folder / "deep.png")
    Image.fromarray(photo((8, 8))).convert("CMYK").save(folder / "print.jpg")
    out = tmp_path / "out"
    assert main(["predict", str(model), str(folder), "--out", str(out), "--json", "--write", "mask"]) == 2
    printed = capsys.readouterr()
    listing = json.loads(printed.out)
    assert {Path(entry["image"]).name for entry in listing["failed"]} == {"cut.png", "empty.jpg"}
    assert "cut.png" in printed.err
    assert "2 of 5" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["deep_mask.png", "good_mask.png", "print_mask.png"]
    assert (np.asarray(Image.open(out / "deep_mask.png")) == 1).all()


def test_predict_leaves_its_own_pictures_out(model: Path, tmp_path: Path) -> None:
    Image.fromarray(photo((8, 8))).save(tmp_path / "a.png")
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["predict", str(model), str(tmp_path), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_color.png", "a_mask.png", "a_overlay.jpg"]
    assert find_images([str(tmp_path), str(tmp_path / "a.png")], out) == [tmp_path / "a.png"]


def test_predict_never_writes_over_an_image_that_it_reads(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {tmp_path / name: photo((8, size)) for size, name in enumerate(("a.png", "a_mask.png"), start=8)}
    for path, image in own.items():
        Image.fromarray(image).save(path)
    before = {path: path.read_bytes() for path in own}
    command = ["predict", str(model), str(tmp_path), "--out", str(tmp_path), "--write"]
    assert main([*command, "color,mask"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"The mask of '{tmp_path / 'a.png'}' would be written over '{tmp_path / 'a_mask.png'}'" in said
    assert "--out elsewhere" in said
    # Nothing at all was written, and a second run cannot eat the pictures of the first.
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "a_mask.png").unlink()
    assert main([*command, "mask"]) == 0
    assert main([*command, "mask"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a_mask.png"]
    # By another name of the same file.
    link = tmp_path / "other" / "b.png"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "a_mask.png")
    assert main(["predict", str(model), str(tmp_path / "a.png"), str(link), *command[3:], "mask"]) == 2


def test_predict_refuses_missing_and_empty_sources(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for arguments, words in (
        ([str(tmp_path / "none")], "does not exist"),
        ([str(tmp_path / "empty")], "has no image"),
    ):
        assert main(["predict", str(model), *arguments, "--out", out]) == 2
        assert words in capsys.readouterr().err
    Image.fromarray(photo((8, 8))).save(tmp_path / "a.png")
    assert main(["predict", str(model), str(tmp_path / "a.png"), "--out", str(tmp_path / "file")]) == 2
    assert "must be a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", str(model), str(tmp_path / "a.png"), "--out", out, "--write", "mask,movie"])


def test_an_interrupted_predict_leaves_whole_pictures(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(photo((16, 16))).save(tmp_path / name)
    save = Image.Image.save

    def interrupt_b(picture: Image.Image, target: Any, *args: Any, **kwargs: Any) -> None:
        save(picture, target, *args, **kwargs)
        if "b_color" in str(target):
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt_b)
    out = tmp_path / "out"
    assert main(["predict", str(model), str(tmp_path), "--out", str(out)]) == 130
    written = sorted(path.name for path in out.iterdir())
    assert written == ["a_color.png", "a_mask.png", "a_overlay.jpg", "b_mask.png"]


def test_names_are_distinct_and_as_short_as_possible() -> None:
    paths = [
        "x/1.jpg",
        "x/2.jpg",
        "y/2.jpg",
        "x/3.jpg",
        "x/3.png",
        "z/x/4.jpg",
        "x/4.jpg",
        "x/A.jpg",
        "y/a.jpg",
    ]
    names = unique_names(map(Path, paths))
    assert names[:3] == ["1", "x_2", "y_2"]
    assert names[3:5] == ["x_3_jpg", "x_3_png"]
    assert names[5:7] == ["x_4_jpg", "x_4_jpg_2"]
    assert len({name.lower() for name in names}) == len(names)
    tricky = unique_names(map(Path, ["a/b.png", "c/b.png", "d/a_b.png", "a_b.png"]))
    assert len(set(tricky)) == 4


def test_inspect_shows_the_spec(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert Spec.from_dict(shown["spec"]) == saving.read_spec(model)
    assert shown["bytes"] == model.stat().st_size
    assert main(["inspect", str(model)]) == 0
    table = capsys.readouterr().out
    for word in ("24x32", "bright", "seed 1", "void is 255"):
        assert word in table
    assert main(["inspect", str(model), "--full"]) == 0
    table = capsys.readouterr().out
    for word in ("24x32", "bright", "recipe.seed", "200 100 0"):
        assert word in table


def test_inspect_fits_one_screen(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a training and a verified export record, and 150 classes, in 40 lines of 100 columns."""
    monkeypatch.setattr(output.console, "width", 100)
    path = tmp_path / "m.keras"
    network = saving.load(model)
    arguments = {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
    verify = {"status": "passed", "images": 32, "source": "squares", "split": "val", "miou": 0.5}
    verify |= {"miou_reference": 0.51, "drop": 1.0, "budget": 1.5, "agreement": 0.98}
    verify["per_class"] = [{"class": name, "drop": 0.1} for name in "abcdefgh"]
    head = keras.layers.Conv2D(150, 1)
    network = keras.Model(network.inputs[0], head(network.inputs[0]))
    spec = SPEC.replace(
        classes=tuple(f"class {index}" for index in range(150)),
        palette=voc_palette(150),
        architecture="UNet",
        arch_args={"num_classes": 150, "width": 0.25, "encoder": None},
        recipe={"arguments": arguments, "versions": dict.fromkeys("abcdef", "1.2.3"), "seed": 3},
        export={"format": "tflite", "precision": "int8", "tools": {"keras": "3"}, "verify": verify},
    )
    saving.save(network, path, spec)
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    text = " ".join(" ".join(lines).split())
    assert (
        "passed: 32 images of squares val; mIoU 50.0, of the reference 51.0; lost +1.00 points of 1.5" in text
    )
    assert "class 23" in text
    assert "None" not in text


def test_inspect_says_what_an_alien_file_lacks(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain.keras"
    saving.load(model).save(plain)
    half = tmp_path / "half.keras"
    half.write_bytes(model.read_bytes()[:500])
    alien = tmp_path / "alien.tflite"
    alien.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))
    text = tmp_path / "notes.txt"
    text.write_text("x")
    for path, words in (
        (plain, "lacks the member kseg.json"),
        (half, "truncated"),
        (alien, "spec"),
        (text, ".tflite"),
        (tmp_path / "none.keras", "none.keras"),
        (tmp_path, "folder"),
    ):
        assert main(["inspect", str(path)]) == 2
        error = capsys.readouterr().err
        assert words in error, (path, error)
        assert len(error.strip().splitlines()) == 1


def test_min_miou_is_a_gate(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), "--data", str(data), "--json"]) == 0
    miou = 100 * json.loads(capsys.readouterr().out)["miou"]
    command = ["evaluate", str(model), "--data", str(data), "--json", "--min-miou"]
    assert main([*command, str(miou - 0.01)]) == 0
    capsys.readouterr()
    assert main([*command, str(miou + 0.01)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["miou"] == pytest.approx(miou / 100)
    assert "--min-miou asks for" in printed.err


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_images_far_larger_than_in_training_are_spoken_of_once(
    command: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images/val", "labels/val"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index in range(2):
        Image.fromarray(photo((80, 90))).save(tmp_path / f"data/images/val/{index}.png")
        Image.fromarray(np.zeros((80, 90), np.uint8)).save(tmp_path / f"data/labels/val/{index}.png")
    (tmp_path / "data/classes.json").write_text((data / "classes.json").read_text())
    where = {
        "predict": [str(tmp_path / "data/images"), "--out", str(tmp_path / "out")],
        "evaluate": ["--data", str(tmp_path / "data"), "--split", "val"],
    }
    assert main([command, str(model), *where[command]]) == 0
    error = " ".join(capsys.readouterr().err.split())
    assert error.count("note: an image of 80x90 is 3.1 times the size") == 1
    assert "--resize fit --size 24x32" in error
    assert main([command, str(model), *where[command], "--resize", "fit"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_inspect_names_the_rule(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model)]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "none: the scale stays; smaller images are padded to 24x32, larger ones are cut into tiles" in shown
    )
    assert "trained at 24x32" in shown
