"""How large the result of a transposed convolution is, and how one axis of it is computed."""

from __future__ import annotations

import dataclasses
from typing import Any

from kseg.checks import pair
from kseg.errors import UsageError


@dataclasses.dataclass(frozen=True)
class SizeRule:
    """Which outputs of a transposed convolution are kept along one axis.

    n inputs of stride s reach `s (n - 1) + k` outputs; kept are `s n + longer` of them from `start` on. What
    is asked for beyond them is zero.

    Args:
        kernel: taps k.
        stride: step s.
        start: outputs that are left out in front.
        longer: size of the result minus `s n`; may be negative.
    """

    kernel: int
    stride: int
    start: int
    longer: int

    @classmethod
    def of(cls, kernel: int, stride: int, padding: str | int, output_padding: int | None) -> SizeRule:
        """Return the rule of `padding` and `output_padding` (see `TransposedConv`)."""
        excess = max(kernel - stride, 0)
        if output_padding is None and padding == "same":
            return cls(kernel, stride, excess // 2, 0)
        if output_padding is None and padding == "valid":
            return cls(kernel, stride, 0, excess)
        if isinstance(padding, str):
            both = 2 * (kernel // 2) if padding == "same" else 0
            longer = kernel - stride - both + (output_padding or 0)
            return cls(kernel, stride, max(both - (output_padding or 0), 0) // 2, longer)
        return cls(kernel, stride, padding, kernel - stride - 2 * padding + (output_padding or 0))

    @property
    def behind(self) -> int:
        """Outputs that are left out behind the kept ones; negative: zeros that are missing there."""
        return self.kernel - self.stride - self.start - self.longer

    def size(self, size: Any) -> Any:
        """Return the size of the result for n inputs; None for None.

        Raises:
            UsageError: if nothing is left.
        """
        if size is None:
            return None
        kept = size * self.stride + self.longer
        if isinstance(kept, int) and kept < 1:
            raise UsageError(
                f"TransposedConv with kernel {self.kernel} and stride {self.stride} has {kept} outputs left "
                f"after its padding. Received an input of size {size}. Take less padding or a larger input"
            )
        return kept


@dataclasses.dataclass(frozen=True)
class Phases:
    """How one axis of a transposed convolution is cut into phases.

    The output at `s * m + p` is the sum over a of `x[m - a] * kernel[a * s + p]`. `lead` zeros in front of
    the kernel move the wanted part of the output to a whole m, so that it need not be cut out afterwards.

    Args:
        taps: number of input values behind each output value.
        lead: zeros before the kernel.
        tail: zeros behind it, up to `taps * s`.
        before: zeros to put before the input.
        after: zeros to put behind it.
        surplus: output values to drop at the end.
    """

    taps: int
    lead: int
    tail: int
    before: int
    after: int
    surplus: int

    @classmethod
    def plan(cls, rule: SizeRule) -> Phases:
        """Return the cut of `rule`."""
        lead = -rule.start % rule.stride
        taps = -(-(rule.kernel + lead) // rule.stride)
        first = (rule.start + lead) // rule.stride
        blocks = -(-rule.longer // rule.stride)
        return cls(
            taps=taps,
            lead=lead,
            tail=taps * rule.stride - rule.kernel - lead,
            before=taps - 1 - first,
            after=first + blocks,
            surplus=blocks * rule.stride - rule.longer,
        )


def checked_padding(padding: Any, kernel: tuple[int, int]) -> str | tuple[int, int]:
    """Return `padding` as a word or a pair, or say what is wrong with it."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise UsageError(
                "TransposedConv `padding` must be 'same', 'valid', or how much is left out at each end. "
                f"Received: padding={padding!r}"
            )
        return padding
    result = pair(padding, "TransposedConv", "padding", minimum=0)
    if any(count >= size for count, size in zip(result, kernel, strict=True)):
        raise UsageError(
            f"TransposedConv `padding` must be smaller than the kernel {kernel}. "
            f"Received: padding={padding!r}"
        )
    return result


def checked_output_padding(value: Any, strides: tuple[int, int]) -> tuple[int, int] | None:
    """Return `output_padding` as a pair or None, or say what is wrong with it."""
    if value is None:
        return None
    result = pair(value, "TransposedConv", "output_padding", minimum=0)
    if any(count >= stride for count, stride in zip(result, strides, strict=True)):
        raise UsageError(
            f"TransposedConv `output_padding` must be smaller than the strides {strides}. "
            f"Received: output_padding={value!r}"
        )
    return result
