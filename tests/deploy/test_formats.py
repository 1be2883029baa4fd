"""The table of formats: one source for validation, help and loaders."""

from __future__ import annotations

import argparse

import pytest

from deploy import formats
from kseg.errors import UsageError


def test_names_and_suffixes_round_trip():
    rows = list(formats.FORMATS.values())
    for row in rows:
        assert formats.by_name(row.name.upper()) is row
        first = formats.by_path(f"folder/model{row.suffix}")
        # Two builders write engines; what reads them is the same.
        assert (first.suffix, first.runtime, first.container) == (row.suffix, row.runtime, row.container)
        assert first is row or (first.name, row.name) == ("tensorrt", "tensorrt-rtx")
        assert set(row.precisions) <= set(formats.PRECISIONS)
        assert not set(row.precisions) & set(row.refused)


def test_rows_without_a_gpu_import():
    for name in ("tflite", "onnx"):
        row = formats.FORMATS[name]
        assert row.load("exporter").format_name == name
        assert callable(row.load("runtime"))
        assert callable(row.load("container").embed)
        assert callable(row.load("container").read_spec)


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'tflite'"):
        formats.by_name("tflight")
    with pytest.raises(UsageError, match=r"\.onnx \(onnx\)"):
        formats.by_path("model.pt")
    with pytest.raises(UsageError, match=r"Did you mean 'float16'.*Known: float32, float16, int8"):
        formats.FORMATS["tflite"].check_precision("flot16")


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [
        ("tflite", "dynamic_int8", "depthwise"),
        ("onnx", "int8_dynamic", "depthwise"),
        ("tflite", "int16x8", "slower than float32"),
        ("onnx", "int8", "slower than float32 on CPUs"),
    ],
)
def test_refused_precisions_say_why(name: str, precision: str, reason: str):
    with pytest.raises(UsageError, match=reason):
        formats.FORMATS[name].check_precision(precision)


def test_command_help_is_derived_from_the_table():
    from kseg.cli import export

    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for row in formats.FORMATS.values():
        assert f"{row.name}: {', '.join(row.precisions)}" in text
