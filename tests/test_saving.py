"""kseg.saving: whole files, the Spec inside, bit-equal weights, one clear line for what is not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kseg import saving
from kseg.errors import ArtefactError, UsageError
from kseg.models import ModelInfo
from kseg.spec import Normalization, Spec

SPEC = Spec(
    classes=("sky", "road", "Bäume"),
    palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
    ignore_id=254,
    input_size=(32, 48),
    resize="fit",
    normalization=Normalization(order="bgr", mean=(103.9, 116.8, 123.7), std=(1, 1, 1)),
    data={"source": "somewhere", "counts": [1, 2]},
    recipe={"seed": 0},
)


def network(classes: int = 3) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.1)(keras.layers.ReLU()(x))
    model = keras.Model(image, keras.layers.Conv2D(classes, 1)(x), name="toy")
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, value.shape).astype(value.dtype) for value in model.get_weights()])
    model.info = ModelInfo("Toy", {"width": 0.5, "blocks": [1, 2]}, 4)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    saving.save(network(), path, SPEC)
    return path


def test_round_trip_is_bit_equal_and_keeps_spec_and_info(saved: Path) -> None:
    model, again = network(), saving.load(saved)
    for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    images = np.random.default_rng(1).normal(size=(2, 17, 23, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    assert np.array_equal(expected, keras.ops.convert_to_numpy(again(images, training=False)))
    assert again.spec.classes == SPEC.classes
    assert again.spec.normalization == SPEC.normalization
    assert again.spec.architecture == "Toy"
    assert again.spec.kseg_version
    assert again.info == ModelInfo("Toy", {"width": 0.5, "blocks": [1, 2]}, 4)
    assert again.spec == saving.read_spec(saved)


def test_save_returns_what_it_wrote(tmp_path: Path) -> None:
    written = saving.save(network(), tmp_path / "m.keras", SPEC.replace(arch_args={"ignored": (1, 2)}))
    assert written == saving.read_spec(tmp_path / "m.keras")
    assert dict(written.arch_args) == {"width": 0.5, "blocks": [1, 2]}


def test_a_loaded_model_is_saved_again_with_its_own_spec(saved: Path, tmp_path: Path) -> None:
    saving.save(saving.load(saved), tmp_path / "again.keras")
    assert saving.read_spec(tmp_path / "again.keras") == saving.read_spec(saved)


def test_keras_does_not_track_or_wrap_the_spec(saved: Path) -> None:
    model = saving.load(saved)
    weights = len(model.weights)
    model.spec = SPEC
    assert model.spec is SPEC
    assert type(model.info.arch_args) is dict
    assert len(model.weights) == weights


def test_the_optimizer_stays_out_and_the_model_stays_compiled(tmp_path: Path) -> None:
    model = network()
    model.compile("adam", loss="mse")
    model.train_on_batch(np.zeros((1, 8, 8, 3), "float32"), np.zeros((1, 8, 8, 3), "float32"))
    saving.save(model, tmp_path / "trained.keras", SPEC)
    saving.save(network(), tmp_path / "plain.keras", SPEC)
    assert model.compiled
    sizes = [(tmp_path / name).stat().st_size for name in ("trained.keras", "plain.keras")]
    assert abs(sizes[0] - sizes[1]) < 200
    assert not saving.load(tmp_path / "trained.keras").compiled


def test_dictionary_outputs_keep_their_names(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3), name="image")
    maps = keras.layers.Conv2D(3, 1)(image)
    model = keras.Model(image, {"masks": maps, "scores": keras.layers.GlobalAveragePooling2D()(maps)})
    saving.save(model, tmp_path / "two.keras", SPEC)
    answer = saving.load(tmp_path / "two.keras")(np.zeros((1, 8, 8, 3), "float32"))
    assert set(answer) == {"masks", "scores"}


def test_read_spec_needs_no_keras(saved: Path) -> None:
    code = (
        "import sys\n"
        "class Forbid:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('keras', 'tensorflow', 'jax'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Forbid())\n"
        "from kseg.saving import read_spec\n"
        f"print(','.join(read_spec({str(saved)!r}).classes))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ",".join(SPEC.classes)


def _other_backend() -> str:
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    pytest.importorskip(other)
    return other


def test_a_file_moves_between_backends(saved: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(2).normal(size=(1, 9, 11, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np, keras\n"
        "from kseg import saving\n"
        "folder, path = sys.argv[1:]\n"
        "model = saving.load(path)\n"
        "logits = model(np.load(folder + '/images.npy'), training=False)\n"
        "np.save(folder + '/logits.npy', keras.ops.convert_to_numpy(logits))\n"
        "saving.save(model, folder + '/back.keras')\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": _other_backend()}
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(saved)], env=environment, check=True)
    here = saving.load(saved)
    expected = keras.ops.convert_to_numpy(here(images, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5, atol=1e-5)
    back = saving.load(tmp_path / "back.keras")
    assert back.spec == here.spec
    for before, after in zip(here.get_weights(), back.get_weights(), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "does not exist"),
        ("empty", "0 bytes"),
        ("truncated", "truncated"),
        ("flipped", "damaged"),
        ("png", "another format renamed"),
        ("zip", "config.json"),
        ("keras", "lacks the member kseg.json"),
        ("newer", "Upgrade kseg"),
        ("spec", "kseg.json"),
    ],
)
def test_bad_files_give_one_clear_line(fault: str, words: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    whole = saved.read_bytes()
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "truncated":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif fault == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif fault == "png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    elif fault == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("kseg.json", SPEC.to_json())
    elif fault == "keras":
        network().save(path)
    elif fault in ("newer", "spec"):
        text = json.dumps({**SPEC.to_dict(), "format": 99}) if fault == "newer" else "{"
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as archive:
            for name in source.namelist():
                archive.writestr(name, text if name == "kseg.json" else source.read(name))
    with pytest.raises(ArtefactError, match=words) as caught:
        saving.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image))
    saving.save(model, tmp_path / "lambda.keras", SPEC)
    with pytest.raises(ArtefactError, match="cannot be rebuilt"):
        saving.load(tmp_path / "lambda.keras")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in '\.keras'"):
        saving.save(network(), tmp_path / "model.h5", SPEC)
    with pytest.raises(UsageError, match="pass spec="):
        saving.save(network(), tmp_path / "model.keras")
    with pytest.raises(UsageError, match="num_classes=3"):
        saving.save(network(classes=5), tmp_path / "model.keras", SPEC)
    with pytest.raises(UsageError, match="JSON"):
        saving.save(network(), tmp_path / "model.keras", SPEC.replace(recipe={"when": object()}))
    assert list(tmp_path.iterdir()) == []


class Subclassed(keras.Model):
    """A model without a graph."""

    def call(self, x):  # type: ignore[no-untyped-def]
        return x


def test_a_model_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="functional"):
        saving.save(Subclassed(), tmp_path / "model.keras", SPEC)


def test_a_renamed_file_says_so(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(saved.read_bytes())
    with pytest.raises(ArtefactError, match="Rename it"):
        saving.load(other)


def test_ctrl_c_while_saving_keeps_the_old_file(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(saved.read_bytes())

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saving.save(network(), path, SPEC)
    assert path.read_bytes() == saved.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]


def test_kill_while_saving_leaves_no_half_file(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kseg import saving\n"
        "model = saving.load(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True: saving.save(model, sys.argv[2])\n"
    )
    path = tmp_path / "model.keras"
    process = subprocess.Popen([sys.executable, "-c", code, str(saved), str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"ready"
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    if path.exists():
        saving.load(path)
    saving.save(network(), path, SPEC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]


def test_disk_full_leaves_no_half_file(saved: Path, tmp_path: Path) -> None:
    """On a tmpfs of 64 kB, in a mount namespace of its own, so that nothing stays mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs '{disk}'"
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    try:
        tried = subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no private mount is possible here: {error}")
    if tried.returncode:
        pytest.skip(f"no private mount is possible here: {tried.stderr.strip()}")
    code = (
        "import errno, os, sys\n"
        "import keras\n"
        "from kseg import saving\n"
        "spec = saving.read_spec(sys.argv[1])\n"
        "path = os.path.join(sys.argv[2], 'model.keras')\n"
        "saving.save(saving.load(sys.argv[1]), path)\n"
        "before = open(path, 'rb').read()\n"
        "image = keras.Input((None, None, 3))\n"
        "wide = keras.layers.Conv2D(5000, 1)(image)\n"
        "big = keras.Model(image, keras.layers.Conv2D(3, 1)(wide))\n"
        "try:\n"
        "    saving.save(big, path, spec)\n"
        "except OSError as error:\n"
        "    same = open(path, 'rb').read() == before\n"
        "    print(errno.errorcode[error.errno], os.listdir(sys.argv[2]), same)\n"
    )
    command = f"{mount} && exec '{sys.executable}' -c \"$CODE\" '{saved}' '{disk}'"
    environment = {**os.environ, "CODE": code}
    done = subprocess.run([*unshare, "sh", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ENOSPC ['model.keras'] True"
