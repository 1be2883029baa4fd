"""`kseg report` on a run folder made by hand, and the commands that `kseg quickstart` types."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import deploy
import kseg
from kseg import tasks
from kseg.cli import main as cli
from kseg.cli import quickstart
from kseg.cli.main import main

SIZE = (16, 24)


def make_data(root: Path) -> Path:
    """Dark and bright halves, with a void row; the truth of the first image is wrong in one column."""
    for split, count in (("train", 2), ("val", 3)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            image = np.full((*SIZE, 3), 20, np.uint8)
            image[:, 12:] = 230 - index
            truth = (image[..., 0] > 127).astype(np.uint8)
            truth[:, 11] = index == 0
            truth[0] = 255
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            Image.fromarray(truth).save(root / "labels" / split / f"{index}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["dark", "bright"], "void_id": 255}))
    return root


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `kseg train` leaves, with a network that needs no training: bright where the mean is high."""
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    data = make_data(tmp_path / "private" / "squares")
    image = keras.Input((None, None, 3), name="image")
    head = keras.layers.Conv2D(2, 1)
    network = keras.Model(image, head(image))
    head.set_weights([np.array([[[[-1, 1]] * 3]], np.float32), np.zeros(2, np.float32)])
    run = tmp_path / "run"
    spec = kseg.data.load(data, "val", batch_size=1).spec
    kseg.save(network, run / "model.keras", spec)
    (run / "history.csv").write_text("epoch,loss,val_miou\n1,0.5,0.4\n2,0.3,0.9\n")
    (run / "run.json").write_text(json.dumps({"data": {"source": str(data)}, "versions": {"keras": "3"}}))
    return run


def test_report_finds_the_data_by_run_json_and_scores_it(run_folder: Path) -> None:
    assert main(["report", str(run_folder)]) == 0
    summary = json.loads((run_folder / "report.json").read_text())
    # Of 15 x 24 valid pixels in each of three images, 15 of the first are called dark and are bright.
    assert summary["scores"]["val"]["matrix"] == [[12 * 15 * 3 - 15, 0], [15, 12 * 15 * 3]]
    assert summary["spec"]["data"]["source"] == "squares"
    page = (run_folder / "report.html").read_text()
    assert "on squares</title>" in page
    assert 'src="http' not in page


def test_a_report_can_be_written_from_python(run_folder: Path) -> None:
    looped: list[str] = []

    def progress(items, total, text):
        looped.append(f"{text}: {total}")
        return items

    page, summary = deploy.report(run_folder, examples=1, progress=progress)
    assert page == run_folder / "report.html"
    assert page.is_file()
    assert json.loads(page.with_suffix(".json").read_text())["scores"].keys() == summary["scores"].keys()
    assert looped
    assert all(text.startswith("scoring ") for text in looped)


def test_a_report_names_no_absolute_path(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"path": str(run_folder / "exports" / "m.tflite"), "status": "measured"}]
    rows += [{"path": str(run_folder.parent / "elsewhere.onnx"), "status": "measured"}]
    setup = {"source": str(run_folder.parent / "private" / "squares")}
    (run_folder / "benchmark.json").write_text(json.dumps({"rows": rows, "setup": setup}))
    private = run_folder.parent / "private"
    for start, command in (
        (run_folder.parent, "kseg evaluate run/model.keras --data private/squares"),
        (private, "kseg evaluate run/model.keras --data squares"),
    ):
        monkeypatch.chdir(start)
        assert main(["report", str(run_folder)]) == 0
        page = (run_folder / "report.html").read_text()
        summary = (run_folder / "report.json").read_text()
        for text in (page, summary):
            assert str(run_folder.parent) not in text
        assert command in page
    kept = json.loads(summary)["benchmark"]
    assert [row["path"] for row in kept["rows"]] == ["exports/m.tflite", "elsewhere.onnx"]


def test_report_without_run_json_asks_for_the_data(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = json.loads((run_folder / "run.json").read_text())["data"]["source"]
    (run_folder / "run.json").unlink()
    assert main(["report", str(run_folder)]) == 2
    assert "give --data" in capsys.readouterr().err
    assert not (run_folder / "report.html").exists()
    assert main(["report", str(run_folder), "--data", source]) == 0


@pytest.mark.parametrize("task", [name for name in tasks.names() if tasks.find(name).quickstart])
def test_quickstart_types_commands_that_parse_and_cover_the_road(tmp_path: Path, task: str) -> None:
    steps = list(quickstart._steps(tmp_path / "run", tasks.find(task).quickstart, seed=0))
    for words in steps:
        cli._parse(words[1], words[2:])
    names = [words[1] for words in steps]
    order = ["check-data", "train", "evaluate", "predict", "export", "verify", "benchmark", "report"]
    assert list(dict.fromkeys(names)) == order
    exported = [words[words.index("--out") + 1] for words in steps if words[1] == "export"]
    assert [words[2] for words in steps if words[1] == "verify"] == exported


def test_quickstart_stops_at_the_first_step_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[str] = []

    def answer(words: list[str]) -> int:
        typed.append(words[0])
        return 1 if words[0] == "train" else 0

    monkeypatch.setattr(cli, "main", answer)
    arguments = cli._parse("quickstart", ["--out", str(tmp_path / "run")])
    assert quickstart.run(arguments) == 1
    assert typed == ["check-data", "train"]


def test_quickstart_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run-2").write_text("mine")
    assert quickstart._claim(tmp_path / "run") == tmp_path / "run-3"
    assert (tmp_path / "run" / "notes.txt").read_text() == (tmp_path / "run-2").read_text() == "mine"


def test_two_quickstarts_at_once_have_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: quickstart._claim(tmp_path / "runs" / "q"), range(8)))
    assert len(set(folders)) == 8
    assert all(folder.is_dir() for folder in folders)


def test_page_and_record_are_both_there_or_neither(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.reporting.write_report", full)
    with pytest.raises(OSError, match="No space"):
        deploy.report(run_folder, out=tmp_path / "place" / "r.html")
    assert list((tmp_path / "place").glob("*")) == []
