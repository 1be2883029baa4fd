"""The spec inside an `.onnx`: two entries of `metadata_props`, which every ONNX tool shows and keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from deploy.onnx import wire
from kseg.errors import ArtefactError, require
from kseg.files import write_bytes
from kseg.spec import Spec
from kseg.text import printable

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


def read_model(path: Path) -> tuple[bytes, Spec]:
    """Return the file's bytes and its spec, after checking that it is whole and needs no other file.

    Nothing of ONNX is needed for it: a damaged or foreign file does not reach a library.

    Raises:
        ArtefactError: if there is no kseg spec in it, the bytes are not those that were exported, or tensors
            lie in other files.
    """
    content = path.read_bytes()
    where = f"'{printable(path)}'"
    try:
        properties = wire.metadata(content)
        external = wire.has_external_data(content)
    except wire.WireError as error:
        raise ArtefactError(
            f"{where} is not a whole ONNX file (truncated, or renamed): {error}. Copy or export it again"
        ) from error
    if SPEC_KEY not in properties or DIGEST_KEY not in properties:
        raise ArtefactError(
            f"{where} carries no kseg spec (metadata_props '{SPEC_KEY}'): it was not written by kseg. "
            "Export it again with `kseg export`."
        )
    digest = properties[DIGEST_KEY]
    sealed = content.replace(digest.encode(), _PLACEHOLDER.encode(), 1)
    if len(digest) != len(_PLACEHOLDER) or hashlib.sha256(sealed).hexdigest() != digest:
        raise ArtefactError(f"{where} is damaged: its bytes are not those that were exported. Copy it again.")
    if external:
        raise ArtefactError(
            f"{where} is refused: it keeps weights in another file (ONNX external data), which kseg never "
            "writes"
        )
    return content, Spec.from_json(properties[SPEC_KEY], where=f"{where}, metadata '{SPEC_KEY}'")


def open_session(path: Path, options: Any = None) -> tuple[Any, Spec]:
    """Return an ONNX Runtime session (CPU) and the spec. See `read_model` for errors."""
    runtime = require("onnxruntime", "onnxruntime")
    runtime.set_default_logger_severity(4)
    content, spec = read_model(path)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime raises a family of its own exceptions, which share no public base class.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtefactError(
            f"ONNX Runtime {runtime.__version__} cannot run '{printable(path)}': {printable(reason, 300)}"
        ) from error
    return session, spec


def read_spec(path: Path) -> Spec:
    """Return the spec inside the file; needs no library. See `read_model` for errors."""
    return read_model(path)[1]
