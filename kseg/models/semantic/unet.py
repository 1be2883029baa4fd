"""U-Net: the paper's valid convolutions with mirrored margins, and the "same" form that is used today."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from kseg import encoders
from kseg.checks import Range, check_choice
from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, PadToStride
from kseg.layers.widths import channels
from kseg.models.parts.blocks import classify, conv_bn_relu, image_input, load_own_weights
from kseg.models.registry import register

WIDTH = 64  # channels of the first level; each level doubles them
DECODER = {16: 256, 8: 128, 4: 64, 2: 32, 1: 16}  # stride -> channels, over a borrowed encoder


@keras.saving.register_keras_serializable(package="kseg")
class MirrorMargin(PadToStride):
    """Mirrors the border of an image so that U-Net's valid convolutions give logits for all of it.

    The margin is what the network eats on each side; at the bottom and right as many rows more as make
    every pooling even.

    Args:
        stride: `2 ** depth`.
        margin: pixels on each side, `6 * 2 ** depth - 4`.

    Returns:
        `(B, H', W', C)` with `H' - 2 * margin >= H` and `H' % stride == -4 % stride`.
    """

    def __init__(self, stride: int | tuple[int, int], margin: int, **kwargs: Any) -> None:
        super().__init__(stride, **kwargs)
        self.margin = margin

    def _after(self, size: Any, axis: int) -> Any:
        """Pixels that are added below (axis 0) or at the right (axis 1)."""
        return self.margin + (4 - size) % self.stride[axis]

    def _check(self, height: Any, width: Any) -> None:
        needed = self.margin + self.stride[0]
        if any(isinstance(size, int) and size < needed for size in (height, width)):
            raise UsageError(
                f"UNet with padding='valid' mirrors a margin of up to {needed - 1} pixels, so height "
                f"and width must be at least {needed}. Received: {height} x {width}. "
                "Use padding='same', or enlarge the image."
            )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        self._check(*input_shape[1:3])
        sizes = [
            None if size is None else self.margin + size + self._after(size, axis)
            for axis, size in enumerate(input_shape[1:3])
        ]
        return (input_shape[0], *sizes, input_shape[3])

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = ops.shape(inputs)
        self._check(height, width)
        border = ((0, 0), (self.margin, self._after(height, 0)), (self.margin, self._after(width, 1)), (0, 0))
        return ops.pad(inputs, border, mode="reflect")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


def margin(depth: int) -> int:
    """Pixels that `depth` levels of valid convolutions eat on each side: 92 in the paper (depth 4)."""
    return 6 * 2**depth - 4


def _double(x: Any, filters: int, padding: str, name: str) -> Any:
    """Two 3x3 convolutions with ReLU: valid and with bias (paper), or same and normalised."""
    for index in (1, 2):
        if padding == "same":
            x = conv_bn_relu(x, filters, name=f"{name}_{index}")
        else:
            x = layers.Conv2D(
                filters, 3, activation="relu", kernel_initializer="he_normal", name=f"{name}_{index}_conv"
            )(x)
    return x


def _plain(x: Any, width: float, dropout: float, padding: str, depth: int) -> Any:
    """The paper's contracting and expanding path."""
    skips = []
    for level in range(depth):
        x = _double(x, channels(WIDTH * 2**level, width), padding, f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = _double(x, channels(WIDTH * 2**depth, width), padding, f"down{depth}")
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    for level in reversed(range(depth)):
        filters = channels(WIDTH * 2**level, width)
        x = layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=f"up{level}_conv")(x)
        skip = skips.pop()
        if padding == "valid":
            eaten = 2 * margin(depth - level - 1)  # by the levels below, of both sides, on their grid
            skip = layers.Cropping2D(eaten, name=f"up{level}_crop")(skip)
        x = layers.Concatenate(name=f"up{level}_skip")([skip, x])
        x = _double(x, filters, padding, f"up{level}")
    return x


def _over_encoder(image: Any, encoder: str, weights: str | None, width: float, dropout: float) -> Any:
    """Bilinear expanding path over the features of a named encoder, down to stride 1."""
    features = encoders.features(encoder, image, stride_1=True, weights=weights, width=width)
    x = features[max(features)]
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    for stride in (s for s in DECODER if s < max(features)):
        x = BilinearUpsampling(2, name=f"up{stride}_upsample")(x)
        if stride in features:
            x = layers.Concatenate(name=f"up{stride}_skip")([features[stride], x])
        x = _double(x, channels(DECODER[stride], width), "same", f"up{stride}")
    return x


@register(
    paper="Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, arXiv 1505.04597",
    output_stride=1,
    aliases=("u-net",),
)
def UNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "plain",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    depth: int = 4,
    name: str | None = None,
) -> keras.Model:
    """U-Net: a contracting path, and an expanding path that gets the fine maps by concatenation.

    The paper's form is `padding="valid"`: no normalisation, and a mirrored margin (92 pixels at depth 4)
    that the valid convolutions eat, so that a 388 x 388 image is seen as 572 x 572 and comes back whole;
    31,030,658 parameters for one channel and two classes. The default is today's: "same" convolutions with
    batch normalisation.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        encoder: `"plain"` (the paper's contracting path) or a name of `kseg.encoders`, whose features then
            feed a bilinear expanding path of 256, 128, 64, 32, 16 channels.
        weights: for the encoder: None, `"imagenet"` or a path; with `"plain"`, None or a weights file of
            the whole network.
        width: factor on all channel counts.
        dropout: share of the deepest features that is dropped in training, in [0, 1).
        padding: `"same"` or `"valid"` (only with the plain encoder).
        depth: number of poolings of the plain encoder, 1 to 6; the paper has 4.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`.

    Raises:
        UsageError: for a value out of range, or `padding="valid"` with another encoder or a small image.

    Example:
        >>> model = UNet(input_shape=(None, None, 1), num_classes=2, padding="valid")
    """
    check_choice("padding", padding, ("same", "valid"), "UNet")
    Range(1, 6, whole=True).check(depth, "depth", "UNet: argument")
    plain = str(encoder).lower() == "plain"
    if not plain and (padding != "same" or depth != 4):
        raise UsageError(
            "UNet: arguments `padding` and `depth` shape the plain encoder only. "
            f"Received: encoder={encoder!r}, padding={padding!r}, depth={depth!r}"
        )
    image = image_input(input_shape)
    if plain:
        pad = PadToStride(2**depth, name="pad")
        if padding == "valid":
            pad = MirrorMargin(2**depth, margin(depth), name="pad")
        x = _plain(pad(image), width, dropout, padding, depth)
    else:
        x = _over_encoder(image, encoder, weights, width, dropout)
    model = keras.Model(image, classify(x, image, num_classes, 1), name=name or "unet")
    if plain:
        load_own_weights(model, weights)
    return model
