"""`kseg completion`: completion in the shell, by argcomplete; nothing here imports Keras or TensorFlow."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HELP = "print what makes your shell complete kseg's commands, options and names"
EXAMPLE = "kseg completion bash"

SHELLS = ("bash", "zsh", "fish")
# What each shell's start file needs.
LINES = {
    "bash": "echo 'eval \"$(kseg completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(kseg completion zsh)\"' >> ~/.zshrc",
    "fish": "kseg completion fish > ~/.config/fish/completions/kseg.fish",
}
# argcomplete's mark that the shell asks, not the user.
ASKED = "_ARGCOMPLETE"

# The registries of these import Keras, which takes seconds; a test keeps the lists equal.
ENCODERS = (
    "vgg16",
    "alexnet",
    "resnet18",
    "resnet50",
    "resnet101",
    "resnet152",
    "mobilenetv3",
    "mobilenetv3small",
    *(f"efficientnetv2{variant}" for variant in ("b0", "b1", "b2", "b3", "s", "m", "l")),
    *(f"efficientnetlite{number}" for number in (0, 1, 2)),
)
# The room of the networks; other modules of kseg.models have capital names, too.
_NETWORKS = ("kseg.models.semantic.", "kseg.models.instance.")
# As kseg.data.sources.embedded has it, which imports OpenCV.
_SAMPLES = Path(__file__).parent.parent / "data" / "samples"
LOSSES = ("cross_entropy", "dice", "focal", "jaccard", "lovasz", "ohem", "tversky")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that you use")


def run(args: argparse.Namespace) -> int:
    """Print the shell's code to stdout; returns the exit code."""
    import argcomplete

    from kseg.output import closing_line

    print(argcomplete.shellcode(["kseg"], shell=args.shell))
    closing_line(LINES[args.shell])
    return 0


def answer() -> None:
    """Answer the shell, which asks through argcomplete's environment variables; ends the process."""
    import argcomplete

    argcomplete.autocomplete(_parser(_typed()), always_complete_options="long")


def _typed() -> list[str]:
    """Return the words before the cursor; the last may be a beginning."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 0) or None]
    try:
        return shlex.split(line)
    except ValueError:  # an open quote
        return line.split()


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """Return a parser of all commands; only the one that was typed has its arguments."""
    from kseg.cli.main import add_command_arguments, commands

    parser = argparse.ArgumentParser(prog="kseg")
    parser.add_argument("--version", action="store_true")
    chosen_by = parser.add_subparsers()
    for name in commands():
        chosen = chosen_by.add_parser(name)
        if name in words[1:2]:
            add_command_arguments(name, chosen)
            for action in chosen._actions:
                _attach(name, action)
    return parser


def _attach(command: str, action: argparse.Action) -> None:
    """Tell argcomplete what fits an argument that has no `choices`."""
    if action.choices is not None or hasattr(action, "completer"):
        return
    option = action.option_strings[-1] if action.option_strings else action.dest
    completer = _BY_COMMAND.get((command, option)) or _BY_OPTION.get(option)
    if completer is not None:
        action.completer = completer  # type: ignore[attr-defined]


def models(**asked: Any) -> list[str]:
    """Return the names of the networks: what `kseg/models/__init__.py` imports, read without running it.

    Running it would import Keras. A new network has its import line there (docs/add-a-model.md).
    """
    source = (Path(__file__).parent.parent / "models" / "__init__.py").read_text(encoding="utf-8")
    lines = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    names = [name.name for line in lines if str(line.module).startswith(_NETWORKS) for name in line.names]
    return sorted(name.lower() for name in names)


def formats(**asked: Any) -> list[str]:
    """Return the export formats."""
    from deploy.formats import FORMATS

    return list(FORMATS)


def precisions(*, parsed_args: argparse.Namespace | None = None, **asked: Any) -> tuple[str, ...]:
    """Return the precisions of the format that was typed, or all."""
    from deploy.formats import FORMATS, PRECISIONS

    row = FORMATS.get(getattr(parsed_args, "to", None) or "")
    return row.precisions if row else PRECISIONS


def splits(*, parsed_args: argparse.Namespace | None = None, **asked: Any) -> list[str]:
    """Return the splits of the data that was typed, as far as its folders name them."""
    data = str(getattr(parsed_args, "data", None) or "")
    sample = data.startswith("sample:")
    images = (_SAMPLES / data.removeprefix("sample:") if sample else Path(data).expanduser()) / "images"
    found = sorted(path.name for path in images.iterdir() if path.is_dir()) if images.is_dir() else []
    return found or ["train", "val", "test"]


def sources(*, prefix: str = "", **asked: Any) -> list[str]:
    """Return the embedded samples, and folders."""
    from argcomplete.completers import DirectoriesCompleter

    named = [f"sample:{path.name}" for path in _SAMPLES.iterdir() if path.is_dir()]
    return [*(name for name in named if name.startswith(prefix)), *DirectoriesCompleter()(prefix)]


def _fixed(values: Iterable[str]) -> Callable[..., list[str]]:
    listed = list(values)
    return lambda **asked: listed


_BY_OPTION: dict[str, Callable[..., Iterable[str]]] = {
    "--model": models,
    "--encoder": _fixed(ENCODERS),
    "--loss": _fixed(LOSSES),
    "--to": formats,
    "--precision": precisions,
    "--dynamic": _fixed(["batch"]),
    "--data": sources,
    "--split": splits,
    "--train-split": splits,
    "--val-split": splits,
    "--weights": _fixed(["imagenet"]),
}
_BY_COMMAND: dict[tuple[str, str], Callable[..., Iterable[str]]] = {
    ("models", "name"): models,
    ("check-data", "data"): sources,
    ("class-weights", "data"): sources,
}


def is_asked() -> bool:
    """Tell whether the shell asks for completions."""
    return ASKED in os.environ and "COMP_LINE" in os.environ and sys.stdout is not None
