"""TFDS sets: the table's ids against TFDS mocks, both file formats, and no network."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from kseg import data  # noqa: E402
from kseg.data.sources import tfds_sets  # noqa: E402
from kseg.data.sources.reach import unreachable  # noqa: E402
from kseg.errors import DataError, UsageError  # noqa: E402

SIZE = (12, 16)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("the network is off in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def image(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), np.uint8)


def mask(index: int, ids: list[int], channels: int = 1) -> np.ndarray:
    result = np.random.default_rng(100 + index).integers(0, 9, (*SIZE, channels)).astype(np.uint8)
    result[..., 0] = np.random.default_rng(200 + index).choice(ids, SIZE)
    return result


def pet(index: int) -> dict[str, Any]:
    return {
        "image": image(index),
        "label": 0,
        "species": 1,
        "file_name": f"pet_{index}.jpg",
        "segmentation_mask": mask(index, [1, 2, 3]),
        "head_bbox": tfds.features.BBox(0, 0, 1, 1),
    }


def city(index: int) -> dict[str, Any]:
    return {
        "image_id": f"bonn_{index}",
        "image_left": image(index),
        "segmentation_label": mask(index, [0, 7, 8, 26, 33]),
    }


def places(index: int) -> dict[str, Any]:
    return {"image": image(index), "annotation": mask(index, [0, 1, 9, 100], 3)}


def write_info(name: str, folder: Path, count: int, file_format: str) -> None:
    """Write the metadata that TFDS' mock needs to know splits: what a real preparation leaves behind."""
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    template = tfds.core.ShardedFileTemplate(
        data_dir=builder.data_path, dataset_name=builder.name, filetype_suffix=file_format, split="train"
    )
    split = tfds.core.SplitInfo(name="train", shard_lengths=[count], num_bytes=1, filename_template=template)
    builder.info.set_splits(tfds.core.SplitDict([split]))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Callable[..., data.Source]]:
    """Return open(name, make): a TFDS set of three mocked examples."""
    with contextlib.ExitStack() as stack:

        def start(name: str, make: Callable[[int], dict[str, Any]]) -> data.Source:
            examples = [make(index) for index in range(3)]
            write_info(name, tmp_path, 3, "array_record")
            stack.enter_context(
                tfds.testing.mock_data(
                    as_data_source_fn=lambda *args, **kwargs: examples,
                    data_dir=str(tmp_path),
                    policy=tfds.testing.MockPolicy.USE_FILES,
                )
            )
            return data.open(f"tfds:{name}", data_dir=tmp_path, cache_dir=tmp_path / "cache")

        yield start


@pytest.mark.usefixtures("no_network")
def test_pets_become_three_classes(mocked: Callable[..., data.Source]) -> None:
    source = mocked("oxford_iiit_pet", pet)
    samples = source.samples("train")
    assert source.splits == {"train": 3}
    assert source.spec.classes == ("pet", "background", "border")
    assert [sample.name for sample in samples] == [f"pet_{index}.jpg" for index in range(3)]
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.mask, pet(index)["segmentation_mask"][..., 0] - 1)
        np.testing.assert_array_equal(sample.image, image(index))


@pytest.mark.usefixtures("no_network")
def test_cityscapes_raw_ids_become_train_ids(mocked: Callable[..., data.Source]) -> None:
    source = mocked("cityscapes/semantic_segmentation", city)
    sample = source.samples("train")[1]
    raw = city(1)["segmentation_label"][..., 0]
    for old, new in {0: 255, 7: 0, 8: 1, 26: 13, 33: 18}.items():
        assert set(sample.mask[raw == old]) == {new}
    assert source.spec.num_classes == 19
    assert source.spec.classes[13] == "car"
    assert source.spec.palette[0] == (128, 64, 128)


@pytest.mark.usefixtures("no_network")
def test_scene_parse_takes_the_category_channel(mocked: Callable[..., data.Source]) -> None:
    source = mocked("scene_parse150", places)
    sample = source.samples("train")[2]
    raw = places(2)["annotation"][..., 0]
    for old, new in {0: 255, 1: 0, 9: 8, 100: 99}.items():
        assert set(sample.mask[raw == old]) == {new}
    assert (source.spec.classes[0], source.spec.classes[8], source.spec.classes[99]) == ("bed", "car", "flag")


def make_unlisted(folder: Path, feature: Any) -> None:
    class TinyShapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "tiny_shapes"

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict({"picture": tfds.features.Image(), "truth": feature})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            for index in range(4):
                yield index, {"picture": image(index), "truth": mask(index, [0, 1])}

    TinyShapes(data_dir=folder).download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


@pytest.mark.usefixtures("no_network")
def test_an_unlisted_set_with_a_labelled_mask_is_copied_to_the_cache_once(tmp_path: Path) -> None:
    make_unlisted(tmp_path, tfds.features.LabeledImage(labels=["sky", "sea"]))
    source = data.open("tfds:tiny_shapes", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    samples = source.samples("train")
    assert source.spec.classes == ("sky", "sea")
    assert len(samples) == 4
    assert len(source.samples("train[:50%]")) == 2
    truths = sorted(sample.mask.tobytes() for sample in samples)
    assert truths == sorted(mask(index, [0, 1])[..., 0].tobytes() for index in range(4))
    made = list((tmp_path / "cache").rglob("*.array_record*"))
    before = [path.stat().st_mtime_ns for path in made]
    data.open("tfds:tiny_shapes", data_dir=tmp_path, cache_dir=tmp_path / "cache").samples("train")
    assert made
    assert [path.stat().st_mtime_ns for path in made] == before


@pytest.mark.usefixtures("no_network")
def test_an_unlisted_set_without_class_names_asks_for_an_id_map(tmp_path: Path) -> None:
    make_unlisted(tmp_path, tfds.features.Image(shape=(None, None, 1)))
    with pytest.raises(DataError, match="id_map="):
        data.open("tfds:tiny_shapes", data_dir=tmp_path)
    source = data.open("tfds:tiny_shapes", data_dir=tmp_path, cache_dir=tmp_path / "c", id_map={0: 1, 1: 0})
    truths = sorted(sample.mask.tobytes() for sample in source.samples("train"))
    assert truths == sorted((1 - mask(index, [0, 1])[..., 0]).tobytes() for index in range(4))


_OFFLINE = """
import socket, sys, time

def hang(*args, **kwargs):
    time.sleep(60)

def refuse(*args, **kwargs):
    raise socket.gaierror(-2, "Name or service not known")

{patch}
from kseg.cli.main import main
sys.exit(main(["check-data", "tfds:oxford_iiit_pet"]))
"""


@pytest.mark.parametrize(
    "patch",
    ["socket.getaddrinfo = refuse", "socket.getaddrinfo = hang"],
    ids=["no name server", "a name server that never answers"],
)
def test_a_set_that_is_not_on_disk_is_one_line_within_ten_seconds_offline(patch: str, tmp_path: Path) -> None:
    """Time is counted from the request on: importing TFDS takes seconds on a busy machine."""
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE.format(patch=patch)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert time.monotonic() - start < 30  # 10 s and the start of Python on a loaded machine; it was 210 s
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    for words in ("not prepared in", "network does not answer", "tfds build oxford_iiit_pet"):
        assert words in done.stderr


def test_the_question_for_the_network_is_bounded_and_one_answer_is_enough() -> None:
    with (
        contextlib.closing(socket.socket()) as silent,
        http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server,
    ):
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes the connection and says nothing
        threading.Thread(target=server.serve_forever, daemon=True).start()
        quiet = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        start = time.monotonic()
        assert "127.0.0.1" in str(unreachable([quiet], seconds=1.0))
        assert time.monotonic() - start < 5
        # 501 Not Implemented is an answer.
        assert unreachable([quiet, f"http://127.0.0.1:{server.server_port}/b"], seconds=20.0) is None
        server.shutdown()
    assert unreachable([]) is None
    assert unreachable(["ftp://nowhere.invalid/c"]) is None


def test_files_downloaded_before_are_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(tfds_sets, "unreachable", lambda urls: asked.extend(urls))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *args, **kwargs: None)
    urls = list(tfds.builder_cls("oxford_iiit_pet").url_infos)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "pets.INFO").write_text(json.dumps({"urls": urls[:1], "url_info": {}}))
    data.open("tfds:oxford_iiit_pet", data_dir=tmp_path)
    assert len(urls) == 2
    assert asked == urls[1:]


@pytest.mark.usefixtures("no_network")
def test_an_unknown_set_names_the_near_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'oxford_iiit_pet'"):
        data.open("tfds:oxford_iit_pet")


def test_a_set_without_masks_lists_its_features(tmp_path: Path) -> None:
    write_info("mnist", tmp_path, 1, "array_record")
    with pytest.raises(DataError, match="no image with a mask"):
        data.open("tfds:mnist", data_dir=tmp_path)
