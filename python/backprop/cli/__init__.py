"""The command line: train a network on a table, predict with it, look into it.

Exit status: 0; 2 with one line on stderr for whatever is wrong with the arguments or the files; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from backprop.cli import arguments
from backprop.cli.commands import info as _info
from backprop.cli.commands import predict as _predict
from backprop.cli.commands import report as _report
from backprop.cli.commands import train as _train
from backprop.cli.export import export as _export
from backprop.cli.output import fail, note, show_warning
from backprop.learn.divergence import DivergedError
from backprop.tables.recipe import LOSSES_OF_TASK

__all__ = ["INTERRUPTED", "LOSSES_OF_TASK", "main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (by default the process's) and return the exit status."""
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not end the run
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            note("interrupted", "")
            return INTERRUPTED
        except BrokenPipeError:  # as in `backprop predict ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            return fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except DivergedError as error:
            return fail(
                f"the loss of epoch {error.epoch} is {error.loss}; "
                f"training needs a --learning-rate below {error.learning_rate:g}"
            )
        except (ValueError, TypeError, OverflowError, MemoryError, ImportError) as error:
            return fail(str(error) or type(error).__name__)
    return 0


def _parser() -> argparse.ArgumentParser:
    return arguments.parser(_train, _predict, _report, _info, _export)
