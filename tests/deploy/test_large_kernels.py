"""Kernels so large that converters treat them otherwise."""

from __future__ import annotations

import importlib
import weakref

import keras
import numpy as np
import pytest
from toys import SIZE, build_toy, normalized, toy_sample, toy_spec

import deploy
from deploy.onnx import export as onnx_export
from deploy.tflite.large_weights import large_weights


def test_int8_of_a_kernel_above_32_mib(tmp_path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.AveragePooling2D(8)(image)
    x = keras.layers.Conv2D(1024, 1, activation="relu")(x)
    # Channels of very different size: with one's scale for another, nothing would be left of the small ones.
    x = keras.layers.Conv2D(1024, 3, padding="same", name="large")(x)
    logits = keras.layers.UpSampling2D(8)(keras.layers.Conv2D(2, 1)(x))
    model = keras.Model(image, logits)
    kernel, bias = model.get_layer("large").get_weights()
    assert kernel.nbytes > 32 * 2**20
    model.get_layer("large").set_weights([kernel * np.logspace(-2, 0, 1024, dtype="float32"), bias])
    model.spec = toy_spec()
    samples = [toy_sample(seed) for seed in range(4)]
    path = tmp_path / "large.tflite"
    deploy.export(model, path, precision="int8", calibration=samples, verify=False)
    assert path.stat().st_size < 0.3 * kernel.nbytes
    picture = normalized(samples[0])[None]
    expected = keras.ops.convert_to_numpy(model(picture, training=False))
    found = deploy.load(path)(picture)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * expected.std()


@pytest.mark.parametrize("axis", [0, 3])
def test_portions_are_the_whole(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_quantizer")
    from ai_edge_quantizer import qtyping

    name = "ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor"
    module = importlib.import_module(name)
    plain = module.uniform_quantize
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 3, 3, 10)).astype("float32")
    shape = [length if index == axis else 1 for index, length in enumerate(values.shape)]
    parameters = qtyping.UniformQuantParams(
        num_bits=8,
        quantized_dimension=axis,
        scale=random.uniform(0.01, 0.05, shape).astype("float32"),
        zero_point=np.zeros(shape, "int32"),
        symmetric=True,
    )
    monkeypatch.setattr("deploy.tflite.large_weights._LIMIT_BYTES", 100)
    monkeypatch.setattr("deploy.tflite.large_weights._PORTION_BYTES", 5 * 3 * 3 * 10 * 4)
    with large_weights():
        assert module.uniform_quantize is not plain
        found = module.uniform_quantize(values, parameters)
    assert module.uniform_quantize is plain
    np.testing.assert_array_equal(found, plain(values, parameters))


@pytest.mark.slow
def test_onnx_conversion_of_a_large_network_keeps_one_graph_in_memory(tmp_path, monkeypatch) -> None:
    optimizer = pytest.importorskip("tf2onnx.optimizer")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_export, "_LARGE", 1)
    living: list[int] = []
    copies: list[weakref.ref] = []

    class Counting:
        """The first optimizer, which also counts the copies of the graph that are still there."""

        def __init__(self) -> None:
            living.append(sum(copy() is not None for copy in copies))
            self.graph_been_opt = False

        def optimize(self, graph, iteration):
            copies.append(weakref.ref(graph))
            self.graph_been_opt = iteration < 3
            return graph

    each = {f"count{index}": Counting for index in range(4)}
    monkeypatch.setattr(optimizer, "_get_optimizers", lambda: each)
    model = build_toy((*SIZE, 3))
    model.spec = toy_spec()
    deploy.export(model, tmp_path / "toy.onnx", verify=False)
    assert len(living) == 16
    assert max(living) <= 1


def test_small_networks_take_the_converters_own_way() -> None:
    assert onnx_export._optimizers(build_toy()) is None
