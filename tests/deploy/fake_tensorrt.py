"""A TensorRT made from a recorded Python surface: it has the classes and members of that version, no others.

Code that touches a name which the recorded version lacks gets an AttributeError, as it would there.
The engine it "builds" doubles its input; device memory is host memory.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np

CONTRACTS = Path(__file__).parent / "contracts"
VERSIONS = tuple(sorted(path.stem for path in CONTRACTS.glob("*.json")))
PLAN = b"a serialised engine"


def _strict_class(name: str, members: list[str]) -> type:
    def refuse(self: Any, key: str, value: Any) -> None:
        # A subclass in Python may hold attributes of its own; a bound C++ object may not.
        if type(self).__name__ == name and key not in members and not key.startswith("_fake"):
            raise AttributeError(f"{name} has no attribute '{key}' in this version")
        object.__setattr__(self, key, value)

    body: dict[str, Any] = {member: MagicMock(name=f"{name}.{member}") for member in members}
    body["__setattr__"] = refuse
    return type(name, (), body)


def _behave(trt: ModuleType, shape: tuple[int, ...], channels: int) -> None:
    """Give the strict classes just enough behaviour to build and run an engine."""
    tensor = trt.ITensor()
    tensor.shape = shape
    object.__setattr__(tensor, "name", "image")
    trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 1
    trt.ILogger.WARNING = 2
    trt.INetworkDefinition.num_inputs = 1
    trt.INetworkDefinition.get_input = lambda self, index: tensor
    trt.Builder.__init__ = lambda self, logger: None
    trt.Builder.create_network = MagicMock(side_effect=lambda flags: trt.INetworkDefinition())
    trt.Builder.create_builder_config = lambda self: trt.IBuilderConfig()
    trt.Builder.create_optimization_profile = lambda self: trt.IOptimizationProfile()
    trt.Builder.build_serialized_network = lambda self, network, config: PLAN
    trt.OnnxParser.__init__ = lambda self, network, logger: None
    trt.OnnxParser.parse = lambda self, graph: True
    trt.Runtime.__init__ = lambda self, logger: None
    trt.Runtime.deserialize_cuda_engine = lambda self, plan: trt.ICudaEngine() if plan == PLAN else None
    trt.ICudaEngine.create_execution_context = lambda self: trt.IExecutionContext()
    trt.ICudaEngine.get_tensor_shape = lambda self, name: shape if name == "image" else (*shape[:3], channels)
    trt.ICudaEngine.get_tensor_profile_shape = lambda self, name, index: [
        (1, *shape[1:]),
        (4, *shape[1:]),
        (8, *shape[1:]),
    ]
    context = trt.IExecutionContext

    def set_shape(self: Any, name: str, value: tuple[int, ...]) -> bool:
        self._fake_shape = tuple(value)
        return True

    def set_address(self: Any, name: str, address: int) -> bool:
        object.__setattr__(self, f"_fake_{name}", address)
        return True

    def execute(self: Any, stream: int) -> bool:
        size = int(np.prod(self._fake_shape))
        source = (ctypes.c_float * size).from_address(self._fake_image)
        target = (ctypes.c_float * size).from_address(self._fake_logits)
        np.frombuffer(target, np.float32)[:] = 2 * np.frombuffer(source, np.float32)
        return True

    context.set_input_shape, context.set_tensor_address, context.execute_async_v3 = (
        set_shape,
        set_address,
        execute,
    )


def fake_tensorrt(version: str, *, shape: tuple[int, ...] = (-1, 4, 6, 3), channels: int = 3) -> ModuleType:
    """Return a module with the surface recorded in `contracts/VERSION.json`."""
    contract = json.loads((CONTRACTS / f"{version}.json").read_text())
    trt = ModuleType("tensorrt_rtx" if "rtx" in version else "tensorrt")
    trt.__version__ = contract["version"]  # type: ignore[attr-defined]
    for name in contract["module"]:
        if name in contract["classes"]:
            setattr(trt, name, _strict_class(name, contract["classes"][name]))
    _behave(trt, shape, channels)
    return trt


def fake_cuda(name: str = "NVIDIA Fake") -> SimpleNamespace:
    """Return CUDA runtime bindings over host memory, with one device called `name`."""
    held: dict[int, Any] = {}
    good = 0

    def malloc(size: int) -> tuple[int, int]:
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        held[address] = memory
        return good, address

    def free(address: int) -> tuple[int]:
        del held[address]
        return (good,)

    def copy(target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        ctypes.memmove(target, source, size)
        return (good,)

    return SimpleNamespace(
        cudaGetDeviceCount=lambda: (good, 1),
        cudaGetDeviceProperties=lambda index: (good, SimpleNamespace(name=name.encode(), major=8, minor=9)),
        cudaMalloc=malloc,
        cudaFree=free,
        cudaMemcpyAsync=copy,
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        cudaStreamCreate=lambda: (good, 7),
        cudaStreamSynchronize=lambda stream: (good,),
        cudaStreamDestroy=lambda stream: (good,),
        held=held,
    )
