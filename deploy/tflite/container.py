"""The spec inside a `.tflite`: a zip appended to the flatbuffer, as TFLite's own metadata tools do.

Interpreters read the flatbuffer from the front and never see the zip; `unzip -p model.tflite kseg.json`
shows the spec to anyone. The zip also holds `labels.txt`, which mobile task libraries look for.

LiteRT trusts a flatbuffer: a damaged one may end the process. So no file reaches it whose bytes differ from
the digest beside the spec, and none that has no digest. The digest finds damage; it is no signature, and
whoever means harm can compute it: run files of people you trust.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from kseg import archives, records
from kseg.errors import ArtefactError
from kseg.files import write_bytes
from kseg.spec import Spec
from kseg.text import printable

MEMBER = "kseg.json"
LABELS = "labels.txt"
# A fixed date makes the same model the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_IDENTIFIER = b"TFL3"
_MOST_METADATA = 16 * 2**20
_ZIP_END = b"PK\5\6"
_LONGEST_END = 22 + 2**16


class _Record(records.Record, frozen=True):
    """The member `kseg.json`."""

    spec: dict[str, Any]
    sha256: records.Text


def _split(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the flatbuffer and the members of the zip that follows it (empty where there is none)."""
    content = path.read_bytes()
    where = f"'{printable(path)}'"
    if _ZIP_END not in content[-_LONGEST_END:]:
        return content, {}
    with archives.open_archive(content, where=where, alien="is damaged: its metadata do not read") as archive:
        start = archive.first_offset
        members = {name: archive.read(name, _MOST_METADATA) for name in archive.names}
        return content[:start], members


def embed(path: Path, spec: Spec) -> None:
    """Write `spec` into the file, in the place of one that is there already."""
    model, members = _split(path)
    record = {"spec": spec.to_dict(), "sha256": hashlib.sha256(model).hexdigest()}
    members[MEMBER] = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    # One line per class, whatever its name holds.
    members[LABELS] = ("\n".join(map(printable, spec.classes)) + "\n").encode()
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
    model, members = _split(path)
    where = f"'{printable(path)}'"
    if model[4:8] != _IDENTIFIER:
        raise ArtefactError(
            f"{where} is not a TFLite file: it lacks the mark TFL3 at byte 4. "
            "Export one with `kseg export --to tflite`"
        )
    if MEMBER not in members:
        raise ArtefactError(
            f"{where} carries no kseg spec ({MEMBER}): it was cut short, or was not written by kseg. "
            "Export it again with `kseg export`."
        )
    inside = f"{where}, member {MEMBER}"
    record = records.parse(members[MEMBER], _Record, where=inside, error=ArtefactError)
    spec = Spec.from_dict(record.spec, where=inside)
    if hashlib.sha256(model).hexdigest() != record.sha256:
        raise ArtefactError(f"{where} is damaged: its bytes are not those that were exported. Copy it again.")
    return model, spec


def read_spec(path: Path) -> Spec:
    """Return the spec inside the file. See `read_model` for errors."""
    return read_model(path)[1]
