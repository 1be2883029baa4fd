"""The batch size: what fits, what pays, and what is said when memory runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from kseg.machine import host
from kseg.machine.backend import Backend, Device
from kseg.training import batch_size
from kseg.training.batch_size import OutOfMemoryError, Steps, find, is_out_of_memory, largest


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


class XlaRuntimeError(RuntimeError):
    """Named as JAX's."""


def machine(fitting: int, seconds: Callable[[int], float]) -> Callable[[int], float | None]:
    """Return the time of a step on a device that holds `fitting` images."""
    return lambda size: seconds(size) if size <= fitting else None


@pytest.mark.parametrize("fitting", [1, 2, 5, 7, 100])
def test_what_fits_is_found_by_bisection(fitting: int) -> None:
    found = largest(lambda size: size <= fitting, 0, 150)
    assert fitting - max(1, fitting // batch_size.SPARE) < found <= fitting


def test_more_images_are_taken_as_long_as_they_pay() -> None:
    # A constant part that more images share, up to a point.
    found = find(machine(10_000, lambda size: 1.0 + size / 32), most=256)
    assert found.size == 256
    found = find(machine(10_000, lambda size: float(size)), most=256)
    assert found.size == batch_size.START
    assert "does not pay" in found.reason


def test_memory_bounds_it_and_an_eighth_is_spared() -> None:
    found = find(machine(100, lambda size: 1.0), most=256)
    assert 64 <= found.size < 100
    assert "fits" in found.reason


def test_a_network_too_large_for_the_default_gets_less_or_is_refused() -> None:
    assert find(machine(3, lambda size: 1.0), most=256).size == 3
    with pytest.raises(OutOfMemoryError, match="--size"):
        find(machine(0, lambda size: 1.0), most=256)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (ResourceExhaustedError("OOM when allocating tensor"), True),
        (XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes"), True),
        (XlaRuntimeError("INVALID_ARGUMENT: shapes differ"), False),
        (MemoryError(), True),
        (ValueError("out of memory of what happened"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_real_steps_repeat_the_images_and_build_anew_after_one_that_did_not_fit() -> None:
    seen: list[int] = []
    built = []

    class Model:
        def __init__(self) -> None:
            built.append(self)

        def train_on_batch(self, images: np.ndarray, masks: dict[str, np.ndarray]) -> None:
            assert len(images) == len(masks["main"])
            seen.append(len(images))
            if len(images) > 4:
                raise XlaRuntimeError("RESOURCE_EXHAUSTED")

    steps = Steps(Model, (np.zeros((3, 2, 2, 3)), {"main": np.zeros((3, 2, 2))}))  # type: ignore[arg-type]
    assert steps.seconds(2) is not None
    assert steps.seconds(5) is None
    assert steps.seconds(4) is not None
    assert (len(built), set(seen)) == (2, {2, 4, 5})


def test_on_the_cpu_an_estimate_bounds_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    import kseg

    network = kseg.models.create("unet", num_classes=2, width=0.0625, depth=2)
    fixed, per_image = batch_size.estimated_bytes(network, (64, 64))
    monkeypatch.setattr(
        host, "available_bytes", lambda: int((fixed + 10 * per_image) / batch_size.CPU_SHARE) + 1
    )
    assert batch_size.most_for_memory(network, (64, 64)) == 10
    monkeypatch.setattr(host, "available_bytes", lambda: 1)
    assert batch_size.most_for_memory(network, (64, 64)) == 1
    gpu = Backend("tensorflow", devices=(Device("NVIDIA T4", "gpu", (7, 5)),))
    monkeypatch.setattr(batch_size.backend, "look", lambda: gpu)
    assert batch_size.most_for_memory(network, (64, 64)) is None


GROWTH = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, kseg
from kseg.training.batch_size import estimated_bytes
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
size = (192, 192)
model = kseg.models.create({name!r}, num_classes=5, **{arguments!r})
model.compile("adamw", kseg.losses.PixelCrossEntropy(), jit_compile=False)
peaks = []
for images in (2, 8):
    batch = np.zeros((images, *size, 3), "float32"), np.zeros((images, *size), "int32")
    for _ in range(2):
        model.train_on_batch(*batch)
    peaks.append(peak())
print((peaks[1] - peaks[0]) / 6, estimated_bytes(model, size)[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unet", {"width": 0.25}),
        pytest.param("fcn8s", {"encoder": "mobilenetv3"}, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_above_what_training_takes(name: str, arguments: dict) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH.format(name=name, arguments=arguments)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    taken, estimated = map(float, done.stdout.split()[-2:])
    assert taken < estimated < 6 * taken
