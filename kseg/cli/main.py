"""Entry point: find the command, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import kseg
from kseg import tasks
from kseg.cli import completion, quiet_import
from kseg.errors import KsegError, did_you_mean, explained_imports
from kseg.interrupts import Interrupted
from kseg.machine.backend import grow_memory

_FIRST = ("quickstart", "models", "convert-data", "check-data", "class-weights", "find-lr", "train")
_THEN = (
    "rebuild", "evaluate", "predict", "export", "verify", "benchmark", "inspect", "doctor", "report",
    "completion",
)  # fmt: skip


def _modules(names: Sequence[str]) -> dict[str, str]:
    return {name: f"kseg.cli.{name.replace('-', '_')}" for name in names}


def commands() -> dict[str, str]:
    """Return each command -> the module that holds its HELP, EXAMPLE, add_arguments and run."""
    return {**_modules(_FIRST), **tasks.commands(), **_modules(_THEN)}


INTERRUPTED = 130
# sysexits.h: EX_SOFTWARE. A bug, not the user's mistake and not a failed gate.
INTERNAL = 70
_MOST_LETTERS = 300


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line that names the help."""

    def error(self, message: str) -> NoReturn:
        from kseg.output import error_line

        error_line(f"{message}. See: {self.prog} --help")
        raise SystemExit(2)


def _load(command: str) -> ModuleType:
    return importlib.import_module(commands()[command])


def _overview() -> str:
    every = commands()
    width = max(map(len, every)) + 2
    lines = [f"  {name:<{width}}{_load(name).HELP}" for name in every]
    return "\n".join(
        [
            "usage: kseg COMMAND [arguments] [--debug]",
            "",
            "Train segmentation networks in Keras 3, convert them for devices, prove and measure the result.",
            "",
            *lines,
            "",
            "kseg COMMAND --help shows a command's arguments with an example; kseg --version.",
            "Exit codes: 0 good, 1 a failed gate, 2 a usage or data error, 70 a bug, 130 interrupted.",
        ]
    )


def _parse(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    module = _load(command)
    parser = _Parser(
        prog=f"kseg {command}",
        description=module.HELP,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_command_arguments(command, parser)
    return parser.parse_args(arguments)


def add_command_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """Add a command's own arguments, and those that every command has."""
    _load(command).add_arguments(parser)
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback and library logs of an error"
    )


def _explain_os_error(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"no space left on device while writing{where}; no half file was left. Free some, run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{where}: choose a folder that you may write to, or change its permissions"
    return f"{error.strerror or error}{where}"


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the line that the user reads about `error`, and the exit code."""
    if isinstance(error, Interrupted):
        return str(error), INTERRUPTED
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; files already finished are whole, nothing was half-written", INTERRUPTED
    if isinstance(error, KsegError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return _explain_os_error(error), 2
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return "out of memory. Lower --batch-size or --size, or close other programs", 2
    words = " ".join(str(error).split())
    words = words if len(words) <= _MOST_LETTERS else f"{words[:_MOST_LETTERS]} …"
    return f"internal error: {name}: {words}. Run again with --debug for the traceback", INTERNAL


def _run(command: str, arguments: Sequence[str]) -> int:
    """Parse and run a command; whatever goes wrong leaves as an exception."""
    args = _parse(command, arguments)
    if not args.debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        quiet_import.install()
    grow_memory()
    with explained_imports():
        return int(_load(command).run(args))


def _dispatch(arguments: Sequence[str]) -> int:
    from kseg.output import error_line

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"kseg {kseg.__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in commands():
        hint = did_you_mean(command, list(commands()))
        error_line(f"unknown command '{command}'.{hint} See: kseg --help")
        return 2
    return _run(command, rest)


def _leave_stdout() -> None:
    """Send what is left of stdout nowhere, so that Python does not complain while it exits."""
    with contextlib.suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kseg ARGV...` and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and completion.is_asked():
        completion.answer()
    try:
        try:
            return _dispatch(arguments)
        finally:
            # What is still in the buffer may meet a closed pipe or a full disk: here, not at exit.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) closed early: no error of ours.
        _leave_stdout()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        from kseg.output import error_line

        if "--debug" in arguments:
            traceback.print_exc()
        text, code = _explain(error)
        error_line(text)
        try:
            sys.stdout.flush()
        except OSError:
            _leave_stdout()
        return code


if __name__ == "__main__":
    sys.exit(main())
