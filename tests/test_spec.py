"""kseg.spec: JSON in, JSON out, and nothing wrong gets in."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg.errors import ArtefactError, UsageError
from kseg.spec import Normalization, Spec, voc_palette

FULL = Spec(
    classes=("Straße", "sky"),
    palette=((0, 1, 2), (253, 254, 255)),
    ignore_id=2,
    task="instance",
    input_size=(360, 480),
    resize="stretch",
    normalization=Normalization(order="bgr", mean=(1, 2, 3), std=(4, 5, 6)),
    architecture="FCN8s",
    arch_args={"encoder": "vgg16", "width": 0.5},
    data={"source": "x", "fingerprint": "abc"},
    recipe={"seed": 3, "result": {"miou": 0.5}},
    export={"format": "tflite", "verify": {"passed": True}},
    kseg_version="0.1.0",
)


def test_json_round_trip_keeps_everything() -> None:
    assert Spec.from_json(FULL.to_json()) == FULL
    assert Spec.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


@settings(deadline=None)
@given(
    classes=st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True),
    size=st.none() | st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    mean=st.tuples(*[st.floats(0, 255)] * 3),
)
def test_round_trip_of_any_spec(
    classes: list[str], size: tuple[int, int] | None, mean: tuple[float, ...]
) -> None:
    spec = Spec(classes=tuple(classes), input_size=size, normalization=Normalization(mean=mean))  # type: ignore[arg-type]
    assert Spec.from_json(spec.to_json()) == spec


def test_numpy_numbers_are_taken() -> None:
    spec = Spec(classes=("a", "b"), ignore_id=np.int64(9), input_size=np.array([4, 5]))  # type: ignore[arg-type]
    assert Spec.from_json(spec.to_json()).input_size == (4, 5)


def test_fields_of_a_later_release_are_left_out() -> None:
    assert Spec.from_dict({**FULL.to_dict(), "colour_space": "srgb"}) == FULL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ()}, "at least one class"),
        ({"classes": ("a", "b", "a")}, "twice: a"),
        ({"palette": ((0, 0, 0),)}, "one colour per class"),
        ({"palette": ((0, 0, 0), (0, 0, 256))}, "0-255"),
        ({"ignore_id": 1}, "which is class 'sky'"),
        ({"task": "Pan optic"}, "Pan optic"),
        ({"resize": "crop"}, "crop"),
        ({"input_size": (0, 5)}, "positive"),
        ({"input_size": (5,)}, "height, width"),
        ({"normalization": {"order": "gbr"}}, "gbr"),
        ({"normalization": {"std": (1, 0, 1)}}, "positive"),
        ({"normalization": {"mean": (1, 1)}}, "three"),
    ],
)
def test_wrong_values_are_named(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FULL.replace(**change)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "no `classes`"),
        ("{}", "no `classes`"),
        ('{"classes": ["a"]}', "format None"),
    ],
)
def test_foreign_json_is_refused(text: str, words: str) -> None:
    with pytest.raises(ArtefactError, match=words):
        Spec.from_json(text)


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(ArtefactError, match="Upgrade kseg"):
        Spec.from_dict({**FULL.to_dict(), "format": 2})


def test_voc_palette_is_that_of_pascal() -> None:
    palette = voc_palette(256)
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[15] == (192, 128, 128)
    assert palette[20] == (0, 64, 128)
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


def test_import_brings_no_framework() -> None:
    code = (
        "import sys, kseg, kseg.spec, kseg.files\n"
        "kseg.Spec(classes=('a',)).to_json()\n"
        "heavy = {'numpy', 'keras', 'tensorflow', 'jax', 'torch', 'cv2'} & set(sys.modules)\n"
        "print(*sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
