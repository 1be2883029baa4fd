"""Score a predictor at the original size of each image, one image after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kseg.data.merged import in_classes_of
from kseg.errors import DataError, UsageError
from kseg.metrics.confusion import Confusion
from kseg.progress import Progress, silent
from kseg.spec import Spec


class Segmenter(Protocol):
    """A `Predictor`, or what wraps one and has its surface."""

    @property
    def spec(self) -> Spec:
        """The model's Spec."""

    def stream(self, images: Iterable[Any]) -> Iterator[NDArray[Any]]:
        """Yield one class map per image, in order."""


class Labelled(Protocol):
    """One image with its truth, as `kseg.data` gives it."""

    @property
    def name(self) -> str:
        """What errors call the sample."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 `(H, W, 3)` RGB."""

    @property
    def mask(self) -> NDArray[Any]:
        """Integer class ids `(H, W)`, or the ignore id."""


def check_classes(model: Spec, data: Spec) -> None:
    """Make sure that class ids mean the same to the model and to the data.

    Raises:
        UsageError: naming what differs, if the class lists differ in any way.
    """
    if model.classes == data.classes:
        return
    only_model = [name for name in model.classes if name not in data.classes]
    only_data = [name for name in data.classes if name not in model.classes]
    parts = []
    if only_model:
        parts.append(f"only the model has {', '.join(only_model)}")
    if only_data:
        parts.append(f"only the data have {', '.join(only_data)}")
    if not parts:
        place = next(i for i, (a, b) in enumerate(zip(model.classes, data.classes, strict=True)) if a != b)
        parts.append(
            f"the order differs: class {place} is '{model.classes[place]}' and '{data.classes[place]}'"
        )
    raise UsageError(
        f"The model's {model.num_classes} classes and the data's {data.num_classes} are not the same: "
        f"{'; '.join(parts)}. Evaluate on data with the classes that the model was trained on"
    )


def evaluate(
    predictor: Segmenter,
    samples: Sequence[Labelled],
    progress: Progress | None = None,
    text: str = "scoring images",
) -> Confusion:
    """Count truth against prediction over all samples, at original size, void left out.

    Streaming: at most `predictor.batch_size` images are held, and only counts are kept.

    Args:
        predictor: what predicts.
        samples: `kseg.data.open(source).samples(split)`, or any sequence of objects with `.name`,
            `.image`, `.mask`. If it has a `.spec`, its classes must be the model's (or those that the model
            merges: the truth is then merged too) and its ignore id is used.
        progress: wraps the loop over the samples.
        text: what it shows.

    Raises:
        UsageError: if the classes of model and data differ.
        DataError: if there is no sample, a mask has another size than its image, or holds unknown ids.
    """
    if len(samples) == 0:
        raise DataError("There is nothing to evaluate: the split has no samples")
    samples = in_classes_of(predictor.spec, samples)
    data = getattr(samples, "spec", None)
    if data is not None:
        check_classes(predictor.spec, data)
    ignore_id = predictor.spec.ignore_id if data is None else data.ignore_id
    confusion = Confusion(predictor.spec.num_classes, ignore_id)
    # The predictor may read a few images ahead; their truths wait here.
    waiting: deque[Labelled] = deque()

    def images() -> Iterator[NDArray[np.uint8]]:
        total = len(samples) if isinstance(samples, Sized) else None
        for sample in (progress or silent)(samples, total, text):
            if sample.mask.shape != sample.image.shape[:2]:
                raise DataError(
                    f"Sample '{sample.name}': the mask is {sample.mask.shape[0]}x{sample.mask.shape[1]}, its "
                    f"image {sample.image.shape[0]}x{sample.image.shape[1]}. Run: kseg check-data DIR"
                )
            waiting.append(sample)
            yield sample.image

    for prediction in predictor.stream(images()):
        sample = waiting.popleft()
        try:
            confusion.update(sample.mask, prediction)
        except DataError as error:
            raise DataError(f"Sample '{sample.name}': {error}") from error
    return confusion
