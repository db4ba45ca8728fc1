"""``minigrad COMMAND ...``: finds the command and turns errors into one sentence."""

import argparse
import sys
from collections.abc import Sequence

from minigrad import kernels
from minigrad._version import __version__
from minigrad.cli import bench, check, doctor, train, warmup
from minigrad.core.errors import MinigradError

__all__ = ["main"]

_COMMANDS = (train, check, bench, warmup, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns
    -------
    int
        Exit status: 0 done; 1 a check failed; 2 the arguments or the data were wrong; 130 stopped
        by Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="minigrad",
        description="A from-scratch autodiff engine with residual layers, at the command line.",
        epilog="'minigrad COMMAND --help' explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command != "doctor":  # which tells of all that is wrong there
            kernels.check_environment()
        return options.run(options)
    except (MinigradError, kernels.SettingError) as error:
        text = str(error).removeprefix(f"{options.command}: ")  # said once
        print(f"minigrad {options.command}: {text}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(
            f"minigrad {options.command}: this machine has not the memory that was asked for "
            f"({error or 'no more was given'}). Pass smaller shapes or batches, or a smaller "
            f"network.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nminigrad {options.command}: stopped", file=sys.stderr)
        return 130
