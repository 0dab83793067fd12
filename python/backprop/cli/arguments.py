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
from backprop.cli.output import note
from backprop.reference import ACTIVATIONS
from backprop.reference.optimizers import OPTIMIZERS
from backprop.tables import recipe
from backprop.tables.engine import memory_size
from backprop.tables.targets import MAX_INTEGER_CLASSES, TASKS


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


def _batch_size(text: str) -> int | str:
    if text.strip().lower() in ("full", "auto"):
        return text.strip().lower()
    with contextlib.suppress(argparse.ArgumentTypeError):
        return _integer(1)(text)
    raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, or 'full'; got {text!r}")


def _class_weight(text: str) -> str | dict[str, float]:
    if text == "balanced":
        return text
    pairs = [part.rpartition("=") for part in _names(text)]
    with contextlib.suppress(argparse.ArgumentTypeError):
        if pairs and all(label for label, _, _ in pairs):
            return {label: _number()(weight) for label, _, weight in pairs}
    raise argparse.ArgumentTypeError(f"needs 'balanced' or label=weight,label=weight; got {text!r}")


def _memory(text: str) -> int:
    try:
        return memory_size("memory", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("memory: ").removesuffix(" (str)")) from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


Run = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def parser(train: Run, predict: Run, report: Run, info: Run, export: Run) -> argparse.ArgumentParser:
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
    _add_report(commands, report)
    _add_info(commands, info)
    _add_export(commands, export)
    return found


def _add_train(commands: Commands, run: Run) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a table and save it",
        description="Train a network on a table, score it on rows held out, and save it. The table is a CSV file with "
        "a header row, Parquet, JSON lines, any of them compressed, a DuckDB or SQLite database, standard input (-) "
        "or a query. What its columns mean is decided by rules and printed. Without a file, iris data are used.",
    )
    train.set_defaults(run=run)
    _add_source(train)
    _add_columns(train)
    _add_rows(train)
    _add_network(train)
    _add_training(train)
    output = train.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="MODEL", help="the model file (default: FILE.safetensors, here)")
    output.add_argument("--plot", type=Path, metavar="PNG", help="draw the loss over the epochs into this file")
    output.add_argument("--quiet", action="store_true", help="print nothing but the score")


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", nargs="*", metavar="FILE", help="the table: files, a pattern in quotes, or - for stdin"
    )
    source = command.add_argument_group("where the rows come from")
    source.add_argument("--sql", metavar="QUERY", help="a SELECT; it calls FILE data, or names files itself")
    source.add_argument("--table", metavar="NAME", help="the table of a database")
    source.add_argument("--memory", type=_memory, metavar="SIZE", help="what the table may take, such as 2GB")
    source.add_argument("--threads", type=_integer(1), metavar="N", help="threads (default: as many as help)")


def _add_columns(train: argparse.ArgumentParser) -> None:
    columns = train.add_argument_group("columns")
    columns.add_argument(
        "--target",
        action="append",
        metavar="COLUMN",
        help="the column to predict (iris: species); may be given several times",
    )
    columns.add_argument(
        "--task",
        choices=TASKS,
        help="by default classification for text, booleans and at most "
        f"{MAX_INTEGER_CLASSES} distinct whole numbers, else regression",
    )
    for option, what in (
        ("numeric", "columns that are numbers"),
        ("categorical", "columns that are categories"),
        ("date", "columns that are dates"),
        ("ignore", "columns not to use"),
        ("id", "columns that name the rows: not used, kept beside the predictions"),
    ):
        columns.add_argument(f"--{option}", type=_names, action="extend", default=[], metavar="A,B", help=what)
    columns.add_argument("--weight", metavar="COLUMN", help="the weights of the rows")


def _add_rows(train: argparse.ArgumentParser) -> None:
    rows = train.add_argument_group("rows")
    rows.add_argument(
        "--test-size",
        type=_number(below=1),
        metavar="SHARE",
        help="share of the rows held out for the "
        f"score (default {recipe.TEST_SIZE}; 0 for fewer than {recipe.MIN_ROWS_TO_SPLIT} rows)",
    )
    rows.add_argument(
        "--validation-size",
        type=_number(below=1),
        metavar="SHARE",
        help="share of the other rows that "
        f"decides when to stop (default {recipe.VALIDATION_SIZE} from {recipe.VALIDATED_ROWS:,} rows on)",
    )
    rows.add_argument("--group", metavar="COLUMN", help="rows with one value of it stay on one side")
    rows.add_argument("--time", metavar="COLUMN", help="hold out the last rows in its order")
    rows.add_argument("--folds", type=_integer(2), metavar="N", help="cross-validation; then train on all rows")
    rows.add_argument("--class-weight", type=_class_weight, metavar="WEIGHTS", help="balanced, or label=weight,...")
    rows.add_argument(
        "--threshold",
        type=_number(above=0, below=1),
        metavar="P",
        help="predict the positive one of two classes from this probability on (default 0.5)",
    )


def _add_network(train: argparse.ArgumentParser) -> None:
    model = train.add_argument_group("network")
    small, large = (",".join(map(str, sizes)) for sizes in (recipe.HIDDEN, recipe.LARGE_HIDDEN))
    model.add_argument(
        "--hidden",
        type=_hidden,
        metavar="SIZES",
        help="sizes of the hidden layers, or none for a linear "
        f"model (default {small}; {large} from {recipe.VALIDATED_ROWS:,} rows on)",
    )
    activations = [name for name in ACTIVATIONS if name != "softmax"]
    model.add_argument(
        "--activation",
        choices=activations,
        help=f"of the hidden layers (default {recipe.ACTIVATION} or {recipe.LARGE_ACTIVATION})",
    )
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default float32")


def _add_training(train: argparse.ArgumentParser) -> None:
    fit = train.add_argument_group("training")
    fit.add_argument(
        "--epochs",
        type=_integer(1),
        metavar="N",
        help=f"default: as many as make {recipe.STEPS:,} steps, "
        f"at least {recipe.MIN_EPOCHS}, at most {recipe.MAX_EPOCHS:,}; {recipe.LARGE_STEPS:,} steps for "
        "large tables",
    )
    fit.add_argument(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="N",
        help=f"rows per step, or full (default {recipe.BATCH_SIZE}, {recipe.LARGE_BATCH_SIZE} for large tables)",
    )
    fit.add_argument("--optimizer", choices=list(OPTIMIZERS), default="adam", help="default adam")
    fit.add_argument(
        "--learning-rate",
        type=_number(above=0),
        metavar="RATE",
        help="default " + ", ".join(f"{rate:g} for {name}" for name, rate in recipe.LEARNING_RATES.items()),
    )
    fit.add_argument(
        "--loss",
        choices=[name for names in recipe.LOSSES_OF_TASK.values() for name in names],
        help="default cross_entropy for classification, squared_error for regression",
    )
    fit.add_argument(
        "--l2",
        type=_number(),
        metavar="FACTOR",
        help="penalty on the weights: l2 / 2 * sum(W**2) "
        f"(default {recipe.L2_TIMES_ROWS:g} / rows, at most {recipe.MAX_L2}; for small tables the best of "
        "three)",
    )
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
        description="Predict the target for each row of a table that has the columns the model was trained on. "
        "Where it has the target as well, the score goes to stderr. Without a file, the bundled iris data are used.",
    )
    predict.set_defaults(run=run)
    predict.add_argument("model", metavar="MODEL", help="a file that `backprop train` wrote")
    _add_source(predict)
    output = predict.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        metavar="PRED",
        help="write the predictions here, not to stdout: CSV, or Parquet where the name ends in .parquet",
    )
    output.add_argument(
        "--keep",
        type=_names,
        action="extend",
        default=[],
        metavar="A,B",
        help="columns of the table to write beside the predictions; identifiers are kept anyway",
    )
    output.add_argument("--proba", action="store_true", help="add the probability of each class")
    output.add_argument(
        "--threshold", type=_number(above=0, below=1), metavar="P", help="as for train (default: that of the model)"
    )


def _add_report(commands: Commands, run: Run) -> None:
    report = commands.add_parser(
        "report",
        help="tell how well a saved model does, as text and as a page",
        description="Score a model on a table that has the target, and tell what it needs and where it errs. Without a "
        "file, the bundled iris data are used.",
    )
    report.set_defaults(run=run)
    report.add_argument("model", metavar="MODEL", help="a file that `backprop train` wrote")
    _add_source(report)
    output = report.add_argument_group("output")
    output.add_argument("--html", type=Path, metavar="PAGE", help="write a page with charts, all in one file")


def _add_info(commands: Commands, run: Run) -> None:
    info = commands.add_parser(
        "info",
        help="tell about this installation, or about a model",
        description="Print version, backend and NumPy, or what a model file holds.",
    )
    info.set_defaults(run=run)
    info.add_argument("model", nargs="?", metavar="MODEL", help="a file that `backprop train` wrote")


def _add_export(commands: Commands, run: Run) -> None:
    export = commands.add_parser(
        "export",
        help="write a model as what other programs run",
        description="Write a model with its preprocessing, or a network that `Network.save` wrote, for other programs.",
    )
    export.set_defaults(run=run)
    export.add_argument("model", type=Path, metavar="MODEL", help="a file that `backprop train` wrote")
    export.add_argument("--c", type=Path, metavar="HEADER", help="as a header of C99, such as model.h")
    export.add_argument("--onnx", type=Path, metavar="FILE", help="as a model of ONNX, such as model.onnx")
    export.add_argument("--name", help="with what the names in C begin (default: the name of the file)")
    export.add_argument("--int8", action="store_true", help="C with weights of 8 bits")
    export.add_argument("--training", action="store_true", help="C with a function that trains on one row")
