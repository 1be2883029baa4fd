"""Predictor: masks come back unshifted at the image's own size, whatever the size, rule and options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_runtime import Identity, Smooth, picture, toy_spec
from numpy.typing import NDArray
from PIL import Image

from kseg.errors import DataError, UsageError
from kseg.inference import Predictor
from kseg.semantic.inference import predictor, tiles

RNG = np.random.default_rng(0)
ODD_SIZES = [(1, 1), (1, 90), (90, 1), (33, 47), (34, 47), (33, 48), (66, 94)] + [
    (int(h), int(w)) for h, w in RNG.integers(1, 130, (43, 2))
]


def ids_of(size: tuple[int, int], classes: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(size[0] * 1000 + size[1]).integers(0, classes, size, dtype=np.uint8)


@pytest.mark.parametrize("fixed", [None, (33, 47)])
@pytest.mark.parametrize(
    "options", [{}, {"flip": True}, {"batch_size": 3}, {"overlap": 0.0}, {"overlap": 0.7}]
)
def test_identity_network_gives_the_identity_mask(fixed: tuple[int, int] | None, options: dict) -> None:
    runtime = Identity(input_size=fixed)
    assert len(ODD_SIZES) == 50
    truths = [ids_of(size) for size in ODD_SIZES]
    masks = Predictor(runtime, **options)([picture(ids) for ids in truths])
    for truth, mask in zip(truths, masks, strict=True):
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, truth)


def test_a_dynamic_model_runs_at_the_size_of_its_spec_like_an_artefact() -> None:
    dynamic, fixed = Identity(toy_spec(input_size=(33, 47))), Identity(input_size=(33, 47))
    images = [picture(ids_of(size)) for size in ((10, 10), (50, 60))]
    for runtime in (dynamic, fixed):
        Predictor(runtime)(images)
    assert dynamic.shapes == fixed.shapes
    assert {shape[1:3] for shape in dynamic.shapes} == {(33, 47)}


@pytest.mark.parametrize("rule", ["stretch", "fit"])
@pytest.mark.parametrize("size", [(40, 60), (7, 5), (200, 31), (1, 1)])
def test_resized_images_are_run_once_and_come_back_at_their_size(rule: str, size: tuple[int, int]) -> None:
    runtime = Identity()
    mask = Predictor(runtime, size=(40, 60), resize=rule)(picture(np.full(size, 3)))[0]
    assert runtime.shapes == [(1, 40, 60, 3)]
    assert mask.shape == size
    assert (mask == 3).all()


def test_stretch_shifts_nothing() -> None:
    """A border in the middle stays in the middle: half-pixel centres both ways."""
    ids = np.zeros((40, 60), np.uint8)
    ids[:, 30:] = 1
    for size in ((80, 120), (20, 30), (40, 60)):
        mask = Predictor(Identity(toy_spec(2)), size=size, resize="stretch")(picture(ids))[0]
        assert np.array_equal(mask, ids)


def test_fit_keeps_the_aspect_ratio_and_fills_with_the_mean() -> None:
    seen: list[NDArray[np.float32]] = []

    class Spy(Identity):
        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(images)
            return super().__call__(images)

    spec = toy_spec().replace(normalization={"mean": (90, 100, 110), "std": (1, 1, 1)})
    Predictor(Spy(spec), size=(50, 50), resize="fit")(np.full((20, 40, 3), 200, np.uint8))
    assert np.abs(seen[0][0, 25:]).max() == 0
    assert seen[0][0, :25].min() == 90


def test_logits_are_resized_not_the_mask() -> None:
    image = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    spec = toy_spec(4)
    logits = Predictor(Smooth(spec), size=(15, 20), resize="stretch").logits(image)
    small = cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA)[None].astype("float32")
    expected = cv2.resize(Smooth(spec)(small)[0], (40, 30))
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_tiles_blend_smooth_logits_exactly() -> None:
    """Where every tile says the same, blending changes nothing but the last bits."""
    image = np.random.default_rng(4).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    whole = Predictor(Smooth()).logits(image)
    tiled = Predictor(Smooth(), size=(64, 48), overlap=0.3, batch_size=4).logits(image)
    np.testing.assert_allclose(tiled, whole, rtol=1e-5, atol=1e-4)


def test_tiles_that_disagree_are_blended_smoothly() -> None:
    class Position(Identity):
        """The logit of class 1 grows along the tile: neighbours disagree in their overlap."""

        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            logits = np.zeros((*images.shape[:3], 2), np.float32)
            logits[..., 1] = np.arange(images.shape[2], dtype=np.float32)
            return logits

    logits = Predictor(Position(toy_spec(2)), size=(64, 64), overlap=0.5).logits(
        np.zeros((64, 256, 3), np.uint8)
    )
    assert np.abs(np.diff(logits[0, :, 1])).max() < 8  # a hard seam would jump by 32


@pytest.mark.parametrize("tiled", [False, True])
def test_test_time_views_average_probabilities(tiled: bool) -> None:
    image = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    class Lopsided(Smooth):
        """Answers differ left and right, so that the mirrored view has something to say."""

        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            ramp = np.linspace(-1, 1, images.shape[2], dtype=np.float32)[None, None, :, None]
            return super().__call__(images) + ramp * np.arange(self.spec.num_classes, dtype=np.float32)

    spec = toy_spec(3)
    size = (32, 32) if tiled else None
    plain = Predictor(Lopsided(spec), size=size).logits(image)
    mirrored = Predictor(Lopsided(spec), size=size).logits(image[:, ::-1].copy())[:, ::-1]

    def softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
        powers = np.exp(values - values.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    both = Predictor(Lopsided(spec), size=size, flip=True).logits(image)
    np.testing.assert_allclose(np.exp(both), (softmax(plain) + softmax(mirrored)) / 2, atol=1e-4)


@pytest.mark.parametrize(("size", "fixed"), [(None, None), ((48, 48), None), ((48, 48), (48, 48))])
def test_scales_see_the_right_pixels(size: tuple[int, int] | None, fixed: tuple[int, int] | None) -> None:
    blocks = np.kron(np.random.default_rng(6).integers(0, 2, (12, 13)), np.ones((12, 12))).astype(np.uint8)
    runtime = Identity(toy_spec(2), input_size=fixed)
    mask = Predictor(runtime, size=size, scales=(0.5, 1.0, 2.0))(picture(blocks))[0]
    assert (mask == blocks).mean() > 0.98


def test_every_image_gets_its_own_answer_in_order_with_batches() -> None:
    runtime = Identity(input_size=(20, 20))
    sizes = [(20, 20), (5, 7), (50, 20), (20, 20), (3, 3), (3, 3), (3, 3), (64, 64)]
    truths = [ids_of(size) for size in sizes]
    masks = list(Predictor(runtime, batch_size=3).stream(picture(ids) for ids in truths))
    assert all(np.array_equal(mask, truth) for mask, truth in zip(masks, truths, strict=True))
    assert max(shape[0] for shape in runtime.shapes) == 3


def test_stream_reads_no_further_than_it_must() -> None:
    read = []

    def images() -> object:
        for index in range(100):
            read.append(index)
            yield picture(ids_of((4, 4)))

    stream = Predictor(Identity(), batch_size=2).stream(images())  # type: ignore[arg-type]
    next(stream)
    assert len(read) == 2


def test_memory_is_bounded_by_bands_and_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits buffers stay within their budgets while the result is that of generous ones."""
    ids = ids_of((300, 700))
    expected = Predictor(Identity(), size=(40, 50))(picture(ids))[0]
    rings: list[int] = []
    bands: list[int] = []

    class Watched(tiles.TiledView):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            rings.append(int(np.prod(self.buffer_shape)) * 4)

        def rows(self, last: int) -> NDArray[np.float32]:
            values = super().rows(last)
            bands.append(values.nbytes)
            return values

    monkeypatch.setattr(predictor, "TiledView", Watched)
    monkeypatch.setattr(predictor, "_BAND_BYTES", 64 * 7 * 4 * 10)
    monkeypatch.setattr(predictor, "_RING_BYTES", 200 * 7 * 4 * 40)
    mask = Predictor(Identity(), size=(40, 50))(picture(ids))[0]
    assert np.array_equal(mask, expected)
    assert np.array_equal(mask, ids)
    assert len(rings) == 4  # 700 columns in strips of 200
    assert max(rings) <= predictor._RING_BYTES + predictor._BAND_BYTES
    assert max(bands) <= predictor._BAND_BYTES
    assert len(bands) > 300 // 40


def test_many_classes_give_wider_ids() -> None:
    spec = toy_spec(300, ignore_id=999)
    mask = Predictor(Identity(spec))(picture(np.full((3, 4), 255)))[0]
    assert mask.dtype == np.int32
    assert (mask == 255).all()


def test_bias_moves_the_decision() -> None:
    image = picture(np.zeros((4, 4)))
    assert (Predictor(Identity())(image)[0] == 0).all()
    assert (Predictor(Identity(), bias=[-20, 0, 0, 5, 0, 0, 0])(image)[0] == 3).all()
    with pytest.raises(UsageError, match=r"per class \(7\)"):
        Predictor(Identity(), bias=[1, 2])


def test_paths_arrays_and_batches_are_taken(tmp_path: Path) -> None:
    ids = ids_of((6, 8))
    Image.fromarray(picture(ids)).save(tmp_path / "a.png")
    predict = Predictor(Identity())
    for images in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        picture(ids),
        picture(ids)[None],
        [picture(ids)],
    ):
        masks = predict(images)  # type: ignore[arg-type]
        assert len(masks) == 1
        assert np.array_equal(masks[0], ids)
    predict.close()
    assert predict.runtime.closed  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), r"image \* 255"),
        (np.zeros((4, 4, 3), np.uint16), "16-bit"),
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.zeros((4, 4), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 1), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((2, 2, 2, 2, 3), np.uint8), r"\(H, W, 3\)"),
    ],
)
def test_wrong_arrays_are_refused_with_a_hint(image: NDArray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor(Identity())([image])


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a\.png"):
        Predictor(Identity())(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("runtime", "options", "words"),
    [
        (Identity(input_size=(32, 32)), {"size": (64, 64)}, "32x32 images only"),
        (Identity(), {"resize": "stretch"}, "needs a size"),
        (Identity(), {"resize": "crop"}, "one of"),
        (Identity(), {"overlap": 1.0}, "overlap"),
        (Identity(), {"batch_size": 0}, "batch_size"),
        (Identity(), {"scales": ()}, "scales"),
        (Identity(), {"scales": (0.0,)}, "scales"),
        (Identity(), {"scales": (1.0, 1e-320)}, "from 0.01 to 8"),
        (Identity(), {"scales": (float("nan"),)}, "from 0.01 to 8"),
        (Identity(), {"size": (0, 4)}, "`size` must be an integer >= 1"),
        (Identity(input_size=(8, 8)), {"resize": "fit", "scales": (1, 2)}, "cannot see other scales"),
        (Identity(toy_spec(task="instance")), {}, "instance"),
        (42, {}, "int"),
    ],
)
def test_wrong_options_are_refused(runtime: object, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor(runtime, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.01, 8.0])
def test_the_extreme_scales_work(scale: float) -> None:
    assert Predictor(Identity(), scales=(scale,))(picture(ids_of((8, 8))))[0].shape == (8, 8)


def test_a_network_that_does_not_answer_at_input_size_is_named() -> None:
    class Strided(Identity):
        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().__call__(images)[:, ::2, ::2]

    with pytest.raises(UsageError, match="logits at input size"):
        Predictor(Strided())(picture(ids_of((8, 8))))


def test_prediction_needs_neither_tensorflow_nor_keras() -> None:
    code = (
        "import sys\n"
        "class Forbid:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras', 'jax', 'torch', 'tensorflow_datasets'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Forbid())\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "import kseg\n"
        "from fake_runtime import Identity, picture\n"
        "ids = np.random.default_rng(0).integers(0, 7, (50, 70), dtype=np.uint8)\n"
        "for options in ({}, {'flip': True}):\n"
        "    mask = kseg.Predictor(Identity(input_size=(32, 32)), **options)(picture(ids))[0]\n"
        "    assert (mask == ids).all()\n"
        "print('good')\n"
    )
    here = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True)
    assert done.stdout.strip() == "good", done.stderr
