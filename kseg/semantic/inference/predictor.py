"""Predictor: images of any size in, class maps of the same size out, whatever runs the network."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg import tasks
from kseg.checks import SHARE, check_choice, pair, whole
from kseg.data.transforms.normalize import fill_color, preprocess
from kseg.data.transforms.resize import fitted_size, resize_image
from kseg.errors import UsageError
from kseg.inference.distributions import log_scores, probabilities
from kseg.inference.geometry import pad_to
from kseg.inference.pictures import Picture, as_image, several
from kseg.inference.runtime import Runtime, opened_runtime
from kseg.progress import Say
from kseg.semantic.inference.tiles import Floats, Look, Request, Size, TiledView, WholeView
from kseg.spec import RESIZE_RULES, Spec

if TYPE_CHECKING:
    import keras

# Without a fixed size, images up to this many pixels are run whole, larger ones in tiles.
_WHOLE_PIXELS = 2048 * 1024
_OPEN_TILE = 1024
# Test-time scales: what is smaller leaves nothing to see of an image.
_SCALES = (0.01, 8)
# An image whose sides are more than so many times those of the training is spoken of.
_LARGE = 2.0
# Bytes of logits held at once: one band, and the rows that unfinished tiles still reach.
_BAND_BYTES = 64 * 2**20
_RING_BYTES = 512 * 2**20


class Predictor:
    """Segment images of any size with a network in memory or any model file that kseg wrote.

    The Spec's resize rule says how an image meets the network's size: `"none"` runs native pixels (small
    images are padded at the bottom and right, large ones are cut into overlapping tiles whose logits are
    blended by Gaussian weights), `"stretch"` resizes both sides, `"fit"` keeps the aspect ratio and pads.
    Logits are brought back to the image's size bilinearly, then the largest wins. A `.keras` file and
    an artefact exported from it go the same way at the same fixed size.

    Memory is bounded: class maps are finished row band by row band, so a 10,000 x 10,000 image needs its
    pixels, its map, and under 1 GB of logits.

    Args:
        model_or_path: a Keras model with `.spec`, a runtime, or the path of a `.keras`, `.tflite`, `.onnx` or
            engine file.
        size: `(height, width)` at which the network is run. Default: the artefact's, else `spec.input_size`,
            else each image's own size (in tiles of 1024 above 2 megapixels).
        resize: `"none"`, `"stretch"` or `"fit"`; default: the Spec's rule.
        overlap: share of a tile that neighbours have in common, 0 to below 1.
        batch_size: network calls made at once; artefacts with a fixed batch of one want 1.
        flip: also predict the mirrored image, and average.
        scales: also predict resized images, and average. A network of fixed size sees wider or narrower
            windows of the image, and refuses scales under the rules `"stretch"` and `"fit"`.
        bias: one number per class, added to the logits before anything else: `-a * log(class weight)` takes
            back a share `a` of the prior that class weights brought into training.
        say: takes one line, once, when an image is more than twice as large as those of the training and
            would be cut into tiles at its own scale. None: `warnings.warn`.

    Averaging is of softmax probabilities; `logits` then gives their logarithm.

    Raises:
        UsageError: if an argument is out of range or does not fit the artefact.
        ArtefactError: if the file is missing, damaged or not ours.

    Example:
        >>> masks = kseg.Predictor("model.keras")(["a.jpg", "b.jpg"])   # uint8 (H, W) class ids
    """

    def __init__(
        self,
        model_or_path: keras.Model | Runtime | str | os.PathLike[str],
        *,
        size: Size | None = None,
        resize: str | None = None,
        overlap: float = 0.25,
        batch_size: int = 1,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        bias: Sequence[float] | None = None,
        say: Say | None = None,
    ) -> None:
        self.runtime = opened_runtime(model_or_path)
        self.spec: Spec = self.runtime.spec
        if self.spec.task != "semantic":
            own = tasks.find(self.spec.task).predictor.replace(":", ".")
            raise UsageError(
                f"Predictor segments classes; this model's task is '{self.spec.task}': {own} is for it"
            )
        self.resize = check_choice("resize", self.spec.resize if resize is None else resize, RESIZE_RULES)
        self.size = self._checked_size(size)
        self.scales = self._checked_scales(scales)
        self.overlap = float(SHARE.check(overlap, "overlap"))
        self.batch_size = whole(batch_size, "Argument", "batch_size")
        self.flip = bool(flip)
        self._say: Say | None = say or _warn
        self._bias: Floats | None = None
        if bias is not None:
            self.set_bias(bias)

    def set_bias(self, bias: Sequence[float]) -> None:
        """Add `bias`, one finite number per class, to the logits from now on; see the class.

        Raises:
            UsageError: if it is not one finite number per class.
        """
        values = np.asarray(bias, np.float32)
        if values.shape != (self.spec.num_classes,) or not np.isfinite(values).all():
            raise UsageError(
                f"Argument `bias` must be one finite number per class ({self.spec.num_classes}). "
                f"Received: bias={bias!r}"
            )
        self._bias = values

    def _checked_size(self, size: Size | None) -> Size | None:
        fixed = self.runtime.input_size
        wanted = size if size is not None else (fixed or self.spec.input_size)
        if wanted is not None:
            wanted = pair(wanted, "Argument", "size")
        if fixed is not None and wanted != tuple(fixed):
            raise UsageError(
                f"This model takes {fixed[0]}x{fixed[1]} images only. Received: size={wanted}. Leave `size` "
                "out, or export the model again at that size"
            )
        if wanted is None and self.resize != "none":
            raise UsageError(
                f"The resize rule '{self.resize}' needs a size, and neither the model nor its Spec has one. "
                "Pass size=(height, width)"
            )
        return wanted

    def _checked_scales(self, scales: Sequence[float]) -> tuple[float, ...]:
        values = tuple(float(scale) for scale in scales)
        low, high = _SCALES
        if not values or not all(low <= value <= high for value in values):
            raise UsageError(
                f"Argument `scales` must be numbers from {low} to {high}. Received: scales={scales!r}"
            )
        if self.runtime.input_size is not None and self.resize != "none" and values != (1.0,):
            raise UsageError(
                f"This model has a fixed size and its rule is '{self.resize}': it cannot see other scales. "
                f"Use the .keras model, or resize='none'. Received: scales={scales!r}"
            )
        return values

    def __call__(self, images: Picture | Iterable[Picture]) -> list[NDArray[Any]]:
        """Return one class map `(H, W)` per image, at the image's own size, in order.

        Args:
            images: one image or several (list, batch array, iterator): uint8 `(H, W, 3)` RGB arrays or paths.

        Returns:
            A list (of one for one image); uint8 ids, int32 beyond 256 classes.

        Raises:
            UsageError: if an array is not uint8 RGB.
            DataError: if a file cannot be read as an image.
        """
        return list(self.stream(several(images)))

    def stream(self, images: Iterable[Picture]) -> Iterator[NDArray[Any]]:
        """Yield class maps one after another; at most `batch_size` images are held."""
        group: list[tuple[NDArray[np.uint8], list[Look]]] = []
        for picture in images:
            image = as_image(picture)
            looks = self._looks((image.shape[0], image.shape[1]))
            if any(look.window is not None for look in looks):
                yield from self._finish(group)
                group = []
                yield self._class_map(image, looks, None)
                continue
            group.append((image, looks))
            if len(group) == self.batch_size:
                yield from self._finish(group)
                group = []
        yield from self._finish(group)

    def logits(self, image: Picture) -> Floats:
        """Return float32 `(H, W, classes)` at the image's own size.

        Holds all of it: 4 bytes per pixel and class, 4.4 GB for 10,000 x 10,000 x 11. For large images
        take class maps. With `flip` or `scales` it is the logarithm of the averaged probabilities.
        """
        pixels = as_image(image)
        size = (pixels.shape[0], pixels.shape[1])
        result = np.empty((*size, self.spec.num_classes), np.float32)
        looks = self._looks(size)
        for rows, columns, values in self._bands(pixels, looks, self._answers(pixels, looks)):
            if len(looks) > 1:
                values = log_scores(values)
            result[rows, columns] = values
        return result

    def outputs(self, image: Picture) -> dict[str, Floats]:
        """Return `logits` under that name: what every task's predictor has (`kseg.tasks`)."""
        return {"logits": self.logits(image)}

    def decide(self, outputs: Mapping[str, Floats]) -> NDArray[Any]:
        """Return the class map `(H, W)` of `outputs`: the largest score wins."""
        return outputs["logits"].argmax(-1)

    def close(self) -> None:
        """Free the runtime."""
        self.runtime.close()

    def _looks(self, size: Size) -> list[Look]:
        self._tell_of_large(size)
        return [
            self._look(size, scale, flip) for scale in self.scales for flip in (False, True)[: 1 + self.flip]
        ]

    def _tell_of_large(self, size: Size) -> None:
        """Say once that objects in tiles of a large image are larger than the network has learned."""
        trained = self.spec.trained_size
        if self._say is None or self.resize != "none" or trained is None:
            return
        ratio = math.sqrt(size[0] * size[1] / (trained[0] * trained[1]))
        if ratio <= _LARGE:
            return
        say, self._say = self._say, None
        shape = f"{trained[0]}x{trained[1]}"
        free = self.runtime.input_size is None
        say(
            f"an image of {size[0]}x{size[1]} is {ratio:.1f} times the size that the network was trained at "
            f"({shape}), and the resize rule 'none' cuts it into tiles at its own scale: if it shows the "
            "same scene, objects are larger than the network knows them. To shrink it first: --resize fit"
            f"{f' --size {shape}' if free else ''} (resize='fit'{f', size={trained}' if free else ''})"
        )

    def _look(self, size: Size, scale: float, flip: bool) -> Look:
        """Decide how an image of `size` is shown to the network."""
        fixed = self.runtime.input_size is not None
        if self.resize != "none" and self.size is not None:
            net = _scaled(self.size, scale)
            return Look(None, net, net if self.resize == "stretch" else fitted_size(size, net), flip)
        window = self.size
        if window is None:
            if size[0] * size[1] <= _WHOLE_PIXELS:
                net = _scaled(size, scale)
                return Look(None, net, net, flip)
            window = (min(_OPEN_TILE, size[0]), min(_OPEN_TILE, size[1]))
        if fixed:
            net, window = window, _scaled(window, 1 / scale)
        else:
            net = _scaled(window, scale)
        if size[0] > window[0] or size[1] > window[1]:
            return Look(window, net, None, flip)
        content = _scaled(size, net[0] / window[0], net[1] / window[1]) if net != window else size
        return Look(None, net, (min(content[0], net[0]), min(content[1], net[1])), flip)

    def _answers(self, image: NDArray[np.uint8], looks: Sequence[Look]) -> list[Floats]:
        """Run the looks at the whole image; tiled ones run later, band by band."""
        return self._run([_request(image, look) for look in looks if look.content is not None])

    def _finish(self, group: list[tuple[NDArray[np.uint8], list[Look]]]) -> Iterator[NDArray[Any]]:
        requests = [_request(image, look) for image, looks in group for look in looks]
        answers = iter(self._run(requests))
        for image, looks in group:
            yield self._class_map(image, looks, [next(answers) for _ in looks])

    def _class_map(
        self, image: NDArray[np.uint8], looks: Sequence[Look], answers: list[Floats] | None
    ) -> NDArray[Any]:
        kind = np.uint8 if self.spec.num_classes <= 256 else np.int32
        result = np.empty(image.shape[:2], kind)
        answers = self._answers(image, looks) if answers is None else answers
        for rows, columns, values in self._bands(image, looks, answers):
            result[rows, columns] = values.argmax(axis=-1)
        return result

    def _bands(
        self, image: NDArray[np.uint8], looks: Sequence[Look], answers: list[Floats]
    ) -> Iterator[tuple[slice, slice, Floats]]:
        """Yield (rows, columns, values): logits of a single look, mean probabilities of several."""
        height, width = image.shape[:2]
        tiles = [min(look.window[0], height) for look in looks if look.window is not None]
        for first, last in self._strips(width, sum(tiles)):
            pixel_bytes = 4 * self.spec.num_classes
            band = max(1, min(height, _BAND_BYTES // (pixel_bytes * (last - first))))
            views = self._views(image, looks, answers, (first, last), band)
            for top in range(0, height, band):
                bottom = min(top + band, height)
                values = views[0].rows(bottom)
                if len(views) > 1:
                    values = probabilities(values)
                    for view in views[1:]:
                        values += probabilities(view.rows(bottom))
                    values /= len(views)
                yield slice(top, bottom), slice(first, last), values

    def _strips(self, width: int, tile_rows: int) -> Iterator[tuple[int, int]]:
        """Cut the width into strips whose unfinished tile rows fit the memory budget."""
        strip = width
        if tile_rows:
            strip = max(64, _RING_BYTES // (4 * self.spec.num_classes * tile_rows))
        for first in range(0, width, strip):
            yield first, min(first + strip, width)

    def _views(
        self,
        image: NDArray[np.uint8],
        looks: Sequence[Look],
        answers: list[Floats],
        columns: tuple[int, int],
        band: int,
    ) -> list[WholeView | TiledView]:
        whole = iter(answers)
        views: list[WholeView | TiledView] = []
        for look in looks:
            if look.window is None:
                views.append(WholeView(next(whole), (image.shape[0], image.shape[1]), columns))
                continue
            views.append(
                TiledView(
                    image,
                    look,
                    overlap=self.overlap,
                    columns=columns,
                    band=band,
                    classes=self.spec.num_classes,
                    batch_size=self.batch_size,
                    run=self._run,
                )
            )
        return views

    def _run(self, requests: Sequence[Request]) -> list[Floats]:
        """Answer requests in order, up to `batch_size` of the same network size at once."""
        answers: list[Floats] = []
        position = 0
        while position < len(requests):
            net = requests[position].net_size
            batch = [requests[position]]
            for request in requests[position + 1 : position + self.batch_size]:
                if request.net_size != net:
                    break
                batch.append(request)
            answers.extend(self._run_batch(batch, net))
            position += len(batch)
        return answers

    def _run_batch(self, batch: Sequence[Request], net: Size) -> list[Floats]:
        fill = fill_color(self.spec.normalization)
        inputs = [
            pad_to(request.pixels[:, ::-1] if request.flip else request.pixels, net, fill)
            for request in batch
        ]
        logits = self.runtime(preprocess(np.stack(inputs), self.spec.normalization))
        expected = (len(batch), *net, self.spec.num_classes)
        if logits.shape != expected:
            raise UsageError(
                f"The network must give logits at input size, {expected}. Received: {logits.shape} from "
                f"runtime '{self.runtime.name}'"
            )
        answers = []
        for request, values in zip(batch, logits, strict=True):
            values = values[: request.pixels.shape[0], : request.pixels.shape[1]]
            values = values[:, ::-1] if request.flip else values
            answers.append(values if self._bias is None else values + self._bias)
        return answers


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _request(image: NDArray[np.uint8], look: Look) -> Request:
    pixels = image if look.content is None else resize_image(image, look.content)
    return Request(pixels, look.net_size, look.flip)


def _scaled(size: Size, factor: float, other: float | None = None) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * (factor if other is None else other)))
