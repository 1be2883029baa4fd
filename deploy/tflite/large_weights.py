"""A detour around a fault of ai-edge-quantizer: kernels of more than 32 MiB.

For those it reshapes the kernel to two axes and then cannot spread the scales per channel, which have four,
over it (0.6 to 0.10). Here such a kernel is quantised in portions of its first axis, each below that size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kseg.errors import require

_LIMIT_BYTES = 32 * 2**20
_PORTION_BYTES = _LIMIT_BYTES // 2


@contextmanager
def large_weights() -> Iterator[None]:
    """Let the quantizer take kernels of any size while the context is open."""
    module: Any = require("ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor", "litert")
    plain = module.uniform_quantize

    def in_portions(values: np.ndarray, parameters: Any, is_blockwise_quant: bool = False) -> np.ndarray:
        if values.ndim < 3 or values.nbytes <= _LIMIT_BYTES or is_blockwise_quant:
            return plain(values, parameters, is_blockwise_quant)
        rows = max(1, _PORTION_BYTES // (values.nbytes // len(values)))
        parts = [
            plain(values[first : first + rows], _part(parameters, len(values), first, first + rows))
            for first in range(0, len(values), rows)
        ]
        return np.concatenate(parts)

    module.uniform_quantize = in_portions
    try:
        yield
    finally:
        module.uniform_quantize = plain


def _part(parameters: Any, length: int, first: int, last: int) -> Any:
    """Return the parameters of entries `first` to `last` of a kernel's first axis, `length` long."""
    if parameters.quantized_dimension != 0:
        return parameters
    scale, zero = (np.asarray(value) for value in (parameters.scale, parameters.zero_point))
    return dataclasses.replace(
        parameters,
        scale=scale[first:last] if len(scale) == length else scale,
        zero_point=zero[first:last] if len(zero) == length else zero,
    )
