"""CITATION.cff says what the Citation File Format 1.2 asks for, and the version that is released."""

from __future__ import annotations

from pathlib import Path

import yaml

import kseg

FILE = Path(__file__).resolve().parents[2] / "CITATION.cff"
REQUIRED = {"cff-version", "message", "title", "authors"}
# Of the schema at citation-file-format/citation-file-format, 1.2.0.
KNOWN = REQUIRED | {"type", "abstract", "version", "license", "keywords", "date-released", "doi", "url"}
KNOWN |= {"repository-code", "identifiers", "references", "preferred-citation", "contact", "commit"}


def test_citation_is_valid_and_of_this_version():
    held = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert set(held) >= REQUIRED
    assert set(held) <= KNOWN
    assert held["cff-version"] == "1.2.0"
    assert held["type"] == "software"
    assert held["title"] == "kseg"
    assert held["version"] == kseg.__version__
    assert held["license"] == "Apache-2.0"
    # A person has a family name, everybody else a name.
    assert held["authors"]
    assert all(set(author) & {"name", "family-names"} for author in held["authors"])
    assert len(set(held["keywords"])) == len(held["keywords"])
