"""DeconvNet: VGG-16, a bottleneck, and its mirror image, which unpools where the encoder pooled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from kseg import encoders
from kseg.checks import POSITIVE, Range, check_choice
from kseg.errors import UsageError
from kseg.layers import BatchNormalization, CropLike, MaxPoolWithSwitches, PadToStride, Unpool
from kseg.layers.widths import channels
from kseg.models.parts.blocks import image_input
from kseg.models.registry import register

STRIDE = 32
FC_CHANNELS = 4096
UNPOOLINGS = ("switches", "fixed")
INITIALIZERS = ("he_normal", "gaussian")
GAUSSIAN = 0.01  # standard deviation of the release's new weights
SHIFT = 0.001  # where every shift of batch normalisation starts in the release


@dataclass(frozen=True)
class _Pool:
    """What one pooling leaves for its mirror image: its channels, its switches, and the layers before it."""

    channels: int
    switches: Any
    convolutions: int


@dataclass
class _Form:
    """The choices that every layer of one network depends on, and the layers that may be given weights."""

    unpooling: str
    temperature: float | None
    initializer: str
    convolutions: dict[str, layers.Conv2D] = field(default_factory=dict)

    def kernel_initializer(self) -> keras.initializers.Initializer:
        """Return a new initializer, so that no two layers draw the same values."""
        if self.initializer == "gaussian":
            return keras.initializers.RandomNormal(stddev=GAUSSIAN)
        return keras.initializers.HeNormal()

    def convolution(self, x: Any, filters: int, kernel: int, name: str, padding: str = "same") -> Any:
        """Convolution with bias, batch normalisation, ReLU."""
        layer = layers.Conv2D(
            filters, kernel, padding=padding, kernel_initializer=self.kernel_initializer(), name=name
        )
        self.convolutions[name] = layer
        return _normalized(layer(x), name)

    def pool(self, x: Any, name: str) -> tuple[Any, Any]:
        """Return the pooled map and the switches, which are None for fixed unpooling."""
        if self.unpooling == "fixed":
            return layers.MaxPooling2D(2, name=name)(x), None
        return MaxPoolWithSwitches(2, temperature=self.temperature, name=name)(x)

    def unpool(self, x: Any, switches: Any, name: str) -> Any:
        """Put each value where `switches` say, or into the top left corner of its window."""
        return Unpool(2, name=name)(x if switches is None else [x, switches])


def _normalized(x: Any, name: str) -> Any:
    """Batch normalisation and ReLU behind the convolution `name`."""
    x = BatchNormalization(
        momentum=0.9, epsilon=1e-3, beta_initializer=keras.initializers.Constant(SHIFT), name=f"{name}_bn"
    )(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _encode(form: _Form, x: Any, weights: str | None, width: float) -> tuple[Any, list[_Pool]]:
    """VGG-16 with batch normalisation between each convolution and its ReLU, and pools that keep switches.

    The convolutions have the names of `keras.applications.VGG16`, and take its weights.
    """
    source = keras.Input((None, None, x.shape[-1]))
    features = encoders.build("vgg16", source, weights=weights, width=width)
    vgg = keras.Model(source, list(features.values()))
    pools: list[_Pool] = []
    count = 0
    for layer in vgg.layers:
        if isinstance(layer, layers.Conv2D):
            x = form.convolution(x, layer.filters, layer.kernel_size[0], layer.name)
            count += 1
        elif isinstance(layer, layers.MaxPooling2D):
            width_here = x.shape[-1]
            x, switches = form.pool(x, layer.name)
            pools.append(_Pool(width_here, switches, count))
            count = 0
    if weights is not None:
        for name, layer in form.convolutions.items():
            layer.set_weights(vgg.get_layer(name).get_weights())
    return x, pools


def _decode(form: _Form, x: Any, pools: list[_Pool]) -> Any:
    """The encoder in reverse; the last layer of each block has the channels of the next finer pool.

    The release's 3x3 deconvolutions have stride 1, where a transposed convolution is a convolution with
    the kernel turned around: convolutions they are here, which every runtime runs faster.
    """
    for block in range(len(pools), 0, -1):
        pool = pools[block - 1]
        finer = pools[max(block - 2, 0)].channels
        x = form.unpool(x, pool.switches, f"unpool{block}")
        for index in range(1, pool.convolutions + 1):
            filters = finer if index == pool.convolutions else pool.channels
            x = form.convolution(x, filters, 3, f"deconv{block}_{index}")
    return x


@register(
    paper="Noh, Hong, Han, Learning Deconvolution Network for Semantic Segmentation, ICCV 2015",
    output_stride=1,
    aliases=("deconv-net", "deconvolution-network"),
)
def DeconvNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "vgg16",
    weights: str | None = None,
    width: float = 1.0,
    unpooling: str = "switches",
    switch_temperature: float | None = None,
    fc_kernel: int = 7,
    initializer: str = "he_normal",
    name: str | None = None,
) -> keras.Model:
    """DeconvNet: VGG-16 and its mirror image, unpooling by switches. 251,805,653 parameters.

    Every convolution has a bias, batch normalisation and ReLU; there is no dropout. A 224 x 224 crop
    becomes 1 x 1 x 4096 in the middle and comes back through unpooling and stride-1 "deconvolutions". The
    network is fully convolutional, so that it takes whole images, too: the 7 x 7 convolution in the middle
    is valid, and its transpose restores the size. Images smaller than 32 * `fc_kernel` are padded to it.

    In int8, rounding moves a switch where the two largest values of a window nearly tie (how often, and what
    it costs: docs/lecture.md). Where it costs too much, keep the convolutions before the pools in float
    (`kseg export --keep-float`). A network has to be trained with the switches that it is used with.

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        encoder: `"vgg16"`, the only one that has a mirror image here.
        weights: of the encoder's convolutions: None, `"imagenet"` or a path (see `kseg.encoders.build`). A
            whole DeconvNet is started from another by `kseg.models.transfer`.
        width: factor on all channel counts.
        unpooling: `"switches"` (each value goes back to where the encoder found its maximum) or `"fixed"`
            (to the top left corner of its window). Both have the same weights.
        switch_temperature: None for the paper's switches, 0 or 1; a positive number for soft ones (see
            `kseg.layers.MaxPoolWithSwitches`). The weights have the same shapes, but other values.
        fc_kernel: side of the convolution in the middle, at stride 32; 7 fits crops of 224, 3 crops of 96.
        initializer: of the weights that are not given: `"he_normal"`, or the release's `"gaussian"` of
            standard deviation 0.01, meant for training that starts from VGG-16.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`.

    Raises:
        UsageError: for a value out of range.
        DataError: if the weights cannot be loaded, or do not fit.

    Example:
        >>> model = DeconvNet(input_shape=(96, 128, 3), num_classes=11, width=0.125, fc_kernel=3)
    """
    _check(encoder, unpooling, switch_temperature, fc_kernel, initializer)
    form = _Form(unpooling, switch_temperature, initializer)
    image = image_input(input_shape)
    x = PadToStride(STRIDE, minimum=STRIDE * fc_kernel, name="pad")(image)
    x, pools = _encode(form, x, weights, width)
    count = channels(FC_CHANNELS, width)
    x = form.convolution(x, count, fc_kernel, "fc6", padding="valid")
    x = form.convolution(x, count, 1, "fc7")
    x = layers.Conv2DTranspose(
        pools[-1].channels, fc_kernel, kernel_initializer=form.kernel_initializer(), name="fc6_deconv"
    )(x)
    x = _decode(form, _normalized(x, "fc6_deconv"), pools)
    x = layers.Conv2D(
        num_classes, 1, kernel_initializer=form.kernel_initializer(), dtype="float32", name="score"
    )(x)
    logits = CropLike(dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or "deconvnet")


def _check(
    encoder: str, unpooling: str, switch_temperature: float | None, fc_kernel: int, initializer: str
) -> None:
    """Raise a UsageError for values out of range."""
    check_choice("unpooling", unpooling, UNPOOLINGS, "DeconvNet")
    check_choice("initializer", initializer, INITIALIZERS, "DeconvNet")
    if encoders.resolve(encoder) != "vgg16":
        raise UsageError(f"DeconvNet: argument `encoder` must be 'vgg16'. Received: encoder={encoder!r}")
    if switch_temperature is not None:
        if unpooling == "fixed":
            raise UsageError(
                "DeconvNet: fixed unpooling has no switches. Received: unpooling='fixed', "
                f"switch_temperature={switch_temperature!r}. Leave out one of them."
            )
        POSITIVE.check(switch_temperature, "switch_temperature", "DeconvNet: argument")
    Range(1, 15, whole=True).check(fc_kernel, "fc_kernel", "DeconvNet: argument")
