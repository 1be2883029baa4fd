"""The words that errors share."""

from __future__ import annotations

import pytest

import deploy
from kseg.errors import MissingExtraError, did_you_mean, explained_imports


def test_what_was_received_is_never_suggested():
    assert did_you_mean("batch", ["batch", "none"]) == ""
    assert did_you_mean("bach", ["batch"]) == " Did you mean 'batch'?"
    # Another case is another spelling.
    assert did_you_mean("Batch", ["batch"]) == " Did you mean 'batch'?"


def test_an_open_batch_is_refused_without_suggesting_it(tmp_path):
    with pytest.raises(ValueError, match="Received: 'batch'") as refused:
        deploy.export("model.keras", tmp_path / "m.tflite", dynamic="batch", verify=False)
    assert "Did you mean" not in str(refused.value)


def test_a_library_that_is_not_installed_is_named_with_its_extra():
    with (
        pytest.raises(MissingExtraError, match=r'`keras` is not installed.*pip install "kseg\[train\]"'),
        explained_imports(),
    ):
        raise ModuleNotFoundError("No module named 'keras.layers'", name="keras.layers")
    # What no extra brings is a fault, and stays one.
    with pytest.raises(ModuleNotFoundError, match=r"kseg\.nothing") as raised, explained_imports():
        raise ModuleNotFoundError("No module named 'kseg.nothing'", name="kseg.nothing")
    assert not isinstance(raised.value, MissingExtraError)
