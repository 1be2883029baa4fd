"""deploy: put a trained kseg model on a device, and prove that it still works there.

    deploy.export("model.keras", "model_int8.tflite", precision="int8", calibration="DATA", verify="DATA")
    deploy.verify("model_int8.tflite", reference="model.keras", data="DATA")
    deploy.benchmark(["model.keras", "model_int8.tflite"], data="DATA")

Importing deploy, loading an artefact and running it import neither TensorFlow nor Keras: each name
below is loaded on first use, so that a board with numpy and one runtime will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kseg.lazy import lazy

# No name here may equal a submodule's: importing the submodule would put the module in the name's place.
_NAMES = {
    "FORMATS": "deploy.formats",
    "NoDeviceError": "deploy.formats",
    "export": "deploy.exporting",
    "VerificationFailed": "deploy.exporting",
    "load": "deploy.metadata",
    "read_spec": "deploy.metadata",
    "embed": "deploy.metadata",
    "verify": "deploy.verification",
    "Verification": "deploy.verification",
    "benchmark": "deploy.benchmarking",
    "report": "deploy.reporting",
}

if TYPE_CHECKING:
    from deploy.benchmarking import benchmark
    from deploy.exporting import VerificationFailed, export
    from deploy.formats import FORMATS, NoDeviceError
    from deploy.metadata import embed, load, read_spec
    from deploy.reporting import report
    from deploy.verification import Verification, verify

__all__ = [
    "FORMATS",
    "NoDeviceError",
    "Verification",
    "VerificationFailed",
    "benchmark",
    "embed",
    "export",
    "load",
    "read_spec",
    "report",
    "verify",
]

# Names load on first use.
__getattr__, __dir__ = lazy(__name__, _NAMES)
