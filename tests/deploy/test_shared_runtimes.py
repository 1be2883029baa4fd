"""One runtime, several threads: right answers, one caller's answer is not another's, close waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import PLAN, VERSIONS, fake_cuda, fake_tensorrt
from toys import SIZE, toy_sample

import deploy
from deploy.buffers import Buffers
from deploy.tensorrt import container
from deploy.tensorrt import runtime as engine_runtime
from kseg.errors import UsageError
from kseg.inference import Predictor
from kseg.inference.keras_runtime import KerasRuntime
from kseg.spec import Spec

KINDS = ("tflite", "onnx", "keras", "engine")
THREADS, CALLS = 4, 40
WAIT = 120.0


@pytest.fixture
def open_runtime(toy, exported, tmp_path, monkeypatch) -> Callable[[str], Any]:
    """Give a function that opens a runtime of a kind; the engine's runs on the fake device."""

    def engine() -> Any:
        trt, cuda = fake_tensorrt(VERSIONS[0], shape=(-1, *SIZE, 3)), fake_cuda()
        monkeypatch.setattr(engine_runtime, "library", lambda name: trt)
        monkeypatch.setattr(engine_runtime, "bindings", lambda: cuda)
        made_by = {"module": trt.__name__, "version": trt.__version__, "gpu": "NVIDIA Fake (SM89)"}
        path = tmp_path / "toy.engine"
        container.write(path, PLAN, build=made_by, spec=Spec(classes=("a", "b", "c"), input_size=SIZE))
        return deploy.load(path)

    def open_one(kind: str) -> Any:
        if kind == "engine":
            return engine()
        return KerasRuntime(toy) if kind == "keras" else deploy.load(exported[kind], threads=1)

    return open_one


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 1, *SIZE, 3)).astype(np.float32)


def _in_threads(work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_get_their_own_answers(kind, open_runtime):
    runtime, images = open_runtime(kind), _images(THREADS)
    expected = [np.array(runtime(image)) for image in images]
    wrong = []

    def work(number: int) -> None:
        held = []
        for _ in range(CALLS):
            held.append(runtime(images[number]))
            # An answer that is still held must not change when others are asked for.
            held = held[-3:]
            wrong.extend(1 for answer in held if not np.allclose(answer, expected[number], atol=1e-5))

    _in_threads(work)
    assert len(wrong) == 0, f"{len(wrong)} of {3 * THREADS * CALLS} answers were another's"
    runtime.close()


@pytest.mark.parametrize("kind", KINDS)
def test_close_while_others_run(kind, open_runtime):
    runtime, images = open_runtime(kind), _images(THREADS)
    expected = [np.array(runtime(image)) for image in images]
    running = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        np.testing.assert_allclose(runtime(images[number]), expected[number], atol=1e-5)
        running.wait(WAIT)

        def go_on() -> None:
            while True:
                np.testing.assert_allclose(runtime(images[number]), expected[number], atol=1e-5)

        with pytest.raises(UsageError, match="was closed"):
            go_on()

    def close() -> None:
        running.wait(WAIT)
        runtime.close()

    closer = threading.Thread(target=close)
    closer.start()
    _in_threads(work)
    closer.join(WAIT)
    assert not closer.is_alive()
    runtime.close()


@pytest.mark.parametrize("kind", ["tflite", "onnx", "keras"])
def test_one_predictor_for_all(kind, open_runtime):
    predictor = Predictor(open_runtime(kind), size=SIZE)
    samples = [toy_sample(seed) for seed in range(THREADS)]
    expected = [predictor(sample.image)[0] for sample in samples]

    def work(number: int) -> None:
        for _ in range(10):
            np.testing.assert_array_equal(predictor(samples[number].image)[0], expected[number])

    _in_threads(work)


@pytest.mark.parametrize("kind", KINDS)
def test_several_images_and_none(kind, open_runtime):
    runtime, images = open_runtime(kind), _images(3)[:, 0]
    single = np.concatenate([runtime(image[None]) for image in images])
    np.testing.assert_allclose(runtime(images), single, atol=1e-5)
    if kind != "keras":
        assert runtime(images[:0]).shape == (0, *single.shape[1:])


def test_buffers_come_back_only_when_nothing_refers_to_them():
    buffers = Buffers()
    first = buffers.take((2, 3))
    address = first.ctypes.data
    corner = first[:1, :2].T
    del first
    second = buffers.take((2, 3))
    assert second.ctypes.data != address
    second[:] = 7
    corner[:] = 5
    assert (second == 7).all()
    del corner
    assert buffers.take((2, 3)).ctypes.data == address
    assert buffers.take((4, 3)).shape == (4, 3)


def test_few_buffers_are_kept():
    buffers = Buffers()
    held = [buffers.take((4,)) for _ in range(20)]
    addresses = {array.ctypes.data for array in held}
    del held
    kept = [buffers.take((4,)) for _ in range(2)]
    assert {array.ctypes.data for array in kept} <= addresses
    assert len(buffers._spare) == 0
