"""`report`: one self-contained page about a run folder and what was exported from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

import kseg
from deploy.exported import Verified, exported
from deploy.formats import FORMATS
from deploy.metadata import read_spec
from kseg import files, records, tasks
from kseg.errors import DataError
from kseg.inference import evaluate
from kseg.progress import Progress
from kseg.viz import write_report

EXPORTS = "exports"
BENCHMARK = "benchmark.json"
RUN = "run.json"

_Figure = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

T = TypeVar("T")


def report(
    run: str | os.PathLike[str],
    *,
    data: Any = None,
    splits: Sequence[str] = (),
    examples: int = 8,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write one self-contained HTML page about a run folder, and what is on it as JSON beside it.

    Args:
        run: folder that `kseg train` or `kseg train-sds` made; artefacts there and in `exports/` are listed.
        data: folder, `tfds:NAME` or `sample:nuclei`; None: the data that the run was trained on.
        splits: which are scored; none: val, and test if there is one.
        examples: pictures to show, of the first split.
        out: the page; None: `report.html` in the run folder.
        progress: wraps the loops over the images.

    Returns:
        The page, and what its `.json` holds: `spec`, `scores` by split, `exports`, `benchmark`, `notes`.

    Raises:
        DataError: if the folder holds no finished run, or the data has no such split.

    Example:
        >>> page, summary = deploy.report("runs/fcn8s", splits=["val"])
    """
    folder = Path(run)
    model = folder / "model.keras"
    if not model.is_file():
        raise DataError(
            f"'{folder}' holds no finished run: {model.name} is missing. Make one with kseg train"
        )
    task = tasks.find(read_spec(model).task)
    predictor = task.part("predictor")(model)
    source = kseg.data.open(data or _trained_on(folder))
    splits = list(splits) or [name for name in ("val", "validation", "test") if name in source.splits]
    if not splits:
        raise DataError(
            f"'{source.name}' has no val or test split. It has: {', '.join(source.splits)}; use --split"
        )
    scores = {name: evaluate(predictor, source.samples(name), progress, f"scoring {name}") for name in splits}
    benchmark, trained = _read(folder / BENCHMARK, _Benchmark), _read(folder / RUN, _Run)
    exports = [_export_row(path, benchmark) for path in export_files(folder)]
    notes, commands = _notes(task, trained, splits, bool(exports)), _commands(folder, source.name, splits)
    page = Path(out) if out else folder / "report.html"
    summary = {
        "spec": predictor.spec.to_dict(),
        "scores": {name: entry.summary() for name, entry in scores.items()},
        "exports": exports,
        "benchmark": _without_paths(_read(folder / BENCHMARK, dict[str, Any]), folder),
        "notes": notes,
    }
    # The record waits under a temporary name until the page is written: both are there, or neither.
    with files.atomic(page.with_suffix(".json")) as waiting:
        files.write_json(waiting, summary)
        write_report(
            page,
            title=f"{predictor.spec.architecture} on {source.spec.data['source']}",
            spec=predictor.spec,
            history_csv=folder / "history.csv",
            examples=_examples(task, predictor, source.samples(splits[0], limit=examples)),
            scores=scores,
            exports=exports,
            phases=trained.phases,
            notes=notes,
            commands=commands,
        )
    predictor.close()
    return page, summary


def _trained_on(folder: Path) -> str:
    """Return the data that `run.json` names; the model file itself carries no local path."""
    source = _read(folder / RUN, _Run).data.source
    if source is None:
        raise DataError(f"'{folder}' has no {RUN} that says what it was trained on: give --data")
    return source


def export_files(folder: Path) -> list[Path]:
    """Return the artefacts in RUN and RUN/exports, in the order of the formats table."""
    suffixes = [row.suffix for row in FORMATS.values()]
    places = [*folder.glob("*"), *(folder / EXPORTS).glob("*")]
    found = [path for path in places if path.suffix in suffixes]
    kept = [path for path in found if not path.name.endswith(".engine.onnx")]
    return sorted(kept, key=lambda path: (suffixes.index(path.suffix), path.name))


class _Data(records.Record, frozen=True):
    source: str | None = None


class _Run(records.Record, frozen=True):
    """What the page says of `run.json`."""

    data: _Data = _Data()
    versions: dict[str, str | None] | None = None
    phases: dict[str, dict[str, Any]] = {}  # noqa: RUF012  (msgspec copies it)


class _Timed(records.Record, frozen=True):
    path: str
    status: records.Text | None = None
    load_s: _Figure | None = None
    p50_ms: _Figure | None = None
    p95_ms: _Figure | None = None
    images_per_s: _Figure | None = None
    speedup: _Figure | None = None
    peak_bytes: records.Count | None = None


class _Benchmark(records.Record, frozen=True):
    """What the page says of `benchmark.json`."""

    rows: list[_Timed] = []  # noqa: RUF012  (msgspec copies it)


def _read(path: Path, kind: type[T]) -> T:
    """Return what a file of the run folder says; if there is none, what nothing says."""
    if not path.exists():
        return kind()
    return records.read(path, kind, remedy="Move it away, or make it again")


def _examples(task: tasks.Task, predictor: Any, samples: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    for sample in samples:
        (prediction,) = predictor.stream([sample.image])
        yield sample.name, sample.image, task.part("pictures").truth(sample), prediction


def _export_row(path: Path, benchmark: _Benchmark) -> dict[str, Any]:
    spec = read_spec(path)
    record, headline = exported(spec, path), tasks.find(spec.task).headline
    rows = [row for row in benchmark.rows if Path(row.path).name == path.name]
    timed = rows[0] if rows else _Timed(path=path.name)
    row = {
        "file": path.name,
        "format": record.format,
        "precision": record.precision,
        "size_bytes": path.stat().st_size,
        "load_ms": None if timed.load_s is None else 1000 * timed.load_s,
        "p50_ms": timed.p50_ms,
        "p95_ms": timed.p95_ms,
        "images_per_s": timed.images_per_s,
        "ratio": timed.speedup,
        "peak_mb": None if timed.peak_bytes is None else timed.peak_bytes / 1e6,
        headline: record.verify.value,
        f"{headline}_drop": record.verify.drop,
        "agreement": record.verify.agreement,
        "verify": record.verify.status,
        "reason": _reason(timed.status, record.verify.status) or _caveat(record.verify),
    }
    engine = record.engine
    if engine is not None:
        row["format"] = f"{engine.library} {engine.version}"
        row["runs on"] = f"{engine.runs_on}. There: {engine.needs}"
    return row


def _reason(timed: str | None, verdict: str | None) -> str | None:
    """Return why a file has no latency, unless its verdict says so already."""
    if timed in (None, "measured") or timed in (verdict or ""):
        return None
    return timed


def _caveat(verify: Verified) -> str | None:
    """Return what a verdict's reader should know: too few images, a reference near chance."""
    return verify.note if verify.value is not None else None


def shown(path: str | Path) -> str:
    """Return a path as a page for others shows it: relative to the current folder, or its name alone."""
    given = Path(path)
    if not given.is_absolute():
        return str(given)
    here = Path.cwd()
    return str(given.relative_to(here)) if given.is_relative_to(here) else given.name


def _without_paths(benchmark: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the benchmark's record with its files as they lie in the run folder."""
    rows = []
    for row in benchmark.get("rows", []):
        file, run = Path(row["path"]).absolute(), folder.absolute()
        rows.append({**row, "path": str(file.relative_to(run)) if file.is_relative_to(run) else file.name})
    setup = dict(benchmark.get("setup") or {})
    if "source" in setup:
        setup["source"] = shown(setup["source"])
    return {**benchmark, "rows": rows, "setup": setup} if benchmark else benchmark


def _notes(task: tasks.Task, trained: _Run, splits: Sequence[str], has_exports: bool) -> dict[str, str]:
    notes = {
        task.part_label: task.scored.format(splits=" and ".join(splits)),
        "curves": "what model.fit logged (history.csv) of the networks that were tuned, one after the other."
        if trained.phases
        else f"loss and {task.label} of the training run, at the network's input size, as model.fit logged "
        "them (history.csv).",
    }
    if trained.versions:
        listed = ", ".join(f"{name} {version}" for name, version in trained.versions.items() if version)
        notes["training"] = f"{listed}; every argument is in {RUN}."
    if has_exports:
        notes[f"{task.label}, drop, agreement of the exports"] = (
            "the artefact against the trained model on the same images through the same pre- and "
            "post-processing (kseg verify); the outcome is inside each file."
        )
        notes["latency"] = (
            "batch 1, after warm-up, all files timed in turns in one run, each in a process of its own "
            "(kseg benchmark); the machine and its load decide the milliseconds, so read the ratios."
        )
    return notes


def _commands(folder: Path, source: str, splits: Sequence[str]) -> list[str]:
    run, source = Path(shown(folder)), shown(source)
    model, small = run / "model.keras", run / EXPORTS / "model_int8.tflite"
    return [
        f"kseg evaluate {model} --data {source} --split {splits[0]}",
        f"kseg predict {model} IMAGE_OR_DIR --out predictions",
        f"kseg export {model} --to tflite --precision int8 --data {source} --out {small}",
        f"kseg benchmark {model} {small} --data {source}",
    ]
