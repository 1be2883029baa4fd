"""Whether a network that kseg did not make gives what a semantic one gives: logits at the image's size."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from kseg.errors import UsageError, first_line

if TYPE_CHECKING:
    import keras

# Height and width on which a network of any size is tried: multiples of every usual stride, not equal.
_PROBE = (64, 128)


def check_foreign(network: keras.Model) -> None:
    """Try a network that kseg did not make on one image: does it give logits at the image's size?"""
    from keras import ops

    if len(network.inputs) != 1 or len(network.outputs) != 1:
        warnings.warn(
            f"'{network.name}' has {len(network.inputs)} inputs and {len(network.outputs)} outputs: it is "
            "saved whole, but Predictor and export take one image and one map of logits. Save "
            "keras.Model(image, logits) for them",
            stacklevel=3,
        )
        return
    shape = tuple(network.inputs[0].shape)
    rank = len(network.outputs[0].shape)
    if len(shape) != 4 or rank != 4:
        raise UsageError(
            "kseg.save writes networks that turn images (B, H, W, C) into logits (B, H, W, classes). "
            f"Received: '{network.name}' from {shape} to {tuple(network.outputs[0].shape)}"
        )
    size = tuple(side or probe for side, probe in zip(shape[1:3], _PROBE, strict=True))
    image = np.random.default_rng(0).standard_normal((1, *size, shape[3] or 3)).astype("float32")
    try:
        logits = np.asarray(ops.convert_to_numpy(network(image, training=False)), np.float32)
    except Exception as error:  # its layers and the backend may raise anything
        warnings.warn(
            f"'{network.name}' could not be tried on an image of {size[0]}x{size[1]}: {first_line(error)}",
            stacklevel=3,
        )
        return
    if logits.shape[1:3] != size:
        raise UsageError(
            f"'{network.name}' gives {logits.shape[1]}x{logits.shape[2]} for an image of {size[0]}x{size[1]}"
            ", and kseg needs logits at the image's size. End it in kseg.layers.BilinearUpsampling(factor), "
            "or ResizeLike()([logits, image])"
        )
    if logits.min() >= 0 and np.abs(logits.sum(-1) - 1).max() < 1e-2:
        warnings.warn(
            f"'{network.name}' gives probabilities: kseg takes logits, and what averages or refines them "
            "takes the softmax itself. Leave out the last activation; the weights stay as they are",
            stacklevel=3,
        )
