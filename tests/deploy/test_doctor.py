"""`kseg doctor`: machines of every kind (faked), the formats' table, and the command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy import doctor
from deploy.formats import FORMATS, NoDeviceError
from kseg.cli import doctor as command
from kseg.cli import main as cli
from kseg.machine import advice
from kseg.machine.backend import Backend, Device
from kseg.machine.nvidia import Driver, Gpu
from kseg.machine.report import Machine

CPU = Device("CPU", "cpu")
T4 = Gpu("Tesla T4", 15 * 2**30, 2**30, (7, 5))
A100 = Gpu("NVIDIA A100", 40 * 2**30, 0, (8, 0))


def machine(gpus: tuple[Gpu, ...], sees: bool, name: str = "tensorflow", problem: str = "") -> Machine:
    driver = Driver("550.54.15", "12.4", gpus, "NVML") if gpus else Driver()
    seen = tuple(Device(gpu.name, "gpu", gpu.capability) for gpu in gpus if sees)
    backend = Backend(name, "" if problem else "9.9", () if problem else (*seen, CPU), problem=problem)
    found = tuple(advice.findings(driver, backend, {}))
    return Machine(driver, backend, found, "a processor", 4, 2**34)


KINDS = {
    "GPU seen": (machine((A100,), True), "GPU: NVIDIA A100", "mixed_bfloat16", "timed", []),
    "older GPU": (machine((T4,), True), "GPU: Tesla T4", "mixed_float16", "timed", []),
    "GPU not seen": (machine((A100,), False), "CPU: a processor", "mixed_bfloat16", "off", ["warning"]),
    "no GPU": (machine((), False), "CPU: a processor", "mixed_bfloat16", "off", []),
    "no TensorFlow": (
        machine((), False, problem="No module named 'tensorflow'"),
        "CPU",
        "none",
        "none",
        ["error"],
    ),
    "JAX": (machine((A100,), True, name="jax"), "GPU: NVIDIA A100", "mixed_bfloat16", "on", []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_machine(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    faked, runs_on, policy, xla, levels = KINDS[kind]
    monkeypatch.setattr(doctor, "examine_machine", lambda: faked)
    found = doctor.examine()
    json.dumps(found, allow_nan=False)
    assert found["runs_on"].startswith(runs_on)
    assert policy in found["precision"]["chosen"]
    assert found["compilation"]["chosen"] == xla
    assert [item["level"] for item in found["findings"] if item["level"] != "note"] == levels
    assert all(item["remedy"] for item in found["findings"])
    assert [row["format"] for row in found["formats"]] == ["keras", *FORMATS]
    code = cli.main(["doctor"])
    printed = capsys.readouterr().out
    assert code == (1 if "error" in levels else 0)
    assert runs_on in printed
    for item in found["findings"]:
        assert item["remedy"][:30] in printed


def test_every_format_says_what_it_needs() -> None:
    for row in FORMATS.values():
        assert row.runs_with, row.name
        assert row.exported_with, row.name


def test_a_missing_runtime_is_a_note_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.importlib.import_module

    def without(name: str) -> Any:
        if name.startswith(("onnxruntime", "cuda")):
            raise ImportError(f"No module named '{name}' in /home/anna/lib/x.py")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", without)
    monkeypatch.setattr(doctor, "examine_machine", lambda: machine((), False))
    found = doctor.examine()
    rows = {row["format"]: row for row in found["formats"]}
    assert rows["onnx"]["runs"] == "no: onnxruntime"
    note = next(item for item in found["findings"] if item["text"].startswith("onnx "))
    assert note["level"] == "note"
    assert 'pip install "kseg[onnx]"' in note["remedy"]
    assert "anna" not in json.dumps(found)


def test_an_engine_without_a_device_is_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise NoDeviceError("no CUDA device")

    monkeypatch.setattr(doctor, "_lacking", lambda needs: "")
    monkeypatch.setattr("deploy.tensorrt.cuda.check_device", none)
    assert doctor._row(FORMATS["tensorrt"])["runs"] == "no: no CUDA device"


def test_measured_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEASURED", ("unet", {"width": 0.0625, "depth": 2}, (32, 32), 2))
    found = doctor.examine(measure=True)
    assert "images/s" in found["precision"]["reason"]
    assert found["measured"]["size"] == [32, 32]


def test_json_is_alone_on_stdout(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine_machine", lambda: machine((A100,), True))
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"][0]["name"] == "NVIDIA A100"
    assert command.HELP
