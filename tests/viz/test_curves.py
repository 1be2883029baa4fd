"""The history CSV and its plot."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kseg import viz
from kseg.errors import DataError
from kseg.viz import plot_history
from kseg.viz.curves import charts
from kseg.viz.report_charts import curves_section, ticks

TEXT = (
    "epoch,loss,val_loss,miou,learning_rate\n0,2.0,2.5,0.1,0.001\n1,1.0,,nan,0.0005\n2,0.5,0.9,0.4,0.0001\n"
)


def written(tmp_path, text):
    path = tmp_path / "history.csv"
    path.write_text(text)
    return path


def test_read_history(tmp_path):
    history = viz.read_history(written(tmp_path, TEXT))
    assert history["epoch"] == [0, 1, 2]
    assert history["val_loss"][0] == 2.5
    assert math.isnan(history["val_loss"][1])
    assert viz.read_history(written(tmp_path, "loss\n1\n2\n"))["epoch"] == [0, 1]


@pytest.mark.parametrize(
    "text", [TEXT, "epoch,loss\n0,1.0\n", "epoch,loss\n0,0\n1,0\n", "loss\n1e9\n-3\ninf\n"]
)
def test_plot_is_a_picture(tmp_path, text):
    png = viz.plot_history(written(tmp_path, text), tmp_path / "curves.png")
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "history.csv"]


def test_scores_are_drawn_in_per_cent_and_read_as_they_are(tmp_path):
    history = viz.read_history(written(tmp_path, TEXT))
    assert history["miou"][2] == 0.4
    assert charts(history)["Mean IoU, %"]["train"][2] == pytest.approx(40)
    assert charts(history)["Loss"]["train"] == [2.0, 1.0, 0.5]
    assert "Mean IoU, %" in curves_section(written(tmp_path, TEXT))


@pytest.mark.parametrize("text", ["", "epoch,loss\n"])
def test_empty_histories_are_told(tmp_path, text):
    with pytest.raises(DataError, match="no epochs"):
        viz.plot_history(written(tmp_path, text), tmp_path / "x.png")


def test_missing_file_or_columns_are_told(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        viz.read_history(tmp_path / "none.csv")
    with pytest.raises(DataError, match="none of the columns"):
        viz.plot_history(written(tmp_path, "epoch,other\n0,1\n"), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_svg_leaves_gaps_and_counts_epochs_from_one(tmp_path):
    svg = curves_section(written(tmp_path, TEXT))
    assert svg.count("<svg") == 3  # loss, mean IoU, learning rate
    # The validation loss has a gap in the middle: two dots instead of one line.
    assert svg.count('<circle class="val"') == 2
    assert svg.count('<polyline class="train"') == 2
    assert ">1</text>" in svg
    assert ">3</text>" in svg
    assert "nan" not in svg
    assert curves_section(written(tmp_path, "epoch,other\n0,1\n")) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.77), (-3, 1e9), (1e-7, 3e-7)])
def test_ticks_are_round_and_inside(low, high):
    values = ticks(low, high)
    assert 2 <= len(values) <= 8
    assert low - 1e-9 * abs(high) <= values[0] < values[-1] <= high * (1 + 1e-9)


def test_needs_no_keras():
    code = (
        "import sys, kseg.viz; print([m for m in ('keras', 'tensorflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "text", ["1000000000,1.5\n1,1.25\n", "1,1e308\n2,-1e308\n", "3,1\n3,2\n", "1,1e-320\n2,0\n"]
)
def test_a_history_that_was_edited_is_drawn(text: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,learning_rate\n" + "".join(f"{line},0.01\n" for line in text.splitlines()))
    assert "Learning rate" in curves_section(path)
    plot_history(path, tmp_path / "p.png")
