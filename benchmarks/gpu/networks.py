"""The networks of the proof, and one way to train them with `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NETWORKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "FCN-8s over MobileNetV3": ("fcn8s", {"encoder": "mobilenetv3", "dropout": 0.0}),
    "U-Net": ("unet", {"width": 0.5, "dropout": 0.0}),
    "LR-ASPP": ("lraspp", {}),
}
# For rehearsals: the same layers, fewer channels.
THIN = {"unet": {"width": 0.125}, "fcn8s": {"width": 0.25}, "lraspp": {"width": 0.5}}
BATCH = 8
# Small on purpose: at 0.01 LR-ASPP's loss jumps from step to step, and bfloat16 on the same CPU was
# 19 % apart with weights 9 % apart. Such a path shows how steep the loss is, not the device.
RATE = 0.001


@dataclass
class Trained:
    """What a short training gives: each step's loss, weights before and after, logits of unseen images."""

    losses: np.ndarray
    before: list[np.ndarray]
    after: list[np.ndarray]
    logits: np.ndarray
    scaled: bool


def build(title: str, policy: str, thin: bool) -> Any:
    """Return the network under a dtype policy, from seed 0."""
    import keras

    from kseg import models
    from kseg.layers.policy import dtype_policy

    name, arguments = NETWORKS[title]
    keras.utils.set_random_seed(0)
    with dtype_policy(policy):
        return models.create(name, num_classes=2, **{**arguments, **(THIN[name] if thin else {})})


def strict_float32() -> None:
    """Compute float32 as float32, not as TF32, so that devices can be compared."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")


def trained(
    title: str, policy: str, *, steps: int, side: int, thin: bool, start: list[np.ndarray] | None
) -> Trained:
    """Train by `fit` on the sample, always the same batches.

    Args:
        title: key of `NETWORKS`.
        policy: Keras' dtype policy.
        steps: training steps.
        side: of the square images.
        thin: take the thin form.
        start: weights to start from (another device's); None: those of seed 0.
    """
    import keras

    import kseg
    from benchmarks.gpu.sample import samples, spec

    strict_float32()
    model = build(title, policy, thin)
    if start is not None:
        model.set_weights(start)
    before = [np.asarray(value) for value in model.get_weights()]
    train, held_out = samples("train", side), samples("val", side)[:4]
    images, masks = (np.stack([getattr(item, part) for item in train]) for part in ("image", "mask"))
    batches = kseg.data.from_arrays(images, masks, spec((side, side)), batch_size=BATCH)
    model.compile(
        # Adam's steps are the sign of tiny gradients, in which rounding decides: not fit for a comparison.
        optimizer=keras.optimizers.SGD(RATE, momentum=0.9),
        loss=kseg.losses.PixelCrossEntropy(),
        metrics=[kseg.metrics.MeanIoU(num_classes=2, ignore_id=255)],
        jit_compile=keras.backend.backend() == "jax",
    )
    seen: list[float] = []
    # Keras gives the mean of the epoch so far; with epochs of one batch that is the batch's own loss.
    for step in range(steps):
        history = model.fit(
            *batches[step % len(batches)], batch_size=BATCH, epochs=1, shuffle=False, verbose=0
        )
        seen.append(float(history.history["loss"][-1]))
    inputs = np.stack([kseg.data.preprocess(item.image, spec().normalization) for item in held_out])
    return Trained(
        losses=np.asarray(seen),
        before=before,
        after=[np.asarray(value, np.float32) for value in model.get_weights()],
        logits=np.asarray(model.predict(inputs, batch_size=4, verbose=0), np.float32),
        scaled=type(model.optimizer).__name__ == "LossScaleOptimizer",
    )


def logits_of(title: str, weights: list[np.ndarray], side: int, thin: bool) -> np.ndarray:
    """Return a float32 network's logits with the given weights, on images of the val split."""
    import kseg
    from benchmarks.gpu.sample import samples, spec

    strict_float32()
    model = build(title, "float32", thin)
    model.set_weights(weights)
    inputs = [kseg.data.preprocess(item.image, spec().normalization) for item in samples("val", side)[:4]]
    return np.asarray(model.predict(np.stack(inputs), batch_size=4, verbose=0), np.float32)
