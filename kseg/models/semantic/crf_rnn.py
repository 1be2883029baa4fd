"""CRF-RNN: any network of this package with a mean field layer behind its logits, trained end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kseg import encoders
from kseg.errors import UsageError
from kseg.layers import MeanFieldCRF
from kseg.models import forms
from kseg.models.registry import Entry, create, describe, register

UNARY = "unary_logits"  # the base's last layer, which gives its own name to the CRF
# Arguments of this network that the base gets too.
_SHARED = ("input_shape", "num_classes", "encoder", "weights", "name")
_UNIT_STD = (127.5, 127.5, 127.5)


@register(
    paper="Zheng et al., Conditional Random Fields as Recurrent Neural Networks, ICCV 2015",
    output_stride=1,
    aliases=("crf-as-rnn",),
    # The mean field: its convolutions are Gaussians, whose tails int8 would round away.
    keep_float="/logits/",
)
def CRFRNN(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    base: str = "FCN8s",
    base_args: Mapping[str, Any] | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    iterations: int = 5,
    test_iterations: int = 10,
    window: int = 11,
    dilation: int = 1,
    stride: int = 1,
    theta_alpha: float = 160.0,
    theta_beta: float = 3.0,
    theta_gamma: float = 3.0,
    w1: float = 1.0,
    w2: float = 1.0,
    std: float | tuple[float, ...] | None = None,
    name: str | None = None,
) -> keras.Model:
    """CRF-RNN: a network and `kseg.layers.MeanFieldCRF` behind it; 3 C^2 parameters more than the network.

    The base's layers stand in this network under their own names (its last one, which gives `logits`, as
    `unary_logits`), so the weights of a trained base load into it by layer name: `kseg.models.transfer`. Its
    further heads (`kseg.models.forms`) stay.

    The paper filters the whole image; this layer reaches as far as its window (see there), so that it
    runs on every runtime. The cost grows with `iterations * window^2 / stride^2`; on a CPU, training on
    images of 360 x 480 wants `stride=2` or a window of 5 to 7, perhaps dilated.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        base: a registered network; the paper has FCN-8s.
        base_args: arguments of the base beyond `input_shape`, `num_classes`, `encoder` and `weights`.
        encoder: of the base; None: the base's own.
        weights: of the base, see there.
        iterations: mean field steps in training; the paper has 5.
        test_iterations: mean field steps otherwise; the paper has 10.
        window: side of the window, odd; 11 as in convolutional CRFs.
        dilation: distance of neighbouring samples of the window.
        stride: the CRF runs on averages of `stride` x `stride` pixels.
        theta_alpha: bilateral kernel, pixels.
        theta_beta: bilateral kernel, colour difference in 0-255 units.
        theta_gamma: spatial kernel, pixels.
        w1: start value of the bilateral mixing.
        w2: start value of the spatial mixing.
        std: what the image is divided by before it comes in, in 0-255 units (`spec.normalization.std`), a
            number or one per channel; None: 127.5, right for every encoder without pretrained weights.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`.

    Raises:
        UsageError: if the base is unknown or itself a CRF-RNN, an argument does not fit it, or pretrained
            weights come with a normalisation that `std` does not say.

    Example:
        >>> model = CRFRNN(num_classes=11, encoder="resnet18", stride=2)
        >>> transfer(trained_fcn8s, model)

    References:
        Zheng et al., ICCV 2015; layer and figures: crfasrnn_keras.
    """
    entry = describe(base)
    if base_args is not None and not isinstance(base_args, Mapping):
        raise UsageError(
            "CRFRNN: argument `base_args` must map names of arguments to values. "
            f"Received: base_args={base_args!r}"
        )
    arguments = _base_arguments(entry, dict(base_args or {}), encoder, weights)
    if std is None:
        _check_normalization(encoder, weights)
        std = _UNIT_STD[0]
    network = create(entry.name, input_shape=input_shape, num_classes=num_classes, **arguments)
    image, unary = network.input, _renamed_output(network)
    logits = MeanFieldCRF(
        iterations=iterations,
        test_iterations=test_iterations,
        window=window,
        dilation=dilation,
        stride=stride,
        theta_alpha=theta_alpha,
        theta_beta=theta_beta,
        theta_gamma=theta_gamma,
        w1=w1,
        w2=w2,
        std=std,
        dtype="float32",
        name="logits",
    )([unary, image])
    model = keras.Model(image, logits, name=name or "crfrnn")
    return forms.attach(model, heads=forms.heads(network))


def _base_arguments(
    entry: Entry, given: dict[str, Any], encoder: str | None, weights: str | None
) -> dict[str, Any]:
    """Return the base's arguments beyond size and classes; check what this network says about them."""
    if entry.name == "CRFRNN":
        raise UsageError(
            "CRFRNN: argument `base` must be another network than CRFRNN itself. For more mean field steps "
            "use `iterations`. Received: base='CRFRNN'"
        )
    twice = [key for key in _SHARED if key in given]
    if twice:
        raise UsageError(
            f"CRFRNN: `{twice[0]}` is an argument of CRFRNN, which hands it to the base: not for base_args. "
            f"Received: base_args with {', '.join(twice)}"
        )
    for key, value in (("encoder", encoder), ("weights", weights)):
        if value is None:
            continue
        if key not in entry.parameters:
            raise UsageError(f"CRFRNN: the base {entry.name} has no `{key}`. Received: {key}={value!r}")
        given[key] = value
    return given


def _check_normalization(encoder: str | None, weights: str | None) -> None:
    """Refuse pretrained weights whose normalisation only `std` could record in the model's arguments."""
    if weights is None:
        return
    if encoder is None:
        raise UsageError(
            "CRFRNN: with `weights`, name the `encoder` too: it says how images are normalised, and the CRF "
            f"measures colours. Received: weights={weights!r}, encoder=None"
        )
    needed = encoders.normalization(encoder, weights).std
    if needed != _UNIT_STD:
        raise UsageError(
            f"CRFRNN: the weights of {encoder} expect images divided by {list(needed)}, and the CRF measures "
            f"colours. Add std={list(needed)} (it is kept with the model's arguments). Received: std=None"
        )


def _renamed_output(network: keras.Model) -> Any:
    """Return the base's output, from a twin of its last layer that leaves the name `logits` free."""
    last = network.get_layer("logits")
    twin = type(last).from_config({**last.get_config(), "name": UNARY})
    unary = twin(last.input)
    twin.set_weights(last.get_weights())
    return unary
