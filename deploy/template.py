"""The export template: prepare, convert, embed the spec, load back, verify, finish.

A format is one subclass that fills in `convert` (Keras to a float graph), `lower` (the graph to the
precision asked for) and `check_graph` (what must hold of the file). Everything happens on a temporary
file beside the target, which takes the target's name only when all is done.
"""

from __future__ import annotations

import abc
import datetime
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deploy.calibration import Calibration
from deploy.conversion import Probe, Request, convert
from deploy.ends import fit, output_shapes
from deploy.formats import Format, by_name
from deploy.metadata import embed, load
from deploy.quiet import quiet
from deploy.verification import Verification
from kseg.errors import ArtefactError
from kseg.files import atomic
from kseg.interrupts import DeferredInterrupt
from kseg.spec import Spec
from kseg.tasks import find
from kseg.version import __version__

if TYPE_CHECKING:
    import keras

# rms error / std of the reference outputs on a random image. Measured: float32 <= 1e-4, float16 <= 0.09
# (hard pooling switches; 0.01 for every other network). int8 is judged by mIoU alone.
PARITY = {"float32": 1e-3, "float16": 0.2}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One export, its arguments checked. `verify` runs the gate on a finished file; None: do not."""

    model: keras.Model
    spec: Spec
    out: Path
    request: Request
    calibration: Calibration | None
    verify: Callable[[Path], Verification] | None


class Exporter(abc.ABC):
    """Base of the exporters. See the module's text; `run` is the whole road."""

    format_name: ClassVar[str]
    #: distributions whose versions are written into the artefact
    tools: ClassVar[tuple[str, ...]] = ()

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def row(self) -> Format:
        """This format's row of the table."""
        return by_name(self.format_name)

    @staticmethod
    @abc.abstractmethod
    def convert(model: keras.Model, path: Path, request: Request) -> None:
        """Write the graph of a float32 model to `path`. Runs on the TensorFlow backend."""

    def prepare(self) -> None:  # noqa: B027
        """Raise, before anything is converted, if this machine cannot make the file."""

    def lower(self, path: Path) -> None:  # noqa: B027  (a format without further steps is complete)
        """Bring the converted file to the precision asked for, in place."""

    def check_graph(self, path: Path) -> None:  # noqa: B027
        """Raise ArtefactError if the file has what this format must not have."""

    def run(self) -> dict[str, Any]:
        """Make the artefact.

        Returns:
            What `spec.export` holds: format, precision, calibration, tools, parity, verify; and `path`,
            `bytes`.
        """
        job = self.job
        self.prepare()
        with atomic(job.out) as path:
            with DeferredInterrupt() as interrupt:
                record = self._made(path, interrupt)
            if job.verify is not None:
                record["verify"] = job.verify(path).to_dict()
                embed(path, self.spec(record))
            size = path.stat().st_size
        return {"path": str(job.out), "bytes": size, **record}

    def _made(self, path: Path, interrupt: DeferredInterrupt) -> dict[str, Any]:
        """Convert, lower and check the file; return its record. Converters swallow a Ctrl-C, so it waits."""
        job = self.job
        probe = convert(job.model, job.spec, path, job.request)
        interrupt.check()
        with quiet():
            self.lower(path)
        interrupt.check()
        record = self.record()
        embed(path, self.spec(record))
        self.check_graph(path)
        interrupt.check()
        record["parity"] = self.load_back(path, probe)
        # While the gate runs the file says UNVERIFIED, and so it stays without a gate.
        embed(path, self.spec(record))
        return record

    def record(self) -> dict[str, Any]:
        """Return what is known about the export before it is verified."""
        request, calibration = self.job.request, self.job.calibration
        return {
            "format": self.format_name,
            "precision": request.precision,
            "size": list(request.size),
            "dynamic": request.dynamic,
            "layout": "NHWC",
            "output": ", ".join(request.outputs),
            "keep_float": request.keep_float,
            "calibration": None if calibration is None else calibration.to_dict(),
            "tools": {
                name: _version(name) for name in ("keras", "tensorflow-cpu", "tensorflow", *self.tools)
            },
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "verify": {"status": Verification.UNVERIFIED},
        }

    def spec(self, record: dict[str, Any]) -> Spec:
        """Return the spec that the artefact carries."""
        return self.job.spec.replace(
            input_size=self.job.request.size,
            export={key: value for key, value in record.items() if value is not None},
            kseg_version=__version__,
        )

    def load_back(self, path: Path, probe: Probe) -> dict[str, float]:
        """Load the file as a user would; compare its signature and one answer with Keras'.

        Returns:
            `rms_over_std` and `max_abs` of the outputs' error on one random image, of the worst.
        """
        runtime = load(path)
        try:
            check_signature(runtime, self.job.request, self.job.spec)
            outputs = runtime.outputs(probe.image)
        finally:
            runtime.close()
        return check_parity(outputs, probe.outputs, self.parity_limit())

    def parity_limit(self) -> float | None:
        """Return how far the outputs may be from Keras' (`check_parity`); None: only the score judges."""
        if find(self.job.spec.task).jumps:
            return None
        return PARITY.get(self.job.request.precision)


def check_signature(runtime: Any, request: Request, spec: Spec) -> None:
    """Refuse an artefact whose input collapsed or whose outputs are not those of the spec."""
    height, width = runtime.input_size
    if (height, width) != tuple(request.size) or (1 in (height, width) and 1 not in request.size):
        raise ArtefactError(
            f"The converter changed the input size: asked for {request.size}, the file has {(height, width)}."
        )
    expected, received = output_shapes(spec, request.size), runtime.ends.outputs
    if not fit(expected, received):
        raise ArtefactError(f"The file's outputs must be {expected} for its spec, received {received}.")


def check_parity(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], limit: float | None
) -> dict[str, float]:
    """Compare the artefact's outputs with Keras'; raise ArtefactError if they are another network's.

    Args:
        outputs: of the artefact, by name.
        reference: Keras'.
        limit: rms error / std that is allowed; None: any.
    """
    worst = {"rms_over_std": 0.0, "max_abs": 0.0}
    for name, expected in reference.items():
        if not np.isfinite(outputs[name]).all():
            raise ArtefactError(f"The converted file gives NaN or infinite {name} on a random image.")
        error = outputs[name].astype(np.float64) - expected
        # An untrained head answers a constant: then its size, not its spread, is the measure.
        scale = max(float(expected.std()), 0.01 * float(np.sqrt(np.mean(np.square(expected)))), 1e-6)
        ratio = float(np.sqrt(np.mean(error**2))) / scale
        if limit is not None and ratio > limit:
            raise ArtefactError(
                f"The converted file does not compute what Keras computes: rms error / std = {ratio:.3g} "
                f"of {name} on a random image; {limit:g} is allowed."
            )
        worst["rms_over_std"] = max(worst["rms_over_std"], ratio)
        worst["max_abs"] = max(worst["max_abs"], float(np.abs(error).max()))
    return worst


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
