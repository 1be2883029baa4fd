"""How `fit` reads batches under TensorFlow: through a `tf.data` pipeline that does not tune itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Batches that lie ready.
AHEAD = 2


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a data set whose buffers stay as they are.

    What tunes them looks ever more rarely, in the end once a minute, and at the end of a pass TensorFlow may
    wait until it looks again: between two epochs up to a minute would be lost.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def fed(batches: keras.utils.PyDataset) -> Any:
    """Return batches as `fit` and `evaluate` are to be given them.

    Args:
        batches: of any structure of arrays; what differs in shape does so from the first to the second batch.

    Returns:
        Under TensorFlow a `tf.data.Dataset` (see `untuned`), each pass over it an epoch of the batches; under
        other backends the batches themselves.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def signature(*examples: Any) -> tf.TensorSpec:
        first, *others = (np.asarray(example) for example in examples)
        sides = zip(first.shape[1:], *(other.shape[1:] for other in others), strict=True)
        known = [side[0] if len(set(side)) == 1 else None for side in sides]
        return tf.TensorSpec((None, *known), tf.as_dtype(first.dtype))

    def each() -> Iterator[Any]:
        for index in range(len(batches)):
            yield batches[index]
        batches.on_epoch_end()

    examples = [batches[index] for index in range(min(2, len(batches)))]
    data = tf.data.Dataset.from_generator(
        each, output_signature=keras.tree.map_structure(signature, *examples)
    )
    return untuned(data.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(AHEAD))
