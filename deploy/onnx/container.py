"""The spec inside an `.onnx`: two entries of `metadata_props`, which every ONNX tool shows and keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from kseg.errors import ArtefactError, require
from kseg.files import write_bytes
from kseg.spec import Spec

SPEC_KEY = "kseg"
DIGEST_KEY = "kseg.sha256"
# Stands where the digest will stand while the digest is computed, so that a file can carry its own.
_PLACEHOLDER = "kseg-digest-computed-with-this-text-in-its-place----------------"


def embed(path: Path, spec: Spec) -> None:
    """Write `spec` into the file, in the place of one that is there already."""
    onnx = require("onnx", "onnx")
    model = onnx.load(str(path), load_external_data=False)
    kept = [prop for prop in model.metadata_props if prop.key not in (SPEC_KEY, DIGEST_KEY)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in ((SPEC_KEY, spec.to_json()), (DIGEST_KEY, _PLACEHOLDER)):
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    write_bytes(path, content.replace(_PLACEHOLDER.encode(), digest.encode(), 1))


def from_properties(path: Path, properties: dict[str, str], content: bytes) -> Spec:
    """Return the spec of a file whose metadata and bytes were already read.

    Raises:
        ArtefactError: if there is no kseg spec in it, or the bytes are not those that were exported.
    """
    if SPEC_KEY not in properties or DIGEST_KEY not in properties:
        raise ArtefactError(
            f"'{path}' carries no kseg spec (metadata_props '{SPEC_KEY}'): it was not written by kseg. "
            "Export it again with `kseg export`."
        )
    digest = properties[DIGEST_KEY]
    sealed = content.replace(digest.encode(), _PLACEHOLDER.encode(), 1)
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise ArtefactError(
            f"'{path}' is damaged: its bytes are not those that were exported. Copy it again."
        )
    return Spec.from_json(properties[SPEC_KEY])


def open_session(path: Path, options: Any = None) -> tuple[Any, Spec]:
    """Return an ONNX Runtime session (CPU) and the spec."""
    runtime = require("onnxruntime", "onnxruntime")
    runtime.set_default_logger_severity(4)
    content = path.read_bytes()
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime raises a family of its own exceptions, which share no public base class.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtefactError(
            f"'{path}' is not a whole ONNX file (truncated, or renamed). Copy or export it again. "
            f"ONNX Runtime says: {reason}"
        ) from error
    properties = dict(session.get_modelmeta().custom_metadata_map)
    return session, from_properties(path, properties, content)


def read_spec(path: Path) -> Spec:
    """Return the spec inside the file. See `from_properties` for errors."""
    return open_session(path)[1]
