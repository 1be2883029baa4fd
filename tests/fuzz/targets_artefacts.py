"""What the campaign attacks, model files and records of runs: how a good one is made, spoiled and read.

A target's `read` may return, or raise `KsegError` with one printable line; all else is a finding.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutators
import numpy as np
from arguments_of_networks import ARGUMENTS
from cases import Kind, Place, WrongResult, outcome

from kseg.spec import Spec

SIZE = (16, 24)
SPEC = Spec(
    classes=("sky", "road"),
    input_size=SIZE,
    data={"source": "x", "merged": {"classes": ["a"], "palette": [[0, 0, 0]], "labels": [1]}},
    recipe={
        "arguments": {"epochs": 3, "model_args": {}},
        "resolved": {"class_weights": [1.0, 2.0]},
        "result": {"epoch": 1, "val_miou": 0.5},
        "seed": 0,
    },
    export={
        "format": "tflite",
        "verify": {"status": "passed", "images": 9, "miou": 0.5, "miou_reference": 0.5, "drop": 0.1},
        "parity": {"rms_over_std": 0.1},
    },
)


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Args:
        kind: its name in tables.
        file: name of the file, with its suffix.
        spoil: makes a bad one of a good one.
        read: reads a file through the Python surface as a user would, as far as it goes.
        bound: given the good and the spoiled file, whether reading the latter must give the former's answer
            (what `read` returns); None: there is no answer to compare.
    """

    kind: str
    file: str
    spoil: mutators.Spoil
    read: Callable[[Path], object]
    bound: Callable[[bytes, bytes], bool] | None = None


def toy(seed: int = 0) -> Any:
    """A small network with layers of several kinds, one of kseg's own among them."""
    import keras

    from kseg.layers import PadToStride

    keras.utils.set_random_seed(seed)
    image = keras.Input((*SIZE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(PadToStride(4, name="pad")(image))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="head")(x), name="toy")


def spoil_keras(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes of the file, JSON of a member, or bytes of a member."""
    draw = rng.random()
    if draw < 0.2:
        return mutators.spoil_bytes(content, rng)
    if draw < 0.8:
        name = rng.choice(("kseg.json", "config.json", "config.json", "metadata.json"))
        return mutators.with_member(content, name, mutators.spoil_json, rng)
    return mutators.with_member(content, "model.weights.h5", mutators.spoil_bytes, rng)


def spoil_segments(content: bytes, rng: random.Random) -> bytes:
    """As `spoil_keras`, with the classifier's own member."""
    if rng.random() < 0.5:
        return mutators.with_member(content, "kseg_segments.json", mutators.spoil_json, rng)
    return mutators.with_member(content, "config.json", mutators.spoil_json, rng)


def spoil_tflite(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes of the file, or the record behind the network; the network's digest stays right."""
    if rng.random() < 0.4:
        return mutators.spoil_bytes(content, rng)
    end = content.index(b"PK\3\4", 8)
    return mutators.with_member(content, "kseg.json", mutators.spoil_json, rng, before=content[:end])


def spoil_onnx(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes of the file, or its metadata; then the digest is made right again."""
    import onnx

    from deploy.onnx import container

    draw = rng.random()
    if draw < 0.4:
        return mutators.spoil_bytes(content, rng)
    model = onnx.load_from_string(content)
    for entry in model.metadata_props:
        if entry.key == container.SPEC_KEY and draw < 0.9:
            entry.value = mutators.spoil_json(entry.value.encode(), rng).decode("utf-8", "replace")
        if entry.key == container.DIGEST_KEY:
            entry.value = container._PLACEHOLDER
    if draw >= 0.9:
        weight = rng.choice(model.graph.initializer)
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=rng.choice(("w.bin", "/etc/passwd", "../x")))
    sealed = model.SerializeToString()
    digest = hashlib.sha256(sealed).hexdigest()
    return sealed.replace(container._PLACEHOLDER.encode(), digest.encode(), 1)


def spoil_engine(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes of the file, or its header, of which the length is right again."""
    if rng.random() < 0.4:
        return mutators.spoil_bytes(content, rng)
    length = struct.unpack_from("<Q", content, 8)[0]
    header = mutators.spoil_json(content[16 : 16 + length], rng)
    return content[:8] + struct.pack("<Q", len(header)) + header + content[16 + length :]


def spoil_checkpoint(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes of the file or of an array, or the meta."""
    draw = rng.random()
    if draw < 0.3:
        return mutators.spoil_bytes(content, rng)
    names = sorted(mutators.members(content))
    if draw < 0.6:
        return mutators.with_member(content, rng.choice(names), mutators.spoil_bytes, rng)

    def meta(member: bytes, own: random.Random) -> bytes:
        text = mutators.spoil_json(member[128:], own)
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(text)},), }}"
        return member[:8] + struct.pack("<H", 118) + header.ljust(117).encode() + b"\n" + text

    return mutators.with_member(content, "meta.npy", meta, rng)


def spoil_csv(content: bytes, rng: random.Random) -> bytes:
    """Spoil bytes, or put something odd into a cell."""
    if rng.random() < 0.4:
        return mutators.spoil_bytes(content, rng)
    rows = [line.split(b",") for line in content.splitlines()]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = str(rng.choice(mutators.ODD)).encode("utf-8", "replace")
    return b"\n".join(b",".join(row) for row in rows)


def spoil_record(content: bytes, rng: random.Random) -> bytes:
    """Spoil a JSON file."""
    return mutators.spoil_bytes(content, rng) if rng.random() < 0.2 else mutators.spoil_json(content, rng)


def _always(good: bytes, bad: bytes) -> bool:
    """A digest covers what the answer comes of."""
    return True


def _unless_sealed_again(*names: str) -> Callable[[bytes, bytes], bool]:
    """The zip's checksums cover the answer, unless one of these members (all: none named) was replaced."""

    def bound(good: bytes, bad: bytes) -> bool:
        try:
            found = mutators.members(bad)
        except Exception:  # whatever zipfile raises: nobody sealed this
            return True
        known = mutators.members(good)
        return all(found.get(name) == known[name] for name in names or known)

    return bound


def _read_network(path: Path) -> Any:
    import deploy

    deploy.read_spec(path)
    runtime = deploy.load(path)
    size = runtime.input_size or SIZE
    image = np.linspace(-2, 2, size[0] * size[1] * 3, dtype=np.float32).reshape(1, *size, 3)
    logits = np.array(runtime(image))
    assert logits.ndim == 4
    runtime.close()
    return logits


def _read_engine(path: Path) -> Any:
    from deploy.tensorrt import container

    container.read_spec(path)
    return np.frombuffer(container.read(path)[1], np.uint8)


def _read_segments(path: Path) -> None:
    from kseg.semantic.refine.segment_classifier import SegmentClassifier

    SegmentClassifier(path).close()


def _read_checkpoint(path: Path) -> Any:
    from kseg.training import checkpoint

    run = path.parent / "run"
    (run / checkpoint.FILE).parent.mkdir(parents=True, exist_ok=True)
    (run / checkpoint.FILE).write_bytes(path.read_bytes())
    stored = checkpoint.load(run)
    assert stored is not None
    model = toy(1)
    model.compile("adam", "mse")
    checkpoint.restore(model, stored[1])
    return np.concatenate([np.ravel(value) for value in model.get_weights()])


def _read_run(path: Path) -> None:
    from kseg.training import TrainConfig, record

    values = record.read(path.parent, to_resume=True)
    assert values is not None
    TrainConfig.from_dict(values["arguments"])


def _read_stages(path: Path) -> None:
    from kseg.training.stages import read_stages

    read_stages(str(path), {"out": str(path.parent / "out"), "data": "d"})


def _read_config(path: Path) -> None:
    from kseg.training.config_file import read_arguments

    read_arguments(path)


def _read_arguments(model: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        import keras

        from kseg import models, records

        try:
            return models.create(model, **records.read(path, dict[str, Any]))
        finally:
            keras.backend.clear_session()

    return read


def _read_history(path: Path) -> None:
    from kseg.viz.curves import charts, epochs, read_history

    history = read_history(path)
    charts(history)
    epochs(history)


def _read_spec(path: Path) -> None:
    from kseg import records

    values = records.read(path, dict[str, Any])
    spec = Spec.from_dict(values)
    from kseg.data.merged import original_spec
    from kseg.viz import legend

    original_spec(spec)
    legend(spec, range(min(spec.num_classes, 20)))


_WEIGHTS = "model.weights.h5"

TARGETS = (
    Target("keras", "m.keras", spoil_keras, _read_network, _unless_sealed_again("config.json", _WEIGHTS)),
    Target("segment classifier", "s.keras", spoil_segments, _read_segments),
    Target("tflite", "m.tflite", spoil_tflite, _read_network, _always),
    Target("onnx", "m.onnx", spoil_onnx, _read_network, _always),
    Target("engine", "m.engine", spoil_engine, _read_engine, _always),
    Target("checkpoint", "state.npz", spoil_checkpoint, _read_checkpoint, _unless_sealed_again()),
    Target("run.json", "run.json", spoil_record, _read_run),
    Target("stages.json", "stages.json", spoil_record, _read_stages),
    # JSON is YAML: the same mutations reach PyYAML.
    Target("config.yaml", "config.yaml", spoil_record, _read_config),
    Target("history.csv", "history.csv", spoil_csv, _read_history),
    Target("spec", "spec.json", spoil_record, _read_spec),
    *(Target(f"{name} arguments", "a.json", spoil_record, _read_arguments(name)) for name in ARGUMENTS),
)


def make_seeds(folder: Path) -> dict[str, bytes]:
    """Return a good file of every kind, by kind; and `network`, a model that the commands work on."""
    import deploy
    from deploy.tensorrt import container
    from kseg import saving
    from kseg.training import TrainConfig, checkpoint

    model = toy()
    model.spec = SPEC
    saving.save(model, folder / "m.keras", SPEC)
    for suffix in ("tflite", "onnx"):
        deploy.export(model, folder / f"m.{suffix}", verify=False)
    container.write(folder / "m.engine", b"plan" * 99, build={"module": "tensorrt_rtx", "version": "1"})
    container.embed(folder / "m.engine", SPEC)
    model.compile("adam", "mse")
    row = {"epoch": 1, "loss": 0.5, "total_seconds": 2.0, "images_per_second": 3.5}
    model.optimizer.build(model.trainable_variables)
    checkpoint.save(folder, model, [], {"rows": [row], "best": row, "step": 2})
    run = {
        "status": "finished",
        "started": "2026-01-01",
        "arguments": TrainConfig(model="unet", data="d", out="o").to_dict(),
        "resolved": {"precision": "float32", "precision_reason": "as asked"},
        "data": {"fingerprint": "f", "splits": {"train": 3}},
        "result": {
            "model": "m",
            "epochs": 1,
            "best_epoch": 1,
            "seconds": 2.0,
            "images_per_second": 3.0,
            "val_miou": None,
        },
        "versions": {"kseg": "0"},
    }
    small = {"model": "unet", "model_args": {"width": 0.1, "depth": 2}}
    stages = [{"name": "a", "epochs": 1, "size": [16, 24], **small}, {"name": "b", **small}]
    seeds = {target.kind: folder / target.file for target in TARGETS}
    made = {kind: path.read_bytes() for kind, path in seeds.items() if path.exists()}
    return {
        **made,
        "segment classifier": _segments(folder),
        "network": _network(folder),
        "checkpoint": (folder / checkpoint.FILE).read_bytes(),
        "run.json": json.dumps(run).encode(),
        "stages.json": json.dumps(stages).encode(),
        "config.yaml": json.dumps({"epochs": 1, "size": [16, 24], "loss": "dice", **small}).encode(),
        "history.csv": b"epoch,loss,val_loss,learning_rate\n0,1.5,,0.01\n1,1.25,1.5,0.02\n",
        "spec": SPEC.to_json().encode(),
        **{
            f"{name} arguments": json.dumps({"num_classes": 3, "name": "n", **values}).encode()
            for name, values in ARGUMENTS.items()
        },
    }


def _network(folder: Path) -> bytes:
    """A network of the table, which can be rebuilt."""
    from kseg import models, saving

    path = folder / "network.keras"
    saving.save(models.create("unet", num_classes=2, **ARGUMENTS["UNet"]), path, SPEC)
    return path.read_bytes()


def _segments(folder: Path) -> bytes:
    import keras

    from kseg.semantic.refine import segment_classifier

    image = keras.Input((None, None, 3), name="pixels")
    extractor = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2, padding="same")(image))
    segment = keras.Input((16,), name="segment")
    classifier = keras.Model(segment, keras.layers.Dense(2, activation="softmax")(segment))
    path = folder / "segments.keras"
    segment_classifier.write(path, extractor, classifier, SPEC, grid=2, stride=2)
    return path.read_bytes()


def make(target: Target, seeds: dict[str, bytes], number: int) -> bytes:
    """Return the `number`-th spoiled file of a kind."""
    return target.spoil(seeds[target.kind], random.Random(f"{target.kind} {number}"))


def read(target: Target, bad: bytes, place: Place) -> str:
    """Read a spoiled file; return "read" or "refused".

    Raises:
        AssertionError: for a refusal that is not one printable line.
        WrongResult: it was read, and its answer is not that of the good file, though it must be.
        BaseException: whatever else reading raises: a finding.
    """
    path = place.folder / target.file
    good = place.seeds[target.kind]
    expected = None
    if target.bound is not None:
        path.write_bytes(good)
        expected = place.once("answer", lambda: target.read(path))
    path.write_bytes(bad)
    said, found = outcome(lambda: target.read(path))
    must = said == "read" and target.bound is not None and target.bound(good, bad)
    if must and not np.array_equal(np.asarray(found), np.asarray(expected)):
        raise WrongResult(f"{target.kind}: it was read, and answers otherwise than the good file")
    return said


KINDS = tuple(
    Kind(
        target.kind,
        functools.partial(make, target),
        functools.partial(read, target),
        target.file,
        0.4 if target.kind.endswith("arguments") else 1.0,
    )
    for target in TARGETS
)
