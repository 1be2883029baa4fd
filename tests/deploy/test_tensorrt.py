"""Engines: the container, the builder on each recorded surface, the real TensorRT-RTX, the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import PLAN, VERSIONS, fake_cuda, fake_tensorrt

from deploy.formats import NoDeviceError
from deploy.tensorrt import container, runtime
from deploy.tensorrt import library as trt_library
from deploy.tensorrt.cuda import bindings, device_name
from kseg.errors import ArtefactError, MissingExtraError, UsageError
from kseg.spec import Spec

SPEC = Spec(classes=("a", "b", "c"), input_size=(4, 6))


def _made_by(trt, gpu="NVIDIA Fake (SM89)"):
    return {"module": trt.__name__, "version": trt.__version__, "gpu": gpu, "targets": "all supported"}


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    container.write(path, PLAN, build=_made_by(fake_tensorrt(VERSIONS[0])), spec=SPEC)
    return path


def test_container_gives_back_spec_and_plan(engine_file):
    header, plan = container.read(engine_file)
    assert plan == PLAN
    assert container.read_spec(engine_file) == SPEC
    assert header["build"]["gpu"] == "NVIDIA Fake (SM89)"


def test_embedding_replaces_the_spec_and_leaves_the_plan(engine_file):
    other = SPEC.replace(classes=("x", "y", "z"))
    container.embed(engine_file, other)
    container.embed(engine_file, other)
    assert container.read_spec(engine_file) == other
    assert container.read(engine_file)[1] == PLAN


@pytest.mark.parametrize("keep", [4, 12, 30, -1])
def test_truncated_engine_is_named(engine_file, keep):
    engine_file.write_bytes(engine_file.read_bytes()[:keep])
    with pytest.raises(ArtefactError, match=r"lacks the header|truncated|damaged"):
        container.read_spec(engine_file)


def test_changed_byte_is_found(engine_file):
    content = bytearray(engine_file.read_bytes())
    content[-1] ^= 1
    engine_file.write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged"):
        container.read(engine_file)


def test_bare_plan_is_not_ours(tmp_path):
    path = tmp_path / "bare.engine"
    path.write_bytes(b"ptrt" + bytes(64))
    with pytest.raises(ArtefactError, match="not an engine that kseg wrote"):
        container.read_spec(path)


def test_export_that_did_not_finish_is_said(tmp_path):
    path = tmp_path / "model.engine"
    container.write(path, PLAN, build=_made_by(fake_tensorrt(VERSIONS[0])))
    with pytest.raises(ArtefactError, match="did not finish"):
        container.read_spec(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_builder_uses_only_names_that_the_version_has(version):
    trt = fake_tensorrt(version)
    assert trt_library.build(trt, b"graph", batches=(1, 2, 4)) == PLAN
    # Strong typing must be asked for on TensorRT 10.
    flags = trt.Builder.create_network.call_args.args[-1]
    assert flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    trt.IOptimizationProfile.set_shape.assert_called_once()
    assert trt.IOptimizationProfile.set_shape.call_args.args[-3:] == (
        (1, 4, 6, 3),
        (2, 4, 6, 3),
        (4, 4, 6, 3),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_targets_are_for_rtx_alone(version):
    trt = fake_tensorrt(version)
    if "rtx" in version:
        assert trt_library.build(trt, b"graph", targets=["SM89"]) == PLAN
        with pytest.raises(UsageError, match="SM90"):
            trt_library.build(trt, b"graph", targets=["SM90"])
    else:
        with pytest.raises(UsageError, match="only TensorRT-RTX"):
            trt_library.build(trt, b"graph", targets=["SM89"])


@pytest.mark.parametrize("version", VERSIONS)
def test_failures_surface_the_library_s_own_reasons(version):
    trt = fake_tensorrt(version)
    trt.OnnxParser.parse = lambda self, graph: False
    trt.OnnxParser.num_errors = 1
    trt.OnnxParser.get_error = lambda self, index: type("E", (), {"desc": lambda self: "no such operator"})()
    with pytest.raises(ArtefactError, match="no such operator"):
        trt_library.build(trt, b"graph")
    trt = fake_tensorrt(version)
    trt.Builder.build_serialized_network = lambda self, network, config: None
    with pytest.raises(ArtefactError, match="could not build"):
        trt_library.build(trt, b"graph")


@pytest.fixture
def device(monkeypatch):
    """A machine with one GPU and the first recorded TensorRT."""
    trt, cuda = fake_tensorrt(VERSIONS[0]), fake_cuda()
    monkeypatch.setattr(runtime, "library", lambda name: trt)
    monkeypatch.setattr(runtime, "bindings", lambda: cuda)
    return cuda


def test_runtime_runs_batches_larger_than_the_engine_takes(engine_file, device):
    engine = runtime.EngineRuntime(engine_file)
    images = np.random.default_rng(0).standard_normal((11, 4, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(engine(images), 2 * images)
    assert engine.input_size == (4, 6)
    assert engine.spec == SPEC
    with pytest.raises(UsageError, match="takes images of shape"):
        engine(images[:, :2])
    engine.close()
    assert not device.held


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9.9.9"}, "was built by tensorrt 9.9.9"),
        ({"gpu": "Other GPU (SM80)"}, "was built for Other GPU"),
    ],
)
def test_engine_of_another_machine_says_what_to_rebuild(tmp_path, device, change, words):
    path = tmp_path / "model.engine"
    container.write(path, PLAN, build={**_made_by(fake_tensorrt(VERSIONS[0])), **change}, spec=SPEC)
    with pytest.raises(ArtefactError, match=words):
        runtime.EngineRuntime(path)


def test_missing_tensorrt_names_the_extra(monkeypatch):
    monkeypatch.setattr(trt_library, "MODULES", ("no_such_tensorrt",))
    with pytest.raises(MissingExtraError, match=r"kseg\[tensorrt-rtx\]"):
        trt_library.library()


def _tiny_graph() -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", kind, (3, 3, 1, 1), np.eye(3, dtype=np.float32).ravel())
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["logits"], perm=[0, 2, 3, 1]),
    ]
    ends = [helper.make_tensor_value_info(name, kind, ["batch", 4, 6, 3]) for name in ("image", "logits")]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [weight])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()


def test_real_rtx_builds_the_same_engine_twice_and_names_what_it_cannot_read():
    trt = pytest.importorskip("tensorrt_rtx")
    first, second = trt_library.build(trt, _tiny_graph()), trt_library.build(trt, _tiny_graph())
    assert first == second
    assert len(first) > 1000
    with pytest.raises(ArtefactError, match="cannot read the ONNX graph"):
        trt_library.build(trt, b"not a graph")


def test_real_rtx_surface_is_the_recorded_one():
    trt = pytest.importorskip("tensorrt_rtx")
    recorded = [v for v in VERSIONS if v == f"tensorrt_rtx_{trt.__version__}"]
    if not recorded:
        pytest.skip(f"no recorded surface for tensorrt_rtx {trt.__version__}")
    contract = json.loads((Path(__file__).parent / "contracts" / f"{recorded[0]}.json").read_text())
    for name in ("Builder", "IBuilderConfig", "Runtime", "ICudaEngine", "IExecutionContext"):
        assert set(contract["classes"][name]) <= set(dir(getattr(trt, name)))


def test_machine_without_a_gpu_says_so_and_one_with_a_gpu_names_it():
    pytest.importorskip("cuda.bindings.runtime")
    status, count = bindings().cudaGetDeviceCount()
    if int(status) == 0 and count:
        assert "(SM" in device_name(bindings())
    else:
        with pytest.raises(NoDeviceError, match="no CUDA device"):
            device_name(bindings())
