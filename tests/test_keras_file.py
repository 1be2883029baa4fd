"""Networks from strangers: what must not reach Keras, HDF5 or memory."""

from __future__ import annotations

import io
import json
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest

from kseg import keras_file, saving
from kseg.errors import ArtefactError, UsageError
from kseg.spec import Spec

SPEC = Spec(classes=("a", "b"))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.UpSampling2D(1)(keras.layers.Conv2D(4, 3, padding="same", name="first")(image))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="head")(x))
    path = tmp_path_factory.mktemp("whole") / "m.keras"
    saving.save(model, path, SPEC)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: dict[str, bytes], **changed: Any) -> Path:
    """Write the members, checksums right; `config`, `weights` and `spec` are changed by functions."""
    names = {"config": "config.json", "weights": "model.weights.h5", "spec": "kseg.json"}
    for short, change in changed.items():
        name = names[short]
        if name.endswith(".json"):
            values = json.loads(members[name])
            members = {**members, name: json.dumps(change(values) or values).encode()}
        else:
            held = io.BytesIO(members[name])
            with h5py.File(held, "r+") as file:
                change(file)
            members = {**members, name: held.getvalue()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path, read: Callable[[Path], object] = saving.load) -> str:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(ArtefactError) as caught:
        read(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KB"
    assert time.perf_counter() - start < 20
    text = str(caught.value)
    assert str(path) in text
    assert text.isprintable()
    return text


@pytest.mark.parametrize("name", ["model.weights.h5", "config.json", "kseg.json"])
def test_a_file_that_unpacks_to_gigabytes(name: str, members: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other, content in members.items():
            if other != name:
                archive.writestr(other, content)
        with archive.open(name, "w", force_zip64=True) as stream:
            for _ in range(512):
                stream.write(bytes(2**20))
    assert "unpack to at most" in refusal(path, saving.read_spec)
    assert "unpack to at most" in refusal(path)


def _replace(file: h5py.File, make: Callable[[str, Any], None]) -> None:
    name = "layers/conv2d/vars/0"
    held = file[name]
    shape, dtype = held.shape, held.dtype
    del held, file[name]
    make(name, (shape, dtype))


def _external_storage(file: h5py.File) -> None:
    _replace(file, lambda name, of: file.create_dataset(name, *of, external=[("/etc/passwd", 0, 10**6)]))


def _external_link(file: h5py.File) -> None:
    _replace(file, lambda name, of: file.__setitem__(name, h5py.ExternalLink("other.h5", "/x")))


def _soft_link(file: h5py.File) -> None:
    _replace(file, lambda name, of: file.__setitem__(name, h5py.SoftLink("/layers/conv2d/vars/1")))


def _virtual(file: h5py.File) -> None:
    def make(name: str, of: Any) -> None:
        layout = h5py.VirtualLayout(*of)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape=of[0])
        file.create_virtual_dataset(name, layout)

    _replace(file, make)


def _huge(file: h5py.File) -> None:
    huge = {"chunks": (1000, 1000), "compression": "gzip"}
    _replace(file, lambda name, of: file.create_dataset(name, (10**6, 10**6), of[1], **huge))


def _text(file: h5py.File) -> None:
    _replace(file, lambda name, of: file.create_dataset(name, data=["no", "number"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_external_storage, "lie in another file"),
        (_virtual, "lie in another file"),
        (_external_link, "is a link to elsewhere"),
        (_soft_link, "is a link to elsewhere"),
        (_huge, "claim to hold"),
        (_text, "holds no numbers"),
    ],
)
def test_weights_that_reach_elsewhere_or_claim_too_much(
    change: Any, said: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    text = refusal(written(tmp_path / "m.keras", members, weights=change))
    assert "member model.weights.h5 is refused" in text
    assert said in text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_damaged_weights_are_one_line(share: float, members: dict[str, bytes], tmp_path: Path) -> None:
    whole = members["model.weights.h5"]
    cut = {**members, "model.weights.h5": whole[: int(share * len(whole))]}
    assert "is damaged" in refusal(written(tmp_path / "m.keras", cut))


def test_missing_weights_are_one_line(members: dict[str, bytes], tmp_path: Path) -> None:
    def remove(file: h5py.File) -> None:
        del file["layers/conv2d_1"]

    assert "could not be loaded" in refusal(written(tmp_path / "m.keras", members, weights=remove))


def _layers(values: dict[str, Any], **changes: Any) -> None:
    for layer in values["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"].update(changes)


@pytest.mark.parametrize("filters", [10**9, 10**12, 50_000])
def test_a_network_larger_than_its_weights(filters: int, members: dict[str, bytes], tmp_path: Path) -> None:
    path = written(tmp_path / "m.keras", members, config=lambda values: _layers(values, filters=filters))
    assert "more weights than it holds" in refusal(path)


@pytest.mark.parametrize("changes", [{"filters": "two"}, {"kernel_size": [[1]]}, {"filters": -1}])
def test_a_configuration_that_keras_cannot_read(
    changes: dict[str, Any], members: dict[str, bytes], tmp_path: Path
) -> None:
    path = written(tmp_path / "m.keras", members, config=lambda values: _layers(values, **changes))
    assert "cannot be rebuilt" in refusal(path)


@pytest.mark.parametrize(
    "text", ["{" * 10, "[" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000, '{"a": ' + "9" * 5000 + "}", "[]"]
)
@pytest.mark.parametrize("name", ["config.json", "kseg.json", "metadata.json"])
def test_members_that_break_parsers(name: str, text: str, members: dict[str, bytes], tmp_path: Path) -> None:
    said = refusal(written(tmp_path / "m.keras", {**members, name: text.encode()}))
    assert f"member {name}" in said


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("palette", "red", "field `palette`: expected a list, found text"),
        ("ignore_id", [1], "field `ignore_id`: expected a whole number, found a list"),
        ("classes", [str(index) for index in range(100_000)], "at most 65,536"),
        ("classes", ["a", 5], "field `classes[1]`: expected text"),
        ("stride", "4", "field `stride`: expected a whole number"),
        ("stride", 0, "field `stride`: expected a whole number >= 1"),
        ("input_size", [10**6, 10**6], "`input_size`"),
        ("normalization", {"std": [0, 0, 0]}, "`std`"),
        ("format", 99, "Upgrade kseg"),
        ("classes", ["a", "b", "c"], "3 classes, but the network gives 2"),
    ],
)
def test_a_spec_of_wrong_content_names_the_field(
    field: str, value: Any, said: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    def change(values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "palette": [], field: value}

    assert said in refusal(written(tmp_path / "m.keras", members, spec=change))


def test_the_budget_counts_only_its_own_block() -> None:
    with pytest.raises(UsageError, match="too many"), keras_file.at_most_weights(100, "too many"):
        keras.layers.Dense(1000).build((None, 1000))
    keras.layers.Dense(10).build((None, 1000))
