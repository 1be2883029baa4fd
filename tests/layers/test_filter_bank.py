"""The 17 filters: their sums, their order, and the same numbers as SciPy's filters."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.layers import FilterBank, MirrorBorder
from kseg.layers.filter_bank import scales


def respond(bank: FilterBank, lab: np.ndarray) -> np.ndarray:
    """Responses at every `stride`-th pixel of Lab images, their borders mirrored."""
    border = MirrorBorder(bank.radius, bank.radius, bank.stride)
    return keras.ops.convert_to_numpy(bank(border(lab)))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("quirks", [False, True])
def test_sums_are_one_for_gaussians_and_zero_for_derivatives(quirks: bool) -> None:
    filters = [item for scale in scales(quirks=quirks) for item in scale]
    assert len(filters) == 17
    for item in filters:
        expected = 1.0 if item.name.startswith("gaussian") else 0.0
        assert item.kernel().sum() == pytest.approx(expected, abs=1e-12)


def test_an_impulse_gives_back_every_filter() -> None:
    bank = FilterBank()
    impulse = np.zeros((3, 97, 97, 3), "float32")
    for channel in range(3):
        impulse[channel, 48, 48, channel] = 1
    found = keras.ops.convert_to_numpy(bank(impulse))
    for index, item in enumerate(item for scale in scales() for item in scale):
        kernel = np.pad(item.kernel(), 24 - item.radius)[::-1, ::-1]  # a correlation turns it round
        np.testing.assert_allclose(found[item.channel, ..., index], kernel, atol=1e-6)
        others = [channel for channel in range(3) if channel != item.channel]
        assert not found[others, ..., index].any()


def test_nine_gaussians_four_derivatives_four_laplacians_out_to_three_sigma() -> None:
    bank = FilterBank()
    kinds = [name.split("_")[0] for name in bank.names]
    assert [kinds.count(kind) for kind in ("gaussian", "derivative", "laplacian")] == [9, 4, 4]
    assert len(set(bank.names)) == 17
    radii = {item.name: item.radius for scale in scales() for item in scale}
    assert (radii["gaussian_1_a"], radii["derivative_x_2"], radii["laplacian_8"]) == (3, 6, 24)
    assert (FilterBank(kappa=0.5).radius, bank.radius) == (12, 24)
    assert not bank.weights


def test_the_same_as_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    lab = noise(1, 40, 56, 3)
    bank = FilterBank()
    found = dict(zip(bank.names, np.moveaxis(respond(bank, lab)[0], -1, 0), strict=True))
    for sigma in (1, 2, 4):
        for channel, letter in enumerate("Lab"):
            expected = ndimage.gaussian_filter(lab[0, ..., channel], sigma, mode="mirror", truncate=3)
            np.testing.assert_allclose(found[f"gaussian_{sigma}_{letter}"], expected, atol=1e-5)
    for sigma in (2, 4):
        for name, order in (("x", (0, 1)), ("y", (1, 0))):
            expected = -sigma * ndimage.gaussian_filter(
                lab[0, ..., 0], sigma, order=order, mode="mirror", truncate=3
            )
            # SciPy convolves with the derivative, which is minus the correlation with it.
            np.testing.assert_allclose(found[f"derivative_{name}_{sigma}"], -expected, atol=1e-5)
    for sigma in (1, 2, 4, 8):
        expected = sigma**2 * ndimage.gaussian_laplace(lab[0, ..., 0], sigma, mode="mirror", truncate=3)
        # SciPy leaves what the cut at three sigma leaves over, a share of the mean around the pixel.
        assert np.corrcoef(found[f"laplacian_{sigma}"].ravel(), expected.ravel())[0, 1] > 0.995


def test_quirks_are_those_of_the_code() -> None:
    plain, quirky = (
        {item.name: item for scale in scales(quirks=quirks) for item in scale} for quirks in (False, True)
    )
    changed = {name for name in plain if not np.array_equal(kernel(plain[name]), kernel(quirky[name]))}
    third = {f"gaussian_4_{letter}" for letter in "Lab"}
    assert changed == third | {"derivative_x_4", "derivative_y_4", "laplacian_4", "laplacian_8"}
    assert quirky["gaussian_4_L"].radius == 9  # sigma 3


def kernel(item) -> np.ndarray:
    return np.pad(item.kernel(), 24 - item.radius)


@pytest.mark.parametrize(("stride", "first"), [(2, 0), (5, 2), ((3, 1), (1, 0))])
def test_a_stride_takes_the_middle_of_each_block(stride, first) -> None:
    lab = noise(2, 30, 45, 3)
    rows, columns = first if isinstance(first, tuple) else (first, first)
    down, across = stride if isinstance(stride, tuple) else (stride, stride)
    full = respond(FilterBank(), lab)[:, rows::down, columns::across]
    bank = FilterBank(stride=stride)
    found = respond(bank, np.ascontiguousarray(lab))[:, : full.shape[1], : full.shape[2]]
    np.testing.assert_allclose(found, full, atol=1e-5)
    assert bank.compute_output_shape((2, 30 + 48, 45 + 48, 3)) == (2, *full.shape[1:3], 17)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="`kappa` must be a number > 0 and <= 16"):
        FilterBank(kappa=0)
    with pytest.raises(UsageError, match=r"CIELab images .* \(None, 100, 100, 1\)"):
        FilterBank()(keras.Input((100, 100, 1)))
    with pytest.raises(UsageError, match=r"height above 48.*MirrorBorder"):
        FilterBank()(keras.Input((48, 100, 3)))
