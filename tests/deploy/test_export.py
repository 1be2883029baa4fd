"""deploy.export: fidelity, what the files contain, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toys import SIZE, build_toy, normalized, toy_sample, toy_spec, train_toy

import deploy
from deploy.conversion import Request, float32_twin
from deploy.keep_float import Pattern
from deploy.template import check_parity, check_signature
from deploy.tflite.container import read_model
from kseg import models
from kseg.errors import ArtefactError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def logits_of(model, image):
    return np.asarray(model(image, training=False), np.float32)


def rms_over_std(received, expected):
    return float(np.sqrt(np.mean((received - expected) ** 2)) / expected.std())


@pytest.mark.parametrize(
    ("file", "precision", "limit"),
    [
        ("m.tflite", "float32", 1e-5),
        ("m.tflite", "float16", 0.01),
        ("m.tflite", "int8", 0.1),
        ("m.onnx", "float32", 1e-5),
        ("m.onnx", "float16", 0.01),
    ],
)
def test_every_precision_answers_as_keras_and_is_verified(
    file, precision, limit, toy, train_samples, val_samples, tmp_path
):
    outcome = deploy.export(
        toy,
        tmp_path / file,
        precision=precision,
        calibration=train_samples,
        verify=val_samples,
        calibration_images=12,
    )
    assert outcome["verify"]["status"] == "passed"
    assert outcome["verify"]["images"] == len(val_samples)
    assert outcome["verify"]["miou_reference"] > 0.7
    spec = deploy.read_spec(tmp_path / file)
    assert spec.export["verify"] == outcome["verify"]
    assert spec.export["precision"] == precision
    image = normalized(val_samples[0])[None]
    assert rms_over_std(deploy.load(tmp_path / file)(image), logits_of(toy, image)) < limit
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


def test_int8_record_and_operators(toy, train_samples, tmp_path):
    path = tmp_path / "m.tflite"
    first = deploy.export(
        toy, path, precision="int8", calibration=train_samples, verify=False, calibration_images=10, seed=3
    )
    record = first["calibration"]
    assert (record["images"], record["inputs"], record["seed"]) == (10, 10, 3)
    assert record["range"][0] < 0 < record["range"][1]
    content = path.read_bytes()
    assert deploy.load(path).operators() >= {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "QUANTIZE"}
    again = deploy.export(
        toy, path, precision="int8", calibration=train_samples, verify=False, calibration_images=10, seed=3
    )
    assert again["calibration"] == record
    assert zip_free(path.read_bytes()) == zip_free(content)
    other = deploy.export(
        toy, path, precision="int8", calibration=train_samples, verify=False, calibration_images=10, seed=4
    )
    assert other["calibration"]["names_sha256"] != record["names_sha256"]


def test_layers_named_by_keep_float_stay_float(toy, train_samples, tmp_path):
    common = {"precision": "int8", "calibration": train_samples, "verify": False, "calibration_images": 8}
    small = deploy.export(toy, tmp_path / "int8.tflite", **common)
    depthwise = next(layer.name for layer in toy.layers if "depthwise" in type(layer).__name__.lower())
    mixed = deploy.export(toy, tmp_path / "mixed.tflite", keep_float=f"/{depthwise}/", **common)
    assert (small["keep_float"], mixed["keep_float"]) == (None, f"/{depthwise}/")
    assert mixed["bytes"] > small["bytes"]
    assert deploy.read_spec(tmp_path / "mixed.tflite").export["keep_float"] == f"/{depthwise}/"

    loud = deploy.export(toy, tmp_path / "loud.tflite", keep_float=f"(?i)/{depthwise.upper()}/", **common)
    assert read_model(Path(loud["path"]))[0] == read_model(Path(mixed["path"]))[0]
    # What makes the output of the graph has lost the name of its layer, and goes by it all the same.
    last = deploy.export(toy, tmp_path / "last.tflite", keep_float="^head$", **common)
    assert last["bytes"] > small["bytes"]
    nothing = deploy.export(toy, tmp_path / "nothing.tflite", keep_float="^$", **common)
    assert read_model(Path(nothing["path"]))[0] == read_model(Path(small["path"]))[0]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", r"missing \): .*Received: '\('"),
        ("", "something in it.*Received: ''"),
        ("a)(b", r"Received: 'a\)\(b'"),  # whole only inside the parentheses that it used to be put into
        ("(?=conv)", r"look-around.*Received: '\(\?=conv\)'"),
        ("a{1000}{1000}", r"Received: 'a\{1000\}\{1000\}'"),
        ("(?:(?:a{100}){100}){100}", "Received: "),
        ("x" * 20_000, "20,000 characters"),
        (5, "Received: 5"),
    ],
)
def test_keep_float_is_checked_before_anything_is_written(pattern, words, toy, train_samples, tmp_path):
    asked = {"precision": "int8", "calibration": train_samples, "verify": False}
    with pytest.raises(UsageError, match=f"(?s)`keep_float`.*{words}"):
        deploy.export(toy, tmp_path / "m.tflite", keep_float=pattern, **asked)
    assert not list(tmp_path.iterdir())


def test_keep_float_is_for_int8_alone(toy, tmp_path):
    with pytest.raises(UsageError, match="`keep_float` is for precision 'int8'"):
        deploy.export(toy, tmp_path / "m.tflite", keep_float="x", precision="float16", verify=False)


def test_no_pattern_takes_long():
    """`(a+)+$` on 40 letters keeps Python's own engine busy for days."""
    start = time.perf_counter()
    assert not Pattern("(a+)+$").found_in("a" * 10_000 + "b")
    assert not Pattern("(a|a)*(a|a)*(a|a)*c").found_in("a" * 10_000)
    assert time.perf_counter() - start < 5


def zip_free(content: bytes) -> bytes:
    return content[: content.index(b"PK\x03\x04")]


def test_float16_halves_the_weights(toy, exported, tmp_path):
    import onnx

    for name in ("m.tflite", "m.onnx"):
        deploy.export(toy, tmp_path / name, precision="float16", verify=False)
    tensors = deploy.load(tmp_path / "m.tflite")._interpreter.get_tensor_details()
    assert any(tensor["dtype"] == np.float16 for tensor in tensors)
    graph = onnx.load(str(tmp_path / "m.onnx")).graph
    kinds = {weight.data_type for weight in graph.initializer if weight.dims}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_float16_resizes_run_where_onnx_runtime_reorders_their_axes(tmp_path):
    """The CRF works channels first behind a Resize, whose empty region from tf2onnx then broke the run."""
    arguments = {"base": "LRASPP", "window": 3, "test_iterations": 1, "stride": 2}
    model = models.create("crfrnn", input_shape=(*SIZE, 3), num_classes=2, **arguments)
    model.spec = toy_spec()
    deploy.export(model, tmp_path / "m.onnx", precision="float16", verify=False)
    image = normalized(toy_sample(1))[None]
    # Two steps of float16 near 1, where the logits of an untrained network lie.
    np.testing.assert_allclose(deploy.load(tmp_path / "m.onnx")(image), logits_of(model, image), atol=2e-3)


def test_onnx_ends_and_batch(toy, tmp_path):
    import onnx

    path = tmp_path / "m.onnx"
    deploy.export(toy, path, dynamic="batch", verify=False)
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    for entry, name in ((model.graph.input[0], "image"), (model.graph.output[0], "logits")):
        assert entry.name == name
        assert entry.type.tensor_type.shape.dim[0].dim_param == "batch"
    images = np.random.default_rng(0).standard_normal((3, *SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(deploy.load(path)(images), logits_of(toy, images), atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_networks_become_pure_float32(policy, tmp_path):
    import keras

    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = train_toy(build_toy(), steps=3)
    finally:
        keras.config.set_dtype_policy(previous)
    mixed.spec = toy_spec()
    twin = float32_twin(mixed)
    assert {layer.compute_dtype for layer in twin._flatten_layers(include_self=False)} == {"float32"}
    for old, new in zip(mixed.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    outcome = deploy.export(mixed, tmp_path / "m.tflite", verify=False)
    assert outcome["parity"]["rms_over_std"] < 1e-5
    kinds = {
        str(np.dtype(t["dtype"]))
        for t in deploy.load(tmp_path / "m.tflite")._interpreter.get_tensor_details()
    }
    assert kinds <= {"float32", "int32"}
    image = normalized(toy_sample(300))[None]
    assert rms_over_std(deploy.load(tmp_path / "m.tflite")(image), logits_of(mixed, image)) < 0.05


def test_float32_networks_are_not_rebuilt(toy):
    assert float32_twin(toy) is toy


def test_another_size_than_the_spec(toy, tmp_path):
    outcome = deploy.export(toy, tmp_path / "m.tflite", size=(32, 40), verify=False)
    assert outcome["size"] == [32, 40]
    assert deploy.read_spec(tmp_path / "m.tflite").input_size == (32, 40)
    assert deploy.load(tmp_path / "m.tflite").input_size == (32, 40)


def test_a_failed_gate_keeps_the_file_and_says_so(toy, val_samples, tmp_path):
    path = tmp_path / "m.tflite"
    # Calibrated on darkness, the ranges cut off everything that is bright.
    dark = [SimpleNamespace(name="dark", image=np.zeros((*SIZE, 3), np.uint8), mask=np.zeros(SIZE, np.uint8))]
    with pytest.raises(deploy.VerificationFailed, match="points of mIoU") as caught:
        deploy.export(toy, path, precision="int8", calibration=dark, verify=val_samples, max_miou_drop=1.0)
    assert caught.value.exit_code == 1
    assert caught.value.outcome["verify"]["drop"] > 1.0
    assert deploy.read_spec(path).export["verify"]["status"] == "FAILED"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"precision": "int8", "verify": False}, "int8 needs images"),
        ({"precision": "half", "verify": False}, "Known: float32, float16, int8"),
        ({}, "verify=False"),
        ({"verify": False, "dynamic": "batch"}, "None only"),
        ({"verify": False, "format": "onnx"}, "must end in '.onnx'"),
        ({"verify": False, "size": (1, 64)}, "at least 2"),
        ({"verify": False, "size": (2**63, 2**63)}, "at most 33,554,432 pixels"),
        ({"verify": [], "verify_images": 4}, "an integer >= 8"),
        ({"verify": False, "precision": "int8", "calibration": [1], "calibration_images": 0}, "positive"),
    ],
)
def test_wrong_arguments_leave_nothing(arguments, match, toy, tmp_path):
    with pytest.raises(UsageError, match=match):
        deploy.export(toy, tmp_path / "m.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_exported(tmp_path):
    fixed = build_toy((32, 32, 3))
    with pytest.raises(UsageError, match="has no spec"):
        deploy.export(fixed, tmp_path / "m.tflite", verify=False)
    with pytest.raises(UsageError, match="was built for size"):
        deploy.export(fixed, tmp_path / "m.tflite", spec=toy_spec(), verify=False)
    with pytest.raises(UsageError, match="pass size="):
        deploy.export(
            build_toy(), tmp_path / "m.tflite", spec=toy_spec().replace(input_size=None), verify=False
        )


def test_operators_that_need_tensorflow_are_refused(tmp_path):
    import keras

    image = keras.Input((*SIZE, 3))
    x = keras.layers.Resizing(24, 32, interpolation="bicubic")(image)
    model = keras.Model(image, keras.layers.UpSampling2D(2)(keras.layers.Conv2D(2, 1)(x)))
    with pytest.raises(ArtefactError, match="ResizeBicubic"):
        deploy.export(model, tmp_path / "m.tflite", spec=toy_spec(), verify=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_variables_is_refused(toy, tmp_path):
    """The Keras model as trackable makes a tiny file of unbound variables; the check must see it."""
    import tensorflow as tf

    from deploy.tflite.container import embed
    from deploy.tflite.export import TFLiteExporter

    traced = tf.function(
        lambda image: {"logits": toy(image, training=False)},
        input_signature=[tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")],
    ).get_concrete_function()
    path = tmp_path / "broken.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([traced], toy).convert())
    embed(path, toy.spec)
    request = Request(format="tflite", precision="float32", size=SIZE, outputs=("logits",))
    with pytest.raises(ArtefactError):
        TFLiteExporter(SimpleNamespace(request=request)).check_graph(path)


def test_captured_constants_are_found():
    from onnx import TensorProto, helper

    from deploy.onnx.export import _check_inputs

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "mean", "logits")
    ]
    node = helper.make_node("Sub", ["image", "mean"], ["logits"])
    with pytest.raises(ArtefactError, match="one input"):
        _check_inputs(helper.make_model(helper.make_graph([node], "g", ends[:2], ends[2:])))


def test_signature_and_parity_checks():
    request = Request(format="tflite", precision="float32", size=SIZE, outputs=("logits",))

    def runtime(size, shape):
        return SimpleNamespace(input_size=size, ends=SimpleNamespace(outputs={"logits": shape}))

    check_signature(runtime(SIZE, (*SIZE, 2)), request, toy_spec())
    with pytest.raises(ArtefactError, match="changed the input size"):
        check_signature(runtime((1, 64), (*SIZE, 2)), request, toy_spec())
    with pytest.raises(ArtefactError, match=r"outputs must be .*'logits'"):
        check_signature(runtime(SIZE, (*SIZE, 3)), request, toy_spec())
    logits = np.random.default_rng(0).standard_normal((1, 4, 4, 2)).astype(np.float32)
    assert check_parity({"a": logits}, {"a": logits}, 1e-3)["max_abs"] == 0
    with pytest.raises(ArtefactError, match="NaN or infinite a"):
        check_parity({"a": np.full_like(logits, np.nan)}, {"a": logits}, None)
    ones = np.ones_like(logits)
    assert check_parity({"a": ones + 4e-4}, {"a": ones}, 0.2)["rms_over_std"] < 0.05
    assert check_parity({"a": -logits}, {"a": logits}, None)["rms_over_std"] > 1
    # Every output counts, each under its name.
    good = {"a": logits, "b": ones}
    with pytest.raises(ArtefactError, match=r"does not compute what Keras computes.* of b"):
        check_parity({"a": logits, "b": ones + 0.1}, good, 1e-3)


JAX = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from toys import build_toy, toy_spec, normalized, toy_sample
import keras, numpy as np, deploy
assert keras.backend.backend() == "jax"
model = build_toy()
model.spec = toy_spec()
image = normalized(toy_sample(5))[None]
outcome = deploy.export(model, sys.argv[2], verify=False)
print(np.abs(deploy.load(sys.argv[2])(image) - np.asarray(model(image))).max())
"""


def test_a_network_on_the_jax_backend(tmp_path):
    pytest.importorskip("jax")
    ran = subprocess.run(
        [sys.executable, "-c", JAX, str(Path(__file__).parent), str(tmp_path / "m.tflite")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 1e-4
