"""The spec inside a `.tflite`: a zip appended to the flatbuffer, as TFLite's own metadata tools do.

Interpreters read the flatbuffer from the front and never see the zip; `unzip -p model.tflite kseg.json`
shows the spec to anyone. The zip also holds `labels.txt`, which mobile task libraries look for.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

from kseg.errors import ArtefactError
from kseg.files import write_bytes
from kseg.spec import Spec

MEMBER = "kseg.json"
LABELS = "labels.txt"
# A fixed date makes the same model the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_IDENTIFIER = b"TFL3"


def _split(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the flatbuffer and the members of the zip that follows it (empty where there is none)."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            start = min((entry.header_offset for entry in entries), default=len(content))
            return content[:start], {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return content, {}


def embed(path: Path, spec: Spec) -> None:
    """Write `spec` into the file, in the place of one that is there already."""
    model, members = _split(path.read_bytes())
    record = {"spec": spec.to_dict(), "sha256": hashlib.sha256(model).hexdigest()}
    members[MEMBER] = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    members[LABELS] = ("\n".join(spec.classes) + "\n").encode()
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    write_bytes(path, whole.getvalue())


def read_model(path: Path) -> tuple[bytes, Spec]:
    """Return the flatbuffer and the spec.

    Raises:
        ArtefactError: if the file is no TFLite file, carries no kseg spec, or is damaged.
    """
    content = path.read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ArtefactError(
            f"'{path}' is not a TFLite file: it lacks the mark TFL3 at byte 4. "
            "Export one with `kseg export --to tflite`"
        )
    model, members = _split(content)
    if MEMBER not in members:
        raise ArtefactError(
            f"'{path}' carries no kseg spec ({MEMBER}): it was cut short, or was not written by kseg. "
            "Export it again with `kseg export`."
        )
    try:
        record = json.loads(members[MEMBER])
        digest, spec = record["sha256"], Spec.from_dict(record["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"'{path}' holds a {MEMBER} that kseg cannot read: {error}") from error
    if hashlib.sha256(model).hexdigest() != digest:
        raise ArtefactError(
            f"'{path}' is damaged: its bytes are not those that were exported. Copy it again."
        )
    return model, spec


def read_spec(path: Path) -> Spec:
    """Return the spec inside the file. See `read_model` for errors."""
    return read_model(path)[1]
