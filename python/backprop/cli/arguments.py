"""What the command line takes."""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from backprop.base.version import version
from backprop.cli.defaults import (
    L2_TIMES_ROWS,
    LEARNING_RATES,
    LOSSES_OF_TASK,
    MAX_EPOCHS,
    MAX_L2,
    MIN_EPOCHS,
    MIN_ROWS_TO_SPLIT,
    STEPS,
    TEST_SIZE,
)
from backprop.cli.output import note
from backprop.reference import ACTIVATIONS
from backprop.reference.optimizers import OPTIMIZERS
from backprop.tables import preprocessing as tabular


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        note("error", f"{message} (see {self.prog} --help)")
        self.exit(2)


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than everything else here."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        print(f"backprop {version()}")
        parser.exit()


def _integer(at_least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if (value := int(text)) >= at_least:
                return value
        raise argparse.ArgumentTypeError(f"needs a whole number of at least {at_least}, got {text!r}")

    return parse


def _number(above: float | None = None, at_least: float = 0.0, below: float = math.inf) -> Callable[[str], float]:
    bound = f"above {above:g}" if above is not None else f"of at least {at_least:g}"
    bound += f" and below {below:g}" if below < math.inf else ""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if at_least <= value < below and (above is None or value > above):
                return value
        raise argparse.ArgumentTypeError(f"needs a number {bound}, got {text!r}")

    return parse


def _hidden(text: str) -> tuple[int, ...]:
    if text.strip().lower() == "none":
        return ()
    with contextlib.suppress(argparse.ArgumentTypeError):
        return tuple(_integer(1)(units) for units in text.split(","))
    raise argparse.ArgumentTypeError(f"needs layer sizes such as 16,16, or 'none' for a linear model; got {text!r}")


def _batch_size(text: str) -> int | None:
    if text.strip().lower() == "full":
        return None
    with contextlib.suppress(argparse.ArgumentTypeError):
        return _integer(1)(text)
    raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, or 'full'; got {text!r}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


Run = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def parser(train: Run, predict: Run, info: Run) -> argparse.ArgumentParser:
    """Return the parser; the arguments that it returns have the command's function as `run`."""
    found = _Parser(
        prog="backprop",
        description="Train small and medium dense networks on tables, and predict with them.",
        epilog="Start with: backprop train",
    )
    found.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = found.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands, train)
    _add_predict(commands, predict)
    _add_info(commands, info)
    return found


def _add_train(commands: Commands, run: Run) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a CSV file and save it",
        description="Train a network on a CSV file with a header row, score it on rows held out, and save it. Numeric "
        "columns are standardised; columns with text get one input per category; missing cells are empty, NA, N/A, "
        "NaN, null or ?. Without a file, the bundled iris data are used.",
    )
    train.set_defaults(run=run)
    train.add_argument("file", nargs="?", metavar="FILE.csv", help="the table; delimited by comma, semicolon, tab or |")
    _add_data(train)
    _add_training(train)
    output = train.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="MODEL", help="the model file (default: FILE.safetensors, here)")
    output.add_argument("--plot", type=Path, metavar="PNG", help="draw the loss over the epochs into this file")
    output.add_argument("--quiet", action="store_true", help="print nothing but the score")


def _add_data(train: argparse.ArgumentParser) -> None:
    data = train.add_argument_group("data")
    data.add_argument("--target", metavar="COLUMN", help="the column to predict (iris: species)")
    data.add_argument("--task", choices=tabular.TASKS, help="by default classification for text and for at most "
                      f"{tabular.MAX_INTEGER_CLASSES} distinct whole numbers, else regression")  # fmt: skip
    data.add_argument("--ignore", type=_names, default=[], metavar="A,B", help="columns not to use")
    data.add_argument("--test-size", type=_number(below=1), metavar="SHARE", help="share of the rows held out for the "
                      f"score (default {TEST_SIZE}; 0 for fewer than {MIN_ROWS_TO_SPLIT} rows)")  # fmt: skip
    model = train.add_argument_group("network")
    model.add_argument("--hidden", type=_hidden, default=(32, 32), metavar="SIZES",
                       help="sizes of the hidden layers, or none for a linear model (default 32,32)")  # fmt: skip
    activations = [name for name in ACTIVATIONS if name != "softmax"]
    model.add_argument("--activation", choices=activations, default="relu", help="of the hidden layers (default relu)")
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default float32")


def _add_training(train: argparse.ArgumentParser) -> None:
    fit = train.add_argument_group("training")
    fit.add_argument("--epochs", type=_integer(1), metavar="N", help=f"default: as many as make {STEPS:,} steps, "
                     f"at least {MIN_EPOCHS}, at most {MAX_EPOCHS:,}")  # fmt: skip
    fit.add_argument(
        "--batch-size", type=_batch_size, default=32, metavar="N", help="rows per step, or full (default 32)"
    )
    fit.add_argument("--optimizer", choices=list(OPTIMIZERS), default="adam", help="default adam")
    fit.add_argument("--learning-rate", type=_number(above=0), metavar="RATE", help="default "
                     + ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items()))  # fmt: skip
    fit.add_argument("--loss", choices=[name for names in LOSSES_OF_TASK.values() for name in names],
                     help="default cross_entropy for classification, squared_error for regression")  # fmt: skip
    fit.add_argument("--l2", type=_number(), metavar="FACTOR", help="penalty on the weights: l2 / 2 * sum(W**2) "
                     f"(default {L2_TIMES_ROWS:g} / rows, at most {MAX_L2})")  # fmt: skip
    fit.add_argument(
        "--tolerance", type=_number(), metavar="LOSS", help="stop when the loss has not fallen by this much"
    )
    fit.add_argument("--patience", type=_integer(1), default=10, metavar="N", help="for so many epochs (default 10)")
    fit.add_argument(
        "--seed", type=_integer(0), default=0, metavar="N", help="of all that is drawn at random (default 0)"
    )


def _add_predict(commands: Commands, run: Run) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict with a saved model",
        description="Predict the target for each row of a CSV file that has the columns the model was trained on. "
        "Where it has the target as well, the score goes to stderr. Without a file, the bundled iris data are used.",
    )
    predict.set_defaults(run=run)
    predict.add_argument("model", metavar="MODEL", help="a file that `backprop train` wrote")
    predict.add_argument("file", nargs="?", metavar="FILE.csv", help="the rows to predict")
    predict.add_argument("--out", type=Path, metavar="PRED.csv", help="write the predictions here, not to stdout")
    predict.add_argument("--proba", action="store_true", help="add the probability of each class")


def _add_info(commands: Commands, run: Run) -> None:
    info = commands.add_parser("info", help="tell about this installation, or about a model",
                               description="Print version, backend and NumPy, or what a model file holds.")  # fmt: skip
    info.set_defaults(run=run)
    info.add_argument("model", nargs="?", metavar="MODEL", help="a file that `backprop train` wrote")
