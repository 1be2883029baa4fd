"""The whole examination of a machine: what it trains on, which formats it runs and exports, what is amiss."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from deploy.formats import FORMATS, KERAS_SUFFIX, Format
from deploy.quiet import quiet
from kseg.errors import KsegError
from kseg.machine.advice import NOTE, Finding
from kseg.machine.report import Machine, without_paths
from kseg.machine.report import examine as examine_machine

YES = "yes"
# The network that `measure` times: small enough for seconds, large enough for the kernels that count.
MEASURED = ("unet", {"width": 0.5}, (256, 256), 8)


def examine(*, measure: bool = False) -> dict[str, Any]:
    """Examine this machine.

    Args:
        measure: time training steps of a small network, as `kseg train` times those of its own, to choose
            precision and compilation. Otherwise it is said what would be timed.

    Returns:
        JSON-ready, without local paths: `runs_on`, `backend`, `devices` (with memory in bytes), `driver`,
        `gpus`, `processor`, `cores`, `free_bytes`, `libraries` (versions), `precision` and `compilation`
        (each `chosen` and `reason`), `formats` (one row each: does it run here, can it be exported here)
        and `findings` (each with `level`, `text` and `remedy`).
    """
    with quiet():
        machine = examine_machine()
        rows = [_keras_row(machine), *map(_row, FORMATS.values())]
        chosen = _choices(machine, measure)
    found = machine.to_dict()
    missing = [
        Finding(NOTE, row["format"] + " " + row["problem"], row["remedy"]) for row in rows if row["remedy"]
    ]
    found["findings"] += [
        {"level": item.level, "text": without_paths(item.text), "remedy": item.remedy} for item in missing
    ]
    shown = ("format", "suffix", "precisions", "runs", "exports")
    return {**found, **chosen, "formats": [{key: row[key] for key in shown} for row in rows]}


def _keras_row(machine: Machine) -> dict[str, Any]:
    # A backend that cannot be used is among the machine's own findings.
    usable = YES if not machine.seen.problem else "no: Keras' backend cannot be used"
    return {
        "format": "keras",
        "suffix": KERAS_SUFFIX,
        "precisions": ["float32"],
        "runs": usable,
        "exports": usable,
        "problem": "",
        "remedy": "",
    }


def _row(row: Format) -> dict[str, Any]:
    """Try to import what a format is run and exported with."""
    runs, exports = _lacking(row.runs_with), _lacking(row.exported_with)
    no_device = "" if runs else _no_device(row)
    problem = " and ".join(
        [f"is not run here ({runs})"] * bool(runs) + [f"is not exported here ({exports})"] * bool(exports)
    )
    remedy = f'Run: pip install "kseg[{row.extra}]"' if problem else ""
    if exports.startswith("tensorflow") and not runs:
        remedy = "Export on a machine with TensorFlow (pip install kseg), and bring the file here"
    return {
        "format": row.name,
        "suffix": row.suffix,
        "precisions": list(row.precisions),
        "runs": f"no: {_short(runs or no_device)}" if runs or no_device else YES,
        "exports": f"no: {_short(exports)}" if exports else YES,
        "problem": problem,
        "remedy": remedy,
    }


def _short(reason: str) -> str:
    return reason.partition(":")[0]


def _lacking(needs: Sequence[str]) -> str:
    """Return the first need that no module satisfies, and why; empty: all are there. `a|b`: one of them."""
    for need in needs:
        errors = []
        for module in need.split("|"):
            try:
                importlib.import_module(module)
                break
            except (ImportError, OSError) as error:
                errors.append(" ".join(str(error).split())[:120])
        else:
            return f"{need.replace('|', ' or ')}: {without_paths(errors[0])}"
    return ""


def _no_device(row: Format) -> str:
    if row.device is None:
        return ""
    try:
        row.load("device")()
    except KsegError as error:
        return str(error)
    return ""


def _choices(machine: Machine, measure: bool) -> dict[str, Any]:
    """Return which precision and compilation `kseg train` takes here, and why."""
    if machine.seen.problem:
        unknown = {"chosen": "none", "reason": "Keras' backend cannot be used"}
        return {"precision": unknown, "compilation": unknown}
    from kseg.training import precision

    policies = precision.candidates(machine.seen)
    known = precision.compilation(machine.seen)
    if measure:
        return _measured(policies, known)
    timed = f"the fastest of {', '.join(policies)}"
    why = (
        f"timed at the start of runs of {precision.LEAST_STEPS} steps or more (here: kseg doctor --measure); "
        f"another way than the first must be {precision.LEAST_GAIN:g} times as fast"
    )
    first = {"chosen": policies[0], "reason": "no reduced precision is fast on this hardware"}
    return {
        "precision": first if len(policies) == 1 else {"chosen": timed, "reason": why},
        "compilation": {"chosen": "timed", "reason": why} if known is None else _compiled(known),
    }


def _compiled(choice: Any) -> dict[str, str]:
    return {"chosen": "on" if choice.jit else "off", "reason": choice.reason}


def _measured(policies: tuple[str, ...], known: Any) -> dict[str, Any]:
    import numpy as np

    from kseg import losses, models
    from kseg.layers.policy import dtype_policy
    from kseg.training import precision

    name, arguments, size, images = MEASURED
    rng = np.random.default_rng(0)
    batch = (
        rng.standard_normal((images, *size, 3)).astype(np.float32),
        rng.integers(0, 2, (images, *size)).astype(np.int32),
    )

    def build(policy: str, jit: bool) -> Any:
        with dtype_policy(policy):
            model = models.create(name, num_classes=2, **arguments)
            model.compile("adamw", losses.PixelCrossEntropy(), jit_compile=jit)
        return model

    first = False if known is None else known.jit
    fastest = precision.choose(lambda policy: build(policy, first), batch, policies=policies)
    found = known
    if known is None:
        found = precision.choose_compilation(lambda jit: build(fastest.policy, jit), batch)
    return {
        "precision": {"chosen": fastest.policy, "reason": fastest.reason},
        "compilation": _compiled(found),
        "measured": {"network": name, "arguments": arguments, "size": list(size), "batch_size": images},
    }
