"""Anchors of the released code, matching's corner cases, and samples of fixed size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers.detection import (
    Anchors,
    RPNLosses,
    Sample,
    SampleRegions,
    clip,
    decode,
    encode,
    match,
    reference_anchors,
)
from kseg.layers.detection.matching import EASY

# generate_anchors.py of py-faster-rcnn and MNC: x0, y0, x1, y1, the corners inclusive.
RELEASED = np.array(
    [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]
)  # fmt: skip


def test_reference_anchors_of_the_release() -> None:
    found = reference_anchors()
    np.testing.assert_array_equal(found, RELEASED[:, [1, 0, 3, 2]] + [0, 0, 1, 1])


@pytest.mark.parametrize("shape", [(3, 5), (None, None)])
def test_anchors_lie_in_the_order_of_flattened_features(shape: tuple) -> None:
    features = keras.Input((*shape, 2))
    layer = Anchors(reference_anchors((1, 2), (1,)), 16)
    found = ops.convert_to_numpy(keras.Model(features, layer(features))(np.zeros((1, 3, 5, 2), np.float32)))
    assert found.shape == (1, 3 * 5 * 2, 4)
    places = found.reshape(3, 5, 2, 4)
    np.testing.assert_array_equal(places[2, 4, 1], reference_anchors((2,), (1,))[0] + [32, 64, 32, 64])
    assert Anchors.from_config(layer.get_config()).get_config() == layer.get_config()


def test_coding_is_undone_by_decoding() -> None:
    random = np.random.default_rng(0)
    boxes, anchors = (
        np.concatenate([low, low + random.uniform(5, 90, (50, 2))], 1).astype(np.float32)
        for low in random.uniform(0, 99, (2, 50, 2))
    )
    found = decode(
        encode(ops.convert_to_tensor(boxes), anchors, (0.1, 0.1, 0.2, 0.2)), anchors, (0.1, 0.1, 0.2, 0.2)
    )
    np.testing.assert_allclose(ops.convert_to_numpy(found), boxes, atol=1e-3)
    assert np.isfinite(ops.convert_to_numpy(encode(ops.zeros((1, 4)), anchors[:1]))).all()
    inside = ops.convert_to_numpy(clip(ops.convert_to_tensor(boxes), 40, 60))
    assert inside.min() >= 0
    assert inside[:, 2].max() <= 40 < inside[:, 3].max() <= 60


def _matched(truth: list, real: list, crowd: list | None = None, **limits: float) -> list[int]:
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60], [52, 50, 62, 60]]], np.float32)
    more = {} if crowd is None else {"crowd": np.array([crowd], np.float32)}
    limits = {"high": 0.9, "low": 0.3, **limits}
    labels, _, _ = match(
        ops.convert_to_tensor(boxes),
        np.array([truth], np.float32),
        np.array([real], np.float32),
        **limits,
        **more,
    )
    return ops.convert_to_numpy(labels)[0].tolist()


def test_matching() -> None:
    one = [[0, 0, 10, 10], [0, 0, 0, 0]]
    assert _matched(one, [1, 0]) == [1, -1, 0, 0]
    # Nothing there: all is background, also where the best of each is asked for.
    assert _matched(one, [0, 0], best_of_each=True) == [0, 0, 0, 0]
    # No box overlaps the second object well, so the best is taken; both, where two are equally good.
    two = [[0, 0, 10, 10], [51, 50, 61, 60]]
    assert _matched(two, [1, 1]) == [1, -1, -1, -1]
    assert _matched(two, [1, 1], best_of_each=True) == [1, -1, 1, 1]
    # What lies in a crowd is not wrong.
    assert _matched([[0, 0, 10, 10], [40, 40, 90, 90]], [1, 0], crowd=[0, 1]) == [1, -1, -1, -1]


def test_samples_have_their_shares() -> None:
    labels = np.full((3, 400), -1, np.int32)
    labels[0, :100], labels[0, 100:300] = 1, 0
    labels[1, :5], labels[1, 100:300] = 1, 0
    labels[2, :100], labels[2, 100:110] = 1, 0
    layer = Sample(64, 0.25, seed=1)
    indices, real = (ops.convert_to_numpy(item) for item in layer(labels))
    chosen = [labels[image][indices[image][real[image] > 0]] for image in range(3)]
    assert [(int((row == 1).sum()), int((row == 0).sum())) for row in chosen] == [(16, 48), (5, 59), (16, 10)]
    assert all(
        len(set(row[mask > 0].tolist())) == (mask > 0).sum() for row, mask in zip(indices, real, strict=True)
    )
    assert (chosen[0][:16] == 1).all()
    again, _ = layer(labels)
    assert not np.array_equal(ops.convert_to_numpy(again), indices)
    same, _ = Sample(64, 0.25, seed=1)(labels)
    np.testing.assert_array_equal(ops.convert_to_numpy(same), indices)


def test_samples_are_drawn_uniformly() -> None:
    labels = np.zeros((1, 40), np.int32)
    labels[0, :20] = 1
    layer, hits = Sample(8, 0.5), np.zeros(40)
    for _ in range(300):
        hits[ops.convert_to_numpy(layer(labels)[0])[0]] += 1
    assert hits.sum() == 300 * 8
    assert hits.min() > 30
    assert hits.max() < 95


def test_easy_background_has_its_share() -> None:
    """MNC: of what is not positive 85 in a hundred overlap an object, 15 hardly."""
    labels = np.full((3, 300), EASY, np.int32)
    labels[0, :30], labels[0, 30:200] = 1, 0
    labels[1, :5], labels[1, 30:40] = 1, 0
    drawn: dict[float, list] = {}
    for share in (0.15, 0.0):
        indices, real = (ops.convert_to_numpy(item) for item in Sample(64, 0.3, easy_share=share)(labels))
        rows = [labels[image][indices[image][real[image] > 0]] for image in range(3)]
        drawn[share] = [tuple(int((row == label).sum()) for label in (1, 0, EASY)) for row in rows]
    assert drawn[0.15] == [(19, 38, 7), (5, 10, 9), (0, 0, 10)]
    assert drawn[0.0] == [(19, 45, 0), (5, 10, 0), (0, 0, 0)]


def test_regions_near_objects_and_their_gradient() -> None:
    tf = pytest.importorskip("tensorflow")
    proposals = tf.Variable([[[0.0, 0, 10, 10], [0, 5, 10, 15], [0, 9, 10, 19], [50, 50, 60, 60]]])
    true = np.array([[[0, 0, 10, 10]]], np.float32)
    known, one, none = np.ones((1, 4), np.float32), np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    for through in (False, True):
        layer = SampleRegions(6, 0.5, least=0.1, through_boxes=through)
        with tf.GradientTape() as tape:
            boxes, _, positive, drawn = layer(proposals, known, true, one, none)
            total = tf.reduce_sum(boxes * drawn[..., None])
        # The object and the first proposal, then the one of IoU 1/3; those of 1/19 and 0 are too easy.
        assert positive.numpy().tolist() == [[1, 1, 0, 0, 0, 0]]
        assert drawn.numpy().tolist() == [[1, 1, 1, 0, 0, 0]]
        found = tape.gradient(total, proposals)
        assert (found is None) if not through else (found.numpy()[0, :, 0].tolist() == [1, 1, 0, 0])


def test_anchors_that_the_image_cuts_are_not_learned() -> None:
    anchors = np.array([[[-5, 0, 15, 20], [0, 0, 20, 20], [30, 30, 50, 50], [40, 40, 70, 70]]], np.float32)
    true, one, none = anchors[:, :1], np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    logits, numbers = np.array([[9.0, 9, 9, 9]], np.float32), np.zeros((1, 4, 4), np.float32)
    image = np.zeros((1, 64, 64, 3), np.float32)
    plain, _ = RPNLosses(4)(logits, numbers, anchors, true, one, none)
    inner, box = RPNLosses(4)(logits, numbers, anchors, true, one, none, image)
    # The object's best anchor is cut; of the others the second is best, and the third is background.
    assert float(plain[0]) == pytest.approx(9 * 2 / 3, abs=1e-3)
    assert float(inner[0]) == pytest.approx(9 / 2, abs=1e-3)
    assert float(box[0]) > 0


def test_anchors_of_drawn_boxes_are_learned_as_the_boxes_are() -> None:
    """The `also` of the release of MNC: what was drawn already counts once, as the boxes say."""
    anchors = np.array([[[0, 0, 20, 20], [30, 30, 50, 50], [-5, 0, 9, 9], [10, 0, 25, 20]]], np.float32)
    true, one, none = anchors[:, :1], np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    logits, numbers = np.array([[1.0, 2, 4, 8]], np.float32), np.zeros((1, 4, 4), np.float32)
    image = np.zeros((1, 64, 64, 3), np.float32)
    # Drawn are the object's anchor, and the second as background; the fourth is neither. The third is cut.
    others, positive = np.array([[3, 2, 1, -1]], np.int32), np.array([[1.0, 1, 1, 1]], np.float32)
    plain, plain_box = RPNLosses(4)(logits, numbers, anchors, true, one, none, image)
    found, box = RPNLosses(4)(logits, numbers, anchors, true, one, none, image, (others, positive))
    assert float(plain[0]) == pytest.approx(np.logaddexp(0, [-1, 2]).mean(), abs=1e-5)
    assert float(found[0]) == pytest.approx(np.logaddexp(0, [-1, -8, -2]).mean(), abs=1e-5)
    assert float(plain_box[0]) == 0
    assert float(box[0]) > 0
    # The second overlaps no object: positive or not, it has no box to learn.
    _, box = RPNLosses(4)(logits, numbers, anchors, true, one, none, image, (others[:, 2:], positive[:, 2:]))
    assert float(box[0]) == 0


def test_drawn_boxes_tell_their_anchors() -> None:
    proposals = np.array([[[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 11]]], np.float32)
    true, one, none = np.array([[[0, 0, 10, 10]]], np.float32), np.ones((1, 1)), np.zeros((1, 1))
    known, anchors = np.array([[1.0, 1, 0]]), np.array([[7, 9, 4]], np.int32)
    boxes, _, positive, drawn, own = SampleRegions(5, 0.5)(proposals, known, true, one, none, anchors)
    found = [int(place) for place in np.asarray(own)[0]]
    assert sorted(found) == [-1, -1, -1, 7, 9]
    assert found[int(np.asarray(boxes)[0, :, 0].argmax())] == 9
    assert (np.asarray(positive)[0].sum(), np.asarray(drawn)[0].sum()) == (2, 3)
