"""The spec inside artefacts: read back, replaced, and never guessed from a damaged or foreign file."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from toys import CLASSES, SIZE

import deploy
from kseg.errors import ArtefactError, DataError, UsageError

NAMES = ("tflite", "onnx")


@pytest.fixture
def copies(exported, tmp_path) -> dict[str, Path]:
    return {name: Path(shutil.copy(path, tmp_path / path.name)) for name, path in exported.items()}


@pytest.mark.parametrize("name", NAMES)
def test_spec_is_read_back_whole(name, copies, toy):
    spec = deploy.read_spec(copies[name])
    assert (spec.classes, spec.input_size, spec.normalization) == (CLASSES, SIZE, toy.spec.normalization)
    assert spec.palette == toy.spec.palette
    assert spec.export["format"] == name
    assert spec.export["verify"]["status"] == "UNVERIFIED"
    assert spec.kseg_version


@pytest.mark.parametrize("name", NAMES)
def test_embedding_replaces_and_leaves_the_network_alone(name, copies):
    path = copies[name]
    image = np.random.default_rng(0).standard_normal((1, *SIZE, 3)).astype(np.float32)
    before, size = deploy.load(path)(image), path.stat().st_size
    spec = deploy.read_spec(path)
    for index in range(3):
        deploy.embed(path, spec.replace(recipe={"seed": index}))
    assert deploy.read_spec(path).recipe == {"seed": 2}
    assert path.stat().st_size - size < 64
    np.testing.assert_array_equal(deploy.load(path)(image), before)


def test_tflite_members_are_plain_for_other_tools(copies):
    with zipfile.ZipFile(copies["tflite"]) as archive:
        assert archive.namelist() == ["kseg.json", "labels.txt"]
        assert archive.read("labels.txt").decode().split() == list(CLASSES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_truncated_files_are_refused(name, share, copies):
    path = copies[name]
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for use in (deploy.read_spec, deploy.load):
        with pytest.raises(ArtefactError, match=path.name):
            use(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_the_weights_is_found(name, copies):
    path = copies[name]
    content = bytearray(path.read_bytes())
    # A weight of the toy, found by value: neither runtime would notice.
    position = len(content) // 3
    content[position] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"damaged|not a whole"):
        deploy.load(path)


def test_alien_files_say_what_they_lack(tmp_path, exported):
    import onnx

    alien = tmp_path / "alien.tflite"
    with zipfile.ZipFile(exported["tflite"]) as archive:
        end = min(entry.header_offset for entry in archive.infolist())
    alien.write_bytes(exported["tflite"].read_bytes()[:end])
    with pytest.raises(ArtefactError, match=r"no kseg spec \(kseg\.json\)"):
        deploy.load(alien)
    alien.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ArtefactError, match="not a TFLite file"):
        deploy.read_spec(alien)
    model = onnx.load(str(exported["onnx"]))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "alien.onnx"))
    with pytest.raises(ArtefactError, match="no kseg spec"):
        deploy.load(tmp_path / "alien.onnx")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        deploy.load(tmp_path / "none.tflite")
    with pytest.raises(DataError, match="is a folder"):
        deploy.read_spec(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(UsageError, match="No format"):
        deploy.load(tmp_path / "model.pt")


@pytest.mark.parametrize("name", NAMES)
def test_runtimes_refuse_other_shapes_and_split_batches(name, exported):
    runtime = deploy.load(exported[name], threads=1)
    images = np.random.default_rng(1).standard_normal((3, *SIZE, 3)).astype(np.float32)
    whole = runtime(images)
    assert whole.shape == (3, *SIZE, 2)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(runtime(images[1:2])[0], whole[1], atol=1e-5)
    assert runtime(images[:0]).shape == (0, *SIZE, 2)
    with pytest.raises(UsageError, match="Received"):
        runtime(images[:, 1:])
    runtime.close()
