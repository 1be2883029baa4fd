"""Engines: the container, the builder on each recorded surface, the real TensorRT-RTX, the runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_tensorrt import PLAN, VERSIONS, fake_cuda, fake_tensorrt

import deploy
import kseg
from deploy import formats, reporting
from deploy.formats import NoDeviceError
from deploy.tensorrt import container, runtime
from deploy.tensorrt import export as engine_export
from deploy.tensorrt import library as trt_library
from deploy.tensorrt.cuda import bindings, device_name
from kseg import tasks
from kseg.cli.main import main
from kseg.errors import ArtefactError, MissingExtraError, UsageError
from kseg.spec import Spec
from kseg.viz.report_exports import exports_section

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


def _build(**changes):
    return {
        "module": "tensorrt_rtx",
        "version": "1.7.1.116",
        "gpu": None,
        "targets": "all supported",
        **changes,
    }


def test_a_header_is_said_in_words():
    rtx = trt_library.describe(_build())
    assert (rtx["library"], rtx["version"]) == ("TensorRT-RTX", "1.7.1.116")
    assert "8.0, 8.6, 8.9 and 12.x" in rtx["runs_on"]
    assert "not Hopper (9.0)" in rtx["runs_on"]
    assert rtx["needs"] == 'pip install "kseg[tensorrt-rtx]" "tensorrt_rtx==1.7.1.116"'
    assert trt_library.describe(_build(targets=["SM75"]))["runs_on"] == "GPUs of SM75"
    full = trt_library.describe(_build(module="tensorrt", version="10.16", gpu="NVIDIA H100 (SM90)"))
    assert full["library"] == "TensorRT"
    assert full["runs_on"].startswith("NVIDIA H100 (SM90) only")
    assert full["needs"] == 'pip install "kseg[tensorrt]" "tensorrt==10.16"'


def test_an_engine_of_before_says_it_too(tmp_path):
    path = tmp_path / "old.engine"
    container.write(path, PLAN, build=_build(), spec=SPEC.replace(export={"format": "tensorrt"}))
    assert container.read_spec(path).export["engine"]["library"] == "TensorRT-RTX"


def test_rtx_engines_are_refused_on_hopper_and_foreign_builders_everywhere(tmp_path, monkeypatch):
    trt = fake_tensorrt(next(version for version in VERSIONS if "rtx" in version))
    monkeypatch.setattr(runtime, "library", lambda name: trt)
    monkeypatch.setattr(runtime, "bindings", lambda: fake_cuda())
    monkeypatch.setattr(runtime, "device_name", lambda cudart: "NVIDIA H200 (SM90)")
    path = tmp_path / "model.engine"
    container.write(path, PLAN, build=_build(version=trt.__version__), spec=SPEC)
    with pytest.raises(ArtefactError, match=r"runs on no Hopper GPU.*kseg\[tensorrt\]"):
        runtime.EngineRuntime(path)
    container.write(path, PLAN, build=_build(module="antigravity"), spec=SPEC)
    with pytest.raises(ArtefactError, match=r"`build.module`: .*'antigravity'"):
        runtime.EngineRuntime(path)


def _installed(monkeypatch, *names):
    """Make exactly these TensorRTs importable, as fakes; return them by name."""
    versions = {name: next(v for v in VERSIONS if v.startswith(f"{name}_1")) for name in names}
    fakes = {name: fake_tensorrt(version) for name, version in versions.items()}

    def find(name):
        if name in trt_library.MODULES and name not in fakes:
            raise ImportError(name)
        return fakes.get(name) or importlib.import_module(name)

    monkeypatch.setattr(trt_library, "importlib", SimpleNamespace(import_module=find))
    return fakes


def _exporter(name):
    return formats.by_name(name).load("exporter")(None)


@pytest.mark.parametrize(
    ("installed", "name", "taken"),
    [
        (("tensorrt", "tensorrt_rtx"), "tensorrt", "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), "tensorrt-rtx", "tensorrt_rtx"),
        (("tensorrt_rtx",), "tensorrt", "tensorrt_rtx"),
        (("tensorrt_rtx",), "tensorrt-rtx", "tensorrt_rtx"),
        (("tensorrt",), "tensorrt-rtx", None),
    ],
)
def test_which_library_builds(installed, name, taken, monkeypatch):
    _installed(monkeypatch, *installed)
    monkeypatch.setattr(engine_export, "_gpu_here", lambda: "NVIDIA Fake (SM89)")
    exporter = _exporter(name)
    if taken is None:
        with pytest.raises(MissingExtraError, match=r"kseg\[tensorrt-rtx\]"):
            exporter.prepare()
        return
    exporter.prepare()
    assert exporter._build()["module"] == taken


def test_the_full_library_needs_the_gpu_it_builds_for(monkeypatch, toy, tmp_path):
    _installed(monkeypatch, "tensorrt")
    monkeypatch.setattr(engine_export, "_gpu_here", lambda: None)
    with pytest.raises(NoDeviceError, match=r"no CUDA device.*--to tensorrt-rtx"):
        deploy.export(toy, tmp_path / "m.engine", verify=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_says_who_made_it_everywhere(name, toy, tmp_path, capfd, monkeypatch):
    """The result lines, the header, the sidecar, the spec, `kseg inspect` and the report's row."""
    trt = pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("full TensorRT is installed: --to tensorrt does not fall back")
    path, source = tmp_path / "m.engine", tmp_path / "m.keras"
    kseg.save(toy, source, spec=toy.spec)
    assert main(["export", str(source), "--to", name, "--out", str(path), "--no-verify"]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    stands_in = "TensorRT is not installed here, so TensorRT-RTX made this engine"
    assert (stands_in in printed) == (name == "tensorrt")
    words = trt_library.describe(_build(version=trt.__version__))
    assert f"built by TensorRT-RTX {trt.__version__} for {words['runs_on']}" in printed
    assert words["needs"] in printed
    assert words.items() <= container.read(path)[0]["build"].items()
    assert words.items() <= json.loads((tmp_path / "m.engine.json").read_text())["build"].items()
    export = deploy.read_spec(path).export
    assert export["format"] == "tensorrt-rtx"
    assert words.items() <= export["engine"].items()
    assert "engine" not in deploy.read_spec(tmp_path / "m.engine.onnx").export
    assert main(["inspect", str(path)]) == 0
    shown = capfd.readouterr().out
    assert "TensorRT-RTX" in shown
    assert trt.__version__ in shown
    timed = reporting._Timed(path="m.engine", status="not run: no CUDA device")
    row = reporting._export_row(path, reporting._Benchmark(rows=[timed]))
    assert row["format"] == f"TensorRT-RTX {trt.__version__}"
    assert words["runs_on"] in row["runs on"]
    assert words["needs"] in row["runs on"]
    table = exports_section([row], tasks.find("semantic"))
    assert "not run: no CUDA device" in table
    assert "UNVERIFIED" in table
    assert "Hopper" in table


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
