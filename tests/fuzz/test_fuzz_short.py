"""A short, seeded part of the campaign: spoiled files are read or refused in one line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import targets_artefacts
import targets_commands
from cases import Place

# Cases per kind: building a network costs more than reading a record. What trains, or builds large
# networks, is left to the campaign.
FEW, MANY = 12, 60
DEAR = ("keras", "segment classifier")
LEFT_OUT = ("stages", "report", "rebuild")
FILES = [
    target
    for target in targets_artefacts.TARGETS
    if not target.kind.endswith("arguments") or target.kind == "UNet arguments"
]


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return targets_artefacts.make_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("target", FILES, ids=lambda target: target.kind)
def test_files(target: targets_artefacts.Target, seeds: dict[str, bytes], tmp_path: Path) -> None:
    count = 4 if target.kind.endswith("arguments") else FEW if target.kind in DEAR else MANY
    place = Place(tmp_path, seeds)
    results = [
        targets_artefacts.read(target, targets_artefacts.make(target, seeds, number), place)
        for number in range(count)
    ]
    assert "refused" in results


@pytest.mark.parametrize(
    "command",
    [command for command in targets_commands.COMMANDS if command.kind.split()[0] not in LEFT_OUT],
    ids=lambda command: command.kind,
)
def test_commands(
    command: targets_commands.Command,
    seeds: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    place = Place(tmp_path, seeds)
    results = [
        targets_commands.read(command, targets_commands.make(command, seeds, number), place)
        for number in range(FEW)
    ]
    assert "refused" in results
