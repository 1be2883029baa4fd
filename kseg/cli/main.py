"""Entry point: find the command, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import kseg
from kseg.cli import quiet_import
from kseg.errors import KsegError, did_you_mean

# Command -> the module that holds its HELP, EXAMPLE, add_arguments and run.
COMMANDS = {
    "quickstart": "quickstart",
    "models": "models",
    "check-data": "check_data",
    "class-weights": "class_weights",
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "export",
    "verify": "verify",
    "benchmark": "benchmark",
    "inspect": "inspect",
    "report": "report",
}
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line that names the help."""

    def error(self, message: str) -> NoReturn:
        from kseg.cli.output import error_line

        error_line(f"{message}. See: {self.prog} --help")
        raise SystemExit(2)


def _load(command: str) -> ModuleType:
    return importlib.import_module(f"kseg.cli.{COMMANDS[command]}")


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{_load(name).HELP}" for name in COMMANDS]
    return "\n".join(
        [
            "usage: kseg COMMAND [arguments] [--debug]",
            "",
            "Train segmentation networks in Keras 3, convert them for devices, prove and measure the result.",
            "",
            *lines,
            "",
            "kseg COMMAND --help shows a command's arguments with an example; kseg --version.",
            "Exit codes: 0 good, 1 a failed gate, 2 a usage or data error, 130 interrupted.",
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
    module.add_arguments(parser)
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback and library logs of an error"
    )
    return parser.parse_args(arguments)


def _explain_os_error(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"no space left on device while writing{where}; no half file was left. Free some, run again"
    return f"{error.strerror or error}{where}"


def _run(command: str, arguments: Sequence[str]) -> int:
    from kseg.cli.output import error_line

    args = _parse(command, arguments)
    if not args.debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        quiet_import.install()
    try:
        return int(_load(command).run(args))
    except KeyboardInterrupt:
        error_line("interrupted; files already finished are whole, nothing was half-written")
        return INTERRUPTED
    except KsegError as error:
        if args.debug:
            raise
        error_line(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        if args.debug:
            raise
        error_line(_explain_os_error(error))
        return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kseg ARGV...` and return the exit code."""
    from kseg.cli.output import error_line

    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"kseg {kseg.__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        hint = did_you_mean(command, list(COMMANDS))
        error_line(f"unknown command '{command}'.{hint} See: kseg --help")
        return 2
    try:
        return _run(command, rest)
    except BrokenPipeError:
        # The reader (head, less) closed early: no error of ours. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
