"""Artefacts with the right digest and wrong content: refused in one line, before a library sees them."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from toys import toy_spec

import deploy
from deploy.onnx import container as onnx_container
from deploy.onnx import wire
from deploy.tensorrt import container as engine
from deploy.tflite import container as tflite
from kseg.errors import ArtefactError


def refused(path: Path) -> str:
    texts = set()
    for use in (deploy.read_spec, deploy.load):
        with pytest.raises(ArtefactError) as caught:
            use(path)
        texts.add(str(caught.value))
    assert len(texts) == 1, texts
    text = texts.pop()
    assert str(path) in text
    assert text.isprintable()
    return text


def sealed(model: Any, path: Path, **properties: str) -> Path:
    """Write an ONNX model with a digest of its own, as a stranger can compute it."""
    for entry in model.metadata_props:
        if entry.key in properties:
            entry.value = properties[entry.key]
        if entry.key == onnx_container.DIGEST_KEY:
            entry.value = onnx_container._PLACEHOLDER
    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(content.replace(onnx_container._PLACEHOLDER.encode(), digest.encode(), 1))
    return path


def _external(tensor: Any) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_onnx_with_external_data(
    place: str, exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(str(exported["onnx"]))
    if place == "initializer":
        _external(model.graph.initializer[0])
    else:
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[1])
        _external(tensor)
        if place == "attribute":
            model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))
        else:
            inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
            model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))
    # It would be read from here.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(10**6))
    assert "keeps weights in another file" in refused(sealed(model, tmp_path / "m.onnx"))


def test_wire_agrees_with_onnx(exported: dict[str, Path]) -> None:
    content = exported["onnx"].read_bytes()
    expected = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert wire.metadata(content) == expected
    assert not wire.has_external_data(content)


@pytest.mark.parametrize(
    "content", [b"\x7a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x07", b"\x72", b"\x3a\x05abc"]
)
def test_lengths_beyond_the_end(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert "is not a whole ONNX file" in refused(path)


def test_no_damaged_file_reaches_onnxruntime(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the file was handed to onnxruntime")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    content = bytearray(exported["onnx"].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is damaged" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize("alien", [False, True])
def test_no_damaged_or_foreign_flatbuffer_reaches_litert(
    alien: bool, exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the file was handed to LiteRT")

    monkeypatch.setattr(interpreter, "Interpreter", never)
    model, _ = tflite.read_model(exported["tflite"])
    content = bytearray(exported["tflite"].read_bytes())
    content[len(model) // 2] ^= 1
    path = tmp_path / "m.tflite"
    path.write_bytes(model if alien else content)
    assert ("carries no kseg spec" if alien else "is damaged") in refused(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"palette": "red"}, "field `palette`: expected a list"),
        ({"classes": {}}, "field `classes`: expected a list"),
        ({"input_size": [1]}, "field `input_size`"),
        ({"export": 3}, "field `export`: expected an object"),
        ({"format": 2.5}, "field `format`"),
    ],
)
@pytest.mark.parametrize("name", ["tflite", "onnx", "engine"])
def test_a_spec_of_wrong_content_names_file_and_field(
    name: str, changes: dict[str, Any], said: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    values, path = {**toy_spec().to_dict(), **changes}, tmp_path / f"m.{name}"
    if name == "onnx":
        text = refused(sealed(onnx.load(str(exported["onnx"])), path, kseg=json.dumps(values)))
    elif name == "tflite":
        model, _ = tflite.read_model(exported["tflite"])
        path.write_bytes(model)
        record = {"spec": values, "sha256": hashlib.sha256(model).hexdigest()}
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("kseg.json", json.dumps(record))
        text = refused(path)
    else:
        engine.write(path, b"plan", build={"module": "tensorrt", "version": "10"})
        header, plan = engine.read(path)
        _write_engine(path, {**header, "spec": values}, plan)
        text = refused(path)
    assert said in text


def _write_engine(path: Path, header: dict[str, Any], plan: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(engine.MAGIC + struct.pack("<Q", len(text)) + text + plan)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"build": {"module": "evil", "version": "1"}}, "field `build.module`"),
        ({"build": []}, "field `build`: expected an object"),
        ({"plan_bytes": "4"}, "field `plan_bytes`"),
        ({"plan_bytes": 10**9}, "is truncated"),
        ({"plan_sha256": None}, "field `plan_sha256`"),
        ({"plan_sha256": "0" * 64}, "is damaged"),
    ],
)
def test_engine_headers(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.engine"
    engine.write(path, b"plan", build={"module": "tensorrt", "version": "10"}, spec=toy_spec())
    header, plan = engine.read(path)
    _write_engine(path, {**header, **changes}, plan)

    def imported(name: str) -> ModuleType:
        raise AssertionError(f"the file had '{name}' imported")

    monkeypatch.setattr("deploy.tensorrt.library.importlib", SimpleNamespace(import_module=imported))
    assert said in refused(path)


@pytest.mark.parametrize("length", [0, 1, 2**24, 2**40, 2**64 - 1])
def test_engine_header_lengths(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    engine.write(path, b"plan", build={"module": "tensorrt", "version": "10"}, spec=toy_spec())
    content = path.read_bytes()
    path.write_bytes(content[:8] + struct.pack("<Q", length) + content[16:])
    refused(path)


def test_a_network_of_other_classes_than_its_spec(exported: dict[str, Path], tmp_path: Path) -> None:
    for name, source in exported.items():
        path = tmp_path / f"m.{name}"
        path.write_bytes(source.read_bytes())
        deploy.embed(path, toy_spec().replace(classes=("a", "b", "c"), palette=()))
        with pytest.raises(ArtefactError, match=r"logits \(B, H, W, 3\), as its spec says"):
            deploy.load(path)


def test_labels_have_one_line_per_class(exported: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(exported["tflite"].read_bytes())
    deploy.embed(path, toy_spec().replace(classes=("a\nb", "c")))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["a\\nb", "c"]
    assert deploy.read_spec(path).classes == ("a\nb", "c")
