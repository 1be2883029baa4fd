"""Score a predictor at the original size of each image, one image after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg import tasks
from kseg.errors import DataError
from kseg.progress import Progress, silent


def evaluate(
    predictor: tasks.Predictor,
    samples: Sequence[Any],
    progress: Progress | None = None,
    text: str = "scoring images",
) -> Any:
    """Count truth against prediction over all samples, at original size, as the model's task counts.

    Streaming: at most `predictor.batch_size` images are held, and only counts are kept.

    Args:
        predictor: what predicts.
        samples: `kseg.data.open(source).samples(split)`, or any sequence of objects with `.name`, `.image`
            (uint8 `(H, W, 3)`) and the truth (`.mask`: integer class ids `(H, W)`, or the ignore id). If it
            has a `.spec`, its classes must be the model's (or those that the model merges: the truth is then
            merged too) and its ignore id is used.
        progress: wraps the loop over the samples.
        text: what it shows.

    Returns:
        The scorer of the task: for a semantic model a `kseg.metrics.Confusion`, void left out.

    Raises:
        UsageError: if the classes of model and data differ.
        DataError: if there is no sample, or the truth of one cannot be used.
    """
    if len(samples) == 0:
        raise DataError("There is nothing to evaluate: the split has no samples")
    scorer, samples = tasks.find(predictor.spec.task).part("scorer")(predictor.spec, samples)
    # The predictor may read a few images ahead; their truths wait here.
    waiting: deque[Any] = deque()

    def images() -> Iterator[NDArray[np.uint8]]:
        total = len(samples) if isinstance(samples, Sized) else None
        for sample in (progress or silent)(samples, total, text):
            waiting.append(sample)
            yield sample.image

    for prediction in predictor.stream(images()):
        scorer.add(waiting.popleft(), prediction)
    return scorer
