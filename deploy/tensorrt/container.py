"""The `.engine` file: magic, length-prefixed JSON header (spec, builder), then the engine itself.

A bare TensorRT plan says nothing about classes, sizes or the machine it was built for. The header does, and
can be read without TensorRT and without a GPU.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from deploy.tensorrt.library import describe
from kseg import records
from kseg.errors import ArtefactError
from kseg.files import write_bytes
from kseg.spec import Spec
from kseg.text import printable

MAGIC = b"KSEGENG1"
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 16 * 2**20


class Build(records.Record, frozen=True):
    """What built an engine. `module` is imported by the runtime, so it is one of two."""

    module: Literal["tensorrt", "tensorrt_rtx"]
    version: records.Text
    gpu: records.Text | None = None
    targets: Any = None


class _Header(records.Record, frozen=True):
    """The JSON in front of the engine."""

    build: Build
    plan_bytes: records.Count
    plan_sha256: records.Text
    spec: dict[str, Any] | None = None


def write(path: Path, plan: bytes, *, build: Mapping[str, Any], spec: Spec | None = None) -> None:
    """Write an engine file.

    Args:
        path: target.
        plan: the serialised engine.
        build: what built it (`module`, `version`, `targets`, `gpu`; in words: `library`, `runs_on`, `needs`).
        spec: the spec; None while it is not known yet (`embed` adds it).
    """
    header = {
        "build": dict(build),
        "plan_bytes": len(plan),
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "spec": None if spec is None else spec.to_dict(),
    }
    text = json.dumps(header).encode()
    write_bytes(path, MAGIC + _LENGTH.pack(len(text)) + text + plan)


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header and the plan, after checking that the file is whole.

    Raises:
        ArtefactError: if it is not an engine file of kseg, or is truncated or damaged.
    """
    content = path.read_bytes()
    start = len(MAGIC) + _LENGTH.size
    if content[: len(MAGIC)] != MAGIC:
        raise ArtefactError(
            f"'{printable(path)}' is not an engine that kseg wrote: it lacks the header '{MAGIC.decode()}'. "
            "A bare TensorRT plan carries no class names; export it with `kseg export --to tensorrt`."
        )
    length = _LENGTH.unpack_from(content.ljust(start, b"\0"), len(MAGIC))[0]
    if length > _MAX_HEADER or len(content) < start + length:
        raise ArtefactError(
            f"'{printable(path)}' is truncated or damaged: its header is not whole. Copy it again."
        )
    where = f"'{printable(path)}', header"
    header = records.parse(content[start : start + length], dict[str, Any], where=where, error=ArtefactError)
    checked = records.convert(header, _Header, where=where)
    plan = content[start + length :]
    if len(plan) != checked.plan_bytes:
        raise ArtefactError(
            f"'{printable(path)}' is truncated: the header promises {checked.plan_bytes:,} bytes of "
            f"engine, {len(plan):,} are there. Copy it again."
        )
    if hashlib.sha256(plan).hexdigest() != checked.plan_sha256:
        raise ArtefactError(
            f"'{printable(path)}' is damaged: its bytes are not those that were exported. Copy it again."
        )
    return header, plan


def embed(path: Path, spec: Spec) -> None:
    """Write `spec` into the header, in the place of one that is there already."""
    header, plan = read(path)
    write(path, plan, build=header["build"], spec=spec)


def read_spec(path: Path) -> Spec:
    """Return the spec in the header; its export record says who built the engine, for which GPUs."""
    header, _ = read(path)
    if header.get("spec") is None:
        raise ArtefactError(
            f"'{printable(path)}' carries no spec: its export did not finish. Export it again."
        )
    spec = Spec.from_dict(header["spec"], where=f"'{printable(path)}', header")
    if spec.export and "engine" not in spec.export:
        # Written by a kseg that kept this in the header alone.
        return spec.replace(export={**spec.export, "engine": describe(header["build"])})
    return spec
