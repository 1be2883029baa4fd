"""SDS: one region that was proposed, as its box and as the box with all else painted over, to its class.

With one pathway, the box, it is R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from kseg import encoders
from kseg.checks import check_choice, flag, whole
from kseg.errors import UsageError
from kseg.layers import CellMeans
from kseg.layers.widths import channels
from kseg.models.parts.blocks import load_own_weights
from kseg.models.parts.residual import residual_features
from kseg.models.registry import register

BOX, REGION = PATHWAYS = ("box", "region")
TRUNKS = ("caffenet", "residual")
# Cells per side of the coarse mask.
CELLS = 10
# Channels of fc6 and fc7, and of the one layer that stands in their place over the residual trunk.
FC, THIN_FC = 4096, 1024
_RESIDUAL_STRIDE = 32
# Where the first convolution of CaffeNet and its three poolings still leave a pixel.
_LEAST_SIDE = 67


def _caffenet(x: Any, path: str, width: float, dropout: float) -> tuple[Any, Any]:
    """Return pool5, flat, and fc7 `(B, 4096)` of CaffeNet: 56,868,224 parameters over crops of 227 x 227."""
    found = encoders.build("alexnet", x, width=width, prefix=f"{path}_", ceil_pools=True, valid_first=True)
    x = flat = layers.Flatten(name=f"{path}_flat")(found[32])
    for name in ("fc6", "fc7"):
        x = _dense(x, channels(FC, width), dropout, f"{path}_{name}")
    return flat, x


def _residual(x: Any, path: str, width: float, dropout: float) -> tuple[Any, Any]:
    """Return what the encoder gives, flat, and `(B, 1024)` over it: a small one that trains from scratch."""
    flat = layers.Flatten(name=f"{path}_flat")(residual_features(x, width, prefix=f"{path}_")[32])
    return flat, _dense(flat, channels(THIN_FC, width), dropout, f"{path}_fc")


def _dense(x: Any, units: int, dropout: float, name: str) -> Any:
    x = layers.Dense(units, activation="relu", kernel_initializer="he_uniform", name=name)(x)
    return layers.Dropout(dropout, name=f"{name}_dropout")(x)


@register(
    paper="Hariharan, Arbeláez, Girshick, Malik, Simultaneous Detection and Segmentation, ECCV 2014; the box "
    "alone: Girshick et al., R-CNN, CVPR 2014",
    output_stride=32,
    task="proposals",
    keep_float="(^|/)(logits|svms|moves|cells|coarse)",
)
def SDS(
    input_shape: tuple[int | None, int | None, int] = (227, 227, 4),
    num_classes: int = 21,
    weights: str | None = None,
    pathways: Sequence[str] = PATHWAYS,
    trunk: str = "caffenet",
    width: float = 1.0,
    dropout: float = 0.5,
    svms: bool = False,
    refiner: bool = False,
    moves: bool = False,
    name: str | None = None,
) -> keras.Model:
    """SDS: two networks over a region's box and its masked box. 113,908,501 parameters; box alone 56,954,261.

    `kseg train-sds` trains it in the paper's phases. Its variants A (both pathways are one network that was
    tuned on boxes), B (each pathway tuned on its own) and C (tuned together after that) differ in weights,
    not in the graph.

    Args:
        input_shape: `(side, side, 4)` of the crops.
        num_classes: classes of the data, the background (class 0) included.
        weights: None, or a file of the whole network.
        pathways: `("box", "region")`, or one of them; `("box",)` is R-CNN.
        trunk: `"caffenet"`, or `"residual"`: a small one that trains from scratch; sides are then multiples
            of 32.
        width: factor on all channel counts.
        dropout: share of the features that is dropped in training, in [0, 1).
        svms: whether there is a linear SVM for each class.
        refiner: whether there is a coarse mask for each class.
        moves: whether the box is corrected for each class, by a linear layer over the box's features before
            the dense ones (R-CNN's box regression).
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, side, side, 4)`, a normalised crop (0 outside the image) and the
        region's mask (0 or 1), -> `logits` `(B, num_classes)` and, where asked for, `margins` `(B,
        num_classes - 1)` of the SVMs and `coarse` `(B, num_classes - 1, 10, 10)`, logits of each class's mask
        over the crop, and `moves` `(B, num_classes - 1, 4)` of its box, see `kseg.boxes.moves`; all float32.
        The layer `features` has what SVMs and refiner look at.

    Raises:
        UsageError: for pathways, a trunk or sides that there are not.

    Example:
        >>> model = SDS(input_shape=(64, 64, 4), num_classes=2, trunk="residual", width=0.25)
    """
    whole(num_classes, "SDS: argument", "num_classes", 2)
    chosen = _checked(input_shape, pathways, trunk)
    if flag(moves, "SDS: argument", "moves") and BOX not in chosen:
        raise UsageError("SDS: argument `moves` takes the pathway 'box', whose features it looks at")
    crop = keras.Input(tuple(input_shape), dtype="float32", name="image")
    box, mask = crop[..., :3], crop[..., 3:]
    seen = {BOX: lambda: box, REGION: lambda: layers.Multiply(name="region_crop")([box, mask])}
    build = _caffenet if trunk == "caffenet" else _residual
    flat, found = zip(*(build(seen[path](), path, width, dropout) for path in chosen), strict=True)
    features = (
        layers.Concatenate(name="features", dtype="float32")(list(found))
        if len(found) > 1
        else (layers.Identity(name="features", dtype="float32")(found[0]))
    )
    outputs = {"logits": layers.Dense(num_classes, dtype="float32", name="logits")(features)}
    if svms:
        outputs["margins"] = layers.Dense(num_classes - 1, dtype="float32", name="svms")(features)
    if moves:
        by = layers.Dense((num_classes - 1) * 4, dtype="float32", name="moves")(flat[0])
        outputs["moves"] = layers.Reshape((num_classes - 1, 4), name="box_moves")(by)
    if refiner:
        cells = CellMeans(CELLS, dtype="float32", name="cells")(mask)
        joined = layers.Concatenate(name="features_and_cells", dtype="float32")([features, cells])
        coarse = layers.Dense((num_classes - 1) * CELLS**2, dtype="float32", name="coarse")(joined)
        outputs["coarse"] = layers.Reshape((num_classes - 1, CELLS, CELLS), name="coarse_masks")(coarse)
    model = keras.Model(crop, outputs, name=name or "sds")
    load_own_weights(model, weights)
    return model


def _checked(shape: tuple[int | None, int | None, int], pathways: Sequence[str], trunk: str) -> list[str]:
    """Return the pathways in their order; refuse what cannot be built."""
    check_choice("trunk", trunk, TRUNKS, "SDS")
    given = list(pathways) if isinstance(pathways, list | tuple) else []
    if not given or len(set(given)) < len(given) or not set(given) <= set(PATHWAYS):
        raise UsageError(
            f"SDS: argument `pathways` must be some of {', '.join(PATHWAYS)}. Received: pathways={pathways!r}"
        )
    height, width, depth = shape
    step, least = (_RESIDUAL_STRIDE,) * 2 if trunk == "residual" else (1, _LEAST_SIDE)
    if depth != 4 or any(side is None or side % step or side < least for side in (height, width)):
        sides = f"multiples of {step}" if step > 1 else f"{least} or more"
        raise UsageError(
            f"SDS: argument `input_shape` must be (side, side, 4): a crop and its mask; over {trunk} "
            f"sides are {sides}. Received: input_shape={tuple(shape)}"
        )
    return [path for path in PATHWAYS if path in given]
