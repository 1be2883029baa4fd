"""The report page: whole, self-contained, escaped."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kseg import viz
from kseg.errors import UsageError
from kseg.metrics import Confusion
from kseg.spec import Spec

EVIL = '<script>alert("x")</script>&\'"'
SPEC = Spec(classes=("sky", EVIL), palette=((10, 20, 30), (200, 0, 0)), architecture=EVIL, input_size=(4, 6))
VOID_TAGS = {"meta", "img", "input", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Collects tags and attributes; `open` must be empty at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def examples():
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype("uint8")
    truth = np.zeros((4, 6), "uint8")
    truth[0], truth[1, 0] = 255, 1
    return [(EVIL, image, truth, np.ones((4, 6), "uint8")), ("second", image, None, truth)]


def full(tmp_path, **changes):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,2,3\n1,1,2\n")
    arguments = {
        "title": EVIL,
        "spec": SPEC,
        "history_csv": tmp_path / "history.csv",
        "examples": examples(),
        "scores": {
            "test": Confusion.from_matrix([[90, 10], [0, 0]]),
            EVIL: {"miou": 0.5, "iou": [0.5, None]},
        },
        "exports": [
            {"file": EVIL, "size_bytes": 2_500_000, "p50_ms": 1.25, "miou_drop": 0.4, "verify": "passed"},
            {"file": "b", "p50_ms": None, "verify": False, EVIL: EVIL},
            {"file": "c", "verify": "built, not run: no CUDA device"},
        ],
        "phases": {EVIL: {"seconds": 1.5, EVIL: 1200, "words": EVIL, "table": {EVIL: 1}}, "odd": {"a": []}},
        "notes": {EVIL: EVIL},
        "commands": [EVIL],
    }
    path = viz.write_report(tmp_path / "report.html", **{**arguments, **changes})
    return path.read_text(encoding="utf-8")


def decoded(uri):
    assert uri.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_page_is_well_formed_and_every_user_text_is_escaped(tmp_path):
    text = full(tmp_path)
    page = Page(text)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", text)
    assert EVIL in "".join(page.words)


def test_phases_say_their_numbers(tmp_path):
    text = "".join(Page(full(tmp_path)).words).split("Phases of the training")[1].split("How each number")[0]
    assert text == f"phasesecondswhat it says{EVIL}1.5{EVIL} 1,200odd\N{EN DASH}"


def test_page_needs_no_other_file(tmp_path):
    text = full(tmp_path)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object")
        assert "srcset" not in attributes
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\(", text)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["history.csv", "report.html"]


def test_example_layers_hold_the_right_pixels(tmp_path):
    page = Page(full(tmp_path))
    layers = [
        (image["data-layer"], decoded(image["src"])) for image in page.all("img") if "data-layer" in image
    ]
    assert [name for name, _ in layers] == ["image", "truth", "prediction", "errors", "image", "prediction"]
    assert all(picture.size == (6, 4) for _, picture in layers)
    truth = np.asarray(layers[1][1].convert("RGBA"))
    assert truth[0, 0, 3] == 0
    assert truth[1, 0].tolist() == [200, 0, 0, 255]
    assert truth[1, 1].tolist() == [10, 20, 30, 255]
    errors = np.asarray(layers[3][1].convert("RGBA"))
    # The prediction is class 1 everywhere: wrong but where the truth is 1 or ignored.
    assert (errors[..., 3] > 0).tolist() == [[False] * 6, [False, *[True] * 5], [True] * 6, [True] * 6]


def test_viewer_styles_let_a_hidden_layer_hide(tmp_path):
    # `.stage img` sets a display, which would beat the `hidden` attribute that the script uses.
    assert ".stage img[hidden]{display:none}" in full(tmp_path)


def test_numbers_and_verdicts(tmp_path):
    text = full(tmp_path)
    words = "".join(Page(text).words)
    # Two classes: sky has IoU 90 / 100; the other is only predicted.
    for shown in ("90.0 %", "45.0 %", "2.50 MB", "1.2", "+0.40", "built, not run: no CUDA device"):
        assert shown in words
    assert re.findall(r'class="pill (\w*)"', text) == ["good", "bad", ""]


def _export_rows():
    numbers = {"miou": 0.903, "miou_drop": -0.14, "agreement": 0.9926, "p50_ms": 260.0, "p95_ms": 471.2}
    numbers |= {"images_per_s": 3.4, "ratio": 0.33, "load_ms": 346.0, "peak_mb": 1130.0}
    facts = {"format": "tensorrt", "precision": "float16", "size_bytes": 200_000_000}
    names = ("model_with_a_rather_long_name_float16.engine", "b.tflite", "c.onnx")
    rows = [{"file": name, **facts, **numbers, "verify": "passed"} for name in names]
    rows[0] |= dict.fromkeys(numbers) | {"verify": "UNVERIFIED", "reason": "not run: no CUDA device"}
    return rows


def test_exports_put_the_verdict_first_and_give_the_reason(tmp_path):
    text = full(tmp_path, exports=_export_rows())
    table = text[text.index('<table class="exports">') :]
    assert re.findall("<th[^>]*>([^<]*)</th>", table)[:5] == [
        "file",
        "verify",
        "mIoU",
        "points lost",
        "agreement",
    ]
    assert "tensorrt, float16, 200.00 MB, not run: no CUDA device</small>" in table
    # A narrow screen names each value in its cell.
    assert table.count('data-label="agreement"') == 3


@pytest.mark.parametrize("width", [1400, 500])
def test_exports_fit_the_page(tmp_path, width):
    """Laid out by a browser: the table is no wider than the box that would cut it off."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium to lay the page out")
    full(tmp_path, exports=_export_rows())
    page = tmp_path / "report.html"
    measure = (
        "<script>var box=document.querySelector('.exports').parentNode;"
        "document.title=box.scrollWidth-box.clientWidth</script></body>"
    )
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", measure), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    title = re.search("<title>([^<]*)</title>", ran.stdout)
    assert title, ran.stderr[-2000:]
    assert title[1] == "0"


def test_a_confusion_table_of_many_classes_folds_away(tmp_path):
    few, many = (
        Spec(classes=tuple(f"c{index}" for index in range(count)), ignore_id=255) for count in (12, 21)
    )
    for spec, folded in ((few, False), (many, True)):
        matrix = np.eye(spec.num_classes, dtype=int)
        example = ("a", np.zeros((2, 2, 3), "uint8"), None, np.zeros((2, 2), "uint8"))
        text = full(tmp_path, spec=spec, examples=[example], scores={"test": Confusion.from_matrix(matrix)})
        assert ("<details><summary>test: 21 classes</summary>" in text) is folded
        assert Page(text).open == []


def test_sections_without_content_are_left_out(tmp_path):
    empty = {
        "examples": (),
        "scores": None,
        "exports": (),
        "notes": (),
        "commands": (),
        "history_csv": None,
        "phases": None,
    }
    text = full(tmp_path, **empty)
    assert "<section>" not in text
    assert Page(text).open == []


def test_many_classes_list_the_largest_confusions(tmp_path):
    spec = Spec(classes=tuple(f"thing {index}" for index in range(300)), ignore_id=999)
    matrix = np.eye(300, dtype=int) * 5
    matrix[7, 250] = 15
    mask = np.array([[299, 0, 999]])
    example = ("one", np.zeros((1, 3, 3), "uint8"), mask, np.array([[299, 299, 0]]))
    text = full(tmp_path, spec=spec, examples=[example], scores={"test": Confusion.from_matrix(matrix, 999)})
    assert "<td>75.0 %</td>" in text.replace(' class="n"', "")
    layers = [decoded(image["src"]) for image in Page(text).all("img") if image.get("data-layer") == "truth"]
    pixels = np.asarray(layers[0].convert("RGBA"))[0].tolist()
    assert pixels[0] == [*spec.palette[299], 255]
    assert pixels[2][3] == 0


def test_matrix_in_a_dict_gives_the_table(tmp_path):
    confusion = Confusion.from_matrix([[3, 1], [0, 4]])
    scores = {"val": {**confusion.scores(), "matrix": confusion.matrix.tolist()}}
    assert full(tmp_path, scores=scores).count('<table class="heat">') == 1


def test_misfits_are_told_and_leave_the_old_page(tmp_path):
    before = full(tmp_path)
    with pytest.raises(UsageError, match="2 classes of the spec"):
        full(tmp_path, scores={"test": Confusion.from_matrix(np.eye(3, dtype=int))})
    name, image, truth, _ = examples()[0]
    with pytest.raises(UsageError, match="one size"):
        full(tmp_path, examples=[(name, image, truth, np.zeros((9, 9), int))])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
