"""Find a TensorRT and paper over what differs between 10, 11 and RTX.

Engines are built from strongly typed networks only: the precision is that of the ONNX graph. Weak
typing (`BuilderFlag.FP16`, calibrators, ...) is gone from TensorRT 11 and from TensorRT-RTX.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kseg.errors import ArtefactError, MissingExtraError, UsageError

MODULES = ("tensorrt", "tensorrt_rtx")
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
# Built without targets. Source: TensorRT-RTX' documentation, "CPU-Only AOT" and its support matrices.
RTX_GPUS = "NVIDIA RTX GPUs of compute capability 8.0, 8.6, 8.9 and 12.x; not Turing (7.5), not Hopper (9.0)"
_WARNING_KEPT = 20


def library(name: str | None = None) -> Any:
    """Import TensorRT.

    Args:
        name: `"tensorrt"` or `"tensorrt_rtx"`; None: the first of them that is installed.

    Raises:
        MissingExtraError: if none is installed, or not the one asked for.
    """
    for module in MODULES if name is None else (name,):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    wanted = name or "tensorrt or tensorrt_rtx"
    extra = EXTRAS[name or "tensorrt_rtx"]
    raise MissingExtraError(f'`{wanted}` is not installed. Run: pip install "kseg[{extra}]"')


def describe(build: Mapping[str, Any]) -> dict[str, str]:
    """Say in words what an engine's header says: who made it, where it runs, what must be installed there.

    Args:
        build: `module`, `version`, `gpu` and `targets` of the header.
    """
    module, version = build["module"], build["version"]
    targets, gpu = build.get("targets"), build.get("gpu")
    if module == "tensorrt":
        runs_on = f"{gpu or 'no GPU'} only: the GPU it was built on"
    else:
        runs_on = f"GPUs of {', '.join(targets)}" if isinstance(targets, list) else RTX_GPUS
    return {
        "library": TITLES.get(module, module),
        "version": str(version),
        "runs_on": runs_on,
        "needs": f'pip install "kseg[{EXTRAS.get(module, module)}]" "{module}=={version}"',
    }


def make_logger(trt: Any) -> Any:
    """Return a logger that keeps warnings and errors in `.messages` instead of printing them.

    TensorRT reports the reason of a failure to its logger only: building and loading return None.
    """

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= int(trt.ILogger.WARNING) and len(self.messages) < _WARNING_KEPT:
                self.messages.append(text.strip())

    return Collector()


def _check_targets(trt: Any, targets: Sequence[str]) -> None:
    if not hasattr(trt, "ComputeCapability"):
        raise UsageError(
            "`targets` names GPU generations that only TensorRT-RTX builds for; full TensorRT builds for "
            f"the GPU of this machine. Received: targets={list(targets)}"
        )
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    unknown = [name for name in targets if name not in known]
    if unknown:
        raise UsageError(f"Unknown compute capability {unknown}. This TensorRT-RTX knows: {', '.join(known)}")


def _parse(trt: Any, network: Any, logger: Any, graph: bytes) -> Any:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ArtefactError(f"TensorRT {trt.__version__} cannot read the ONNX graph: {'; '.join(reasons)}")
    return parser


def _add_batch_profile(builder: Any, network: Any, config: Any, batches: tuple[int, int, int]) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if not any(-1 in tuple(entry.shape) for entry in inputs):
        return
    profile = builder.create_optimization_profile()
    for entry in inputs:
        rest = tuple(entry.shape)[1:]
        profile.set_shape(entry.name, *((batch, *rest) for batch in batches))
    config.add_optimization_profile(profile)


def build(
    trt: Any, graph: bytes, *, targets: Sequence[str] = (), batches: tuple[int, int, int] = (1, 4, 8)
) -> bytes:
    """Build an engine from an ONNX graph.

    Args:
        trt: the module that `library` gave.
        graph: bytes of the ONNX model; its precision is the engine's.
        targets: compute capabilities such as `"SM89"` (RTX only); empty: all that it supports.
        batches: smallest, usual and largest batch, for a graph whose batch axis is open.

    Returns:
        The serialised engine ("plan").

    Raises:
        ArtefactError: if the graph does not parse or does not build, with TensorRT's own reasons.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 10 needs the flag; 11 and RTX accept it and are strongly typed anyway.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = _parse(trt, network, logger, graph)
    config = builder.create_builder_config()
    if targets:
        _check_targets(trt, targets)
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    _add_batch_profile(builder, network, config, batches)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    plan = builder.build_serialized_network(network, config)
    del parser  # it owns the weights that the network points to, so it lives until here
    if plan is None:
        reasons = "; ".join(logger.messages) or "no reason given"
        raise ArtefactError(f"TensorRT {trt.__version__} could not build the engine: {reasons}")
    return bytes(plan)


def deserialize(trt: Any, plan: bytes, path: Path) -> tuple[Any, Any]:
    """Return `(runtime, engine)` of a plan; the runtime must outlive the engine.

    Raises:
        ArtefactError: with TensorRT's own reasons.
    """
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        reasons = "; ".join(logger.messages) or "no reason given"
        raise ArtefactError(
            f"TensorRT {trt.__version__} cannot load '{path}': {reasons}. Rebuild it on this machine from "
            "the graph beside it: kseg export ... --to tensorrt"
        )
    return runtime, engine
