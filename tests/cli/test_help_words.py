"""What help texts say: plain statements; how well a figure is known stands in docs/provenance.md."""

from __future__ import annotations

import inspect
import re

import pytest

import kseg
from kseg.cli import main as cli
from kseg.models import describe, names

DOUBT = re.compile(r"from\s+memory|remember(ed)?\b|not (at hand|certain)", re.IGNORECASE)


@pytest.mark.parametrize("command", cli.commands())
def test_help_states_figures_plainly(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert not DOUBT.search(capsys.readouterr().out)


@pytest.mark.parametrize("name", names())
def test_networks_state_figures_plainly(name):
    assert not DOUBT.search(inspect.getdoc(describe(name).build) or "")


@pytest.mark.parametrize("name", [n for n in kseg.layers.__all__ if n[0].isupper()])
def test_layers_state_figures_plainly(name):
    assert not DOUBT.search(inspect.getdoc(getattr(kseg.layers, name)) or "")
