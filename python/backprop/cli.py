"""The command line: train a network on a CSV file, predict with it, look into it.

Exit status: 0; 2 with one line on stderr for whatever is wrong with the arguments or the files; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import os
import shlex
import sys
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

import backprop
from backprop import Dense, Network, plotting
from backprop.base.atomic import write_atomically
from backprop.io import load_with_extra
from backprop.reference.losses import LOSSES
from backprop.reference.optimizers import OPTIMIZERS
from backprop.tables import preprocessing as tabular
from backprop.tables.csv import Table, read_csv, shorten
from backprop.tables.preprocessing import Column, Labels, NumericColumn, Preprocessing, Target

# What the defaults aim at: small tables learned well in about a second. Chosen on iris, wine, breast cancer, digits,
# diabetes and Friedman's function.
STEPS = 3000
MIN_EPOCHS, MAX_EPOCHS = 20, 1000
LEARNING_RATES = {"sgd": 0.05, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.002, "adagrad": 0.05}
L2_TIMES_ROWS, MAX_L2 = 15.0, 0.05
TEST_SIZE, MIN_ROWS_TO_SPLIT = 0.25, 20
MAX_CLASSES_SHOWN = 12

LOSSES_OF_TASK = {
    "classification": tuple(name for name, loss in LOSSES.items() if not loss.elementwise),
    "regression": tuple(name for name, loss in LOSSES.items() if loss.elementwise and loss.outputs is None),
}
OUTPUT_OF_TASK = {"classification": "softmax", "regression": "identity"}
METRICS = {
    "accuracy": ("accuracy", ".4f"),
    "r2": ("R²", ".4f"),
    "mean_absolute_error": ("mean absolute error", ".4g"),
}

Scores = dict[str, float]
Say = Callable[[str, str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (by default the process's) and return the exit status."""
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not end the run
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _note("interrupted", "")
            return 130
        except BrokenPipeError:  # as in `backprop predict ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            return _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except backprop.DivergedError as error:
            return _fail(
                f"the loss of epoch {error.epoch} is {error.loss}; "
                f"training needs a --learning-rate below {error.learning_rate:g}"
            )
        except (ValueError, TypeError, OverflowError, MemoryError, ImportError) as error:
            return _fail(str(error) or type(error).__name__)
    return 0


# --- train ---------------------------------------------------------------------------------------------------------


class _Examples(NamedTuple):
    """A table in numbers, shared out."""

    fitted: Preprocessing
    X: NDArray[np.float64]
    truth: NDArray[Any]
    train: tabular.Indices
    held_out: tabular.Indices


def _train(args: argparse.Namespace) -> None:
    say = _silent if args.quiet else _say
    table = _read(args.file)
    target_name = args.target or ("species" if args.file is None else None)
    if target_name is None:
        raise ValueError(f"--target: needs the column to predict; {args.file} has {shorten(table.columns)}")
    out = args.out or Path(f"{Path(args.file or 'iris').stem}.safetensors")
    _check_output("--out", out, args.file)
    if args.plot:
        _check_output("--plot", args.plot, args.file, out)
        plotting.check_path(args.plot)

    examples = _examples(args, table, target_name, say)
    fitted, X, truth, train, held_out = examples
    network = _network(args, examples)
    settings = _fit_settings(args, fitted.target, len(train))
    loss, optimizer = settings["loss"], settings["optimizer"]
    say("network", _describe_network(network))
    epochs = f"{'up to ' if args.tolerance is not None else ''}{settings['epochs']:,} epochs"
    say(
        "training",
        f"{loss} + l2 {network.layers[-1].l2:.3g}, {optimizer.name}, learning rate {optimizer.learning_rate:g}, "
        f"batches of {settings['batch_size']:,}, {epochs}",
    )
    start = time.perf_counter()
    history = network.fit(X[train], truth[train], **settings)
    seconds = time.perf_counter() - start
    why = " (it stopped falling)" if history.stop_reason == "tolerance" else ""
    say("", f"{history.epochs:,} epochs in {seconds:.2f} s; final training loss {history.loss[-1]:.4g}{why}")

    rows, where = (held_out, "held out") if len(held_out) else (train, "trained on")
    outputs = network.predict(X[rows])
    scores = _scores(fitted.target, outputs, truth[rows])
    text = _show_scores(scores, _baseline(fitted.target, truth[train], truth[rows]))
    say("score", f"{where}: {text}")
    if args.quiet:
        print(text)
    if isinstance(fitted.target, Labels) and fitted.target.n_outputs <= MAX_CLASSES_SHOWN:
        say("", _confusion(fitted.target, outputs, truth[rows]))

    summary = {
        "data": table.name,
        "rows trained on": len(train),
        "rows held out": len(held_out),
        "loss": loss,
        "optimizer": optimizer.name,
        "learning rate": optimizer.learning_rate,
        "batch size": settings["batch_size"],
        "epochs": history.epochs,
        "final training loss": float(history.loss[-1]),
        **{f"{METRICS[name][0]}, {where}": value for name, value in scores.items()},
    }
    network.save(out, extra={"preprocessing": fitted.to_json(), "training": summary})
    say("model", str(out))
    if args.plot:
        title = f"{Path(table.name).name}: {target_name}, loss {history.loss[-1]:.3g} after {history.epochs:,} epochs"
        plotting.plot_loss(history.loss, args.plot, title, f"training loss ({loss} + l2)")
        say("plot", str(args.plot))
    say("next", shlex.join(["backprop", "predict", str(out), *([args.file] if args.file else [])]))


def _examples(args: argparse.Namespace, table: Table, target_name: str, say: Say) -> _Examples:
    """Turn a table into numbers, hold rows out, and say what was found."""
    known = [row for row, cell in enumerate(table.column(target_name, "target column")) if cell]
    if not known:
        raise ValueError(f"{table.name}: target {target_name!r} has no value in any row")
    n_dropped = len(table) - len(known)
    table = table.take(known) if n_dropped else table

    task = args.task or tabular.infer_task(table, target_name)
    groups = tabular.class_labels(table, target_name) if task == "classification" else None
    test_size = args.test_size
    if test_size is None:
        test_size = TEST_SIZE if len(table) >= MIN_ROWS_TO_SPLIT else 0.0
    train, held_out = tabular.split_rows(len(table), test_size, args.seed, groups)
    if test_size and not len(held_out):
        raise ValueError(f"--test-size: {test_size:g} of {len(table)} rows is not a row; give more, or 0 for none")
    fitted = tabular.fit_preprocessing(table, target_name, task, train, args.ignore)
    X, missing, _ = fitted.inputs(table)

    dropped = f"; {n_dropped:,} more without a target left out" if n_dropped else ""
    say("data", f"{table.name}: {len(table):,} rows, {len(table.columns):,} columns{dropped}")
    say("target", _describe_target(fitted.target, groups))
    numeric = [column.name for column in fitted.columns if isinstance(column, NumericColumn)]
    categorical = [column.name for column in fitted.columns if not isinstance(column, NumericColumn)]
    kinds = [f"{len(numeric):,} numeric (standardised)"] if numeric else []
    kinds += [f"{len(categorical):,} categorical (one input per category)"] if categorical else []
    say("columns", f"{' and '.join(kinds)}: {fitted.n_inputs:,} inputs of the network")
    for names, treatment in ((numeric, "taken as the median of the training rows"), (categorical, "a category")):
        if counts := [f"{name} {missing[name]:,}" for name in names if name in missing]:
            say("missing", f"{', '.join(counts)}: {treatment}")
    for name in categorical:
        if note := tabular.almost_numeric(table, name):
            say("note", f"{name} is {note}")
    _say_left_out(say, fitted)
    how = "the same share of each class" if task == "classification" else "drawn at random"
    how = f"{len(held_out):,} held out ({how}, seed {args.seed})"
    if not len(held_out):
        how = "none held out, so that the score does not tell how well new rows will be predicted"
    say("rows", f"{len(train):,} to train on, {how}")
    return _Examples(fitted, X, fitted.target.encode(table), train, held_out)


def _network(args: argparse.Namespace, examples: _Examples) -> Network:
    fitted = examples.fitted
    # Three digits, so that what is printed can be typed.
    l2 = float(f"{min(MAX_L2, L2_TIMES_ROWS / len(examples.train)):.3g}") if args.l2 is None else args.l2
    hidden = [Dense(units, args.activation, l2=l2) for units in args.hidden]
    output = Dense(fitted.target.n_outputs, OUTPUT_OF_TASK[fitted.target.task], l2=l2)
    return Network(fitted.n_inputs, [*hidden, output], dtype=args.dtype, seed=args.seed)


def _fit_settings(args: argparse.Namespace, target: Target, n_rows: int) -> dict[str, Any]:
    """Return the arguments of `Network.fit`."""
    losses = LOSSES_OF_TASK[target.task]
    if args.loss is not None and args.loss not in losses:
        raise ValueError(f"--loss: a {target.task} needs one of {', '.join(losses)}; got {args.loss!r}")
    rate = args.learning_rate or LEARNING_RATES.get(args.optimizer)
    optimizer: Any = OPTIMIZERS[args.optimizer]
    batch_size = min(args.batch_size or n_rows, n_rows)
    return {
        "loss": args.loss or losses[0],
        "optimizer": optimizer() if rate is None else optimizer(learning_rate=rate),
        "epochs": args.epochs or min(max(math.ceil(STEPS * batch_size / n_rows), MIN_EPOCHS), MAX_EPOCHS),
        "batch_size": batch_size,
        "tolerance": args.tolerance,
        "patience": args.patience,
        "progress": False if args.quiet else "auto",
    }


# --- predict -------------------------------------------------------------------------------------------------------


def _predict(args: argparse.Namespace) -> None:
    network, fitted, _ = _load(args.model)
    target = fitted.target
    if args.proba and not isinstance(target, Labels):
        raise ValueError(
            f"--proba: needs a model for a classification; {args.model} predicts the number {target.name!r}"
        )
    if args.out:
        _check_output("--out", args.out, args.file, args.model)
    table = _read(args.file)
    encoded = fitted.inputs(table)
    outputs = network.predict(encoded.X)

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if isinstance(target, Labels):
        labels = target.labels if args.proba else ()
        writer.writerow(["prediction", *(f"probability_{label}" for label in labels)])
        for row, k in zip(outputs, outputs.argmax(axis=1), strict=True):
            writer.writerow([target.labels[k], *(row if labels else ())])
    else:
        writer.writerow(["prediction"])
        # As many digits as the network's arithmetic has.
        writer.writerows([[value] for value in target.decode(outputs).astype(network.dtype)])
    if args.out:
        write_atomically(args.out, text.getvalue().encode())
    else:
        sys.stdout.write(text.getvalue())

    for name, count in encoded.missing.items():
        _note("note", f"{name}: {count:,} missing")
    for name, unknown in encoded.unknown.items():
        examples = shorten((value for value, _ in unknown.most_common()), 5)
        _note("note", f"{name}: {unknown.total():,} with a category that no training row had: {examples}")
    if target.name in table.columns:
        _note("score", _score_predictions(target, table, outputs))


def _score_predictions(target: Target, table: Table, outputs: NDArray[Any]) -> str:
    """Compare with the target that the file has, as far as it has one."""
    try:
        truth = target.encode(table)
    except ValueError as error:
        return f"none ({error})"
    given = np.array([bool(cell) for cell in table.column(target.name)])
    if not given.any():
        return f"none (column {target.name!r} is empty)"
    return f"{_show_scores(_scores(target, outputs[given], truth[given]))} on {given.sum():,} rows with {target.name!r}"


# --- info ----------------------------------------------------------------------------------------------------------


def _info(args: argparse.Namespace) -> None:
    if args.model is None:
        backprop.show_config()
        return
    network, fitted, training = _load(args.model)
    _say("model", str(args.model))
    _say("network", _describe_network(network))
    _say("", network.summary())
    _say("target", _describe_target(fitted.target))
    _say("columns", "\n".join(map(_describe_column, fitted.columns)))
    _say_left_out(_say, fitted)
    shown = (
        f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in training.items()
    )
    _say("training", "\n".join(shown))


# --- what the commands share ---------------------------------------------------------------------------------------


def _read(path: str | None) -> Table:
    if path is not None:
        return read_csv(path)
    with as_file(files("backprop").joinpath("data", "iris.csv")) as iris:
        return read_csv(iris, "iris.csv (bundled)")


def _load(path: str) -> tuple[Network, Preprocessing, Mapping[str, Any]]:
    """Return the network, the preprocessing and the training summary that `train` saved."""
    network, extra = load_with_extra(path)
    if "preprocessing" not in extra:
        raise ValueError(f"{path}: a network without preprocessing; needs a model that `backprop train` wrote")
    try:
        fitted = Preprocessing.from_json(extra["preprocessing"])
        training = extra.get("training", {})
        if not isinstance(training, dict):
            raise TypeError(f"training: needs a dict, got {training!r:.80}")
        sizes = (fitted.n_inputs, fitted.target.n_outputs)
        if sizes != (network.n_inputs, network.n_outputs):
            raise ValueError(
                f"preprocessing for {sizes}, network of {(network.n_inputs, network.n_outputs)} inputs, outputs"
            )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a valid model file: {error}") from error
    return network, fitted, training


def _check_output(option: str, path: Path, *others: str | Path | None) -> None:
    """Raise before the work, not after it, when a file could not be written, or would replace one that is read."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{option}: needs the name of a file; {path} is none")
    if not path.parent.is_dir():
        raise ValueError(f"{option}: needs a folder that exists; {path.parent} does not")
    for other in others:
        if other is not None and path.resolve() == Path(other).resolve():
            raise ValueError(f"{option}: needs another name than {other}, which it would replace")


def _scores(target: Target, outputs: NDArray[Any], truth: NDArray[Any]) -> Scores:
    """Return how well the network's outputs, (n, n_outputs), hit the encoded target."""
    if isinstance(target, Labels):
        return {"accuracy": float(np.mean(outputs.argmax(axis=1) == truth))}
    errors = outputs.astype(np.float64) - truth
    scores = {"mean_absolute_error": float(np.mean(np.abs(errors)) * target.scale)}
    spread = float(np.sum(np.square(truth - truth.mean())))
    if spread > 0:  # R² of a single row, or of equal ones, does not exist
        scores = {"r2": 1 - float(np.sum(np.square(errors))) / spread, **scores}
    return scores


def _baseline(target: Target, train_truth: NDArray[Any], truth: NDArray[Any]) -> tuple[str, Scores]:
    """Return how well one does without looking at the inputs."""
    outputs = np.zeros((len(truth), target.n_outputs))
    if not isinstance(target, Labels):
        return "always the mean", _scores(target, outputs, truth)  # which is 0, standardised
    majority = int(np.bincount(train_truth).argmax())
    outputs[:, majority] = 1
    return f"always {target.labels[majority]!r}", _scores(target, outputs, truth)


def _show_scores(scores: Scores, baseline: tuple[str, Scores] | None = None) -> str:
    text = ", ".join(f"{METRICS[name][0]} {value:{METRICS[name][1]}}" for name, value in scores.items())
    if baseline is None:
        return text
    how, theirs = baseline
    return f"{text} ({how}: {', '.join(f'{value:{METRICS[name][1]}}' for name, value in theirs.items())})"


def _confusion(target: Labels, outputs: NDArray[Any], truth: NDArray[Any]) -> str:
    counts = np.zeros((target.n_outputs, target.n_outputs), int)
    np.add.at(counts, (truth, outputs.argmax(axis=1)), 1)
    names = [textwrap.shorten(label, 16, placeholder="...") or label[:16] for label in target.labels]
    first = max(len("actual"), *map(len, names))
    widths = [max(len(name), 4) for name in names]
    lines = [" " * first + "  predicted", "  ".join(["actual".ljust(first), *map(str.rjust, names, widths)])]
    for name, row in zip(names, counts, strict=True):
        lines.append(
            "  ".join([name.ljust(first), *(str(n).rjust(width) for n, width in zip(row, widths, strict=True))])
        )
    return "\n".join(lines)


def _describe_target(target: Target, labels: Sequence[str] | None = None) -> str:
    if not isinstance(target, Labels):
        return f"{target.name}: regression (mean {target.center:.4g}, standard deviation {target.scale:.4g})"
    counts = Counter(labels)
    names = [f"{label} {counts[label]:,}" if counts else label for label in target.labels]
    shown = ", ".join(names[:MAX_CLASSES_SHOWN]) + (", ..." if len(names) > MAX_CLASSES_SHOWN else "")
    return f"{target.name}: classification, {target.n_outputs} classes ({shown})"


def _say_left_out(say: Say, fitted: Preprocessing) -> None:
    for reason in dict.fromkeys(fitted.left_out.values()):
        names = ", ".join(name for name, why in fitted.left_out.items() if why == reason)
        say("left out", f"{names}: {reason}")


def _describe_column(column: Column) -> str:
    if isinstance(column, NumericColumn):
        how = f"numeric; mean {column.mean:.4g}, standard deviation {column.scale:.4g}, median {column.median:.4g}"
    else:
        names = shorten(category or "(missing)" for category in column.categories)
        how = f"{column.n_inputs} categories: {names}"
    return f"{column.name}: {how}"


def _describe_network(network: Network) -> str:
    layers = " -> ".join(f"{layer.units} {layer.activation}" for layer in network.layers)
    how = f"{network.n_parameters:,} parameters, {network.dtype}, backend {network.backend}"
    return f"{network.n_inputs} -> {layers}; {how}"


# --- what is printed -----------------------------------------------------------------------------------------------

_WIDTH = 100
_INDENT = 11


def _say(label: str, text: str) -> None:
    """Print a labelled line, wrapped; a text of several lines stays as it is."""
    text = "".join(
        c if c.isprintable() or c == "\n" else "?" for c in text
    )  # a file's names are not to steer the terminal
    indent = " " * _INDENT
    if "\n" in text:
        text = label.ljust(_INDENT) + text.replace("\n", "\n" + indent).rstrip()
    else:
        text = textwrap.fill(
            text,
            _WIDTH,
            initial_indent=label.ljust(_INDENT),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(text, flush=True)  # what was found is to be read while the network trains, through a pipe as well


def _silent(label: str, text: str) -> None:
    pass


def _note(label: str, text: str) -> None:
    print(f"backprop: {label}" + (f": {' '.join(text.split())}" if text else ""), file=sys.stderr)


def _fail(message: str) -> int:
    _note("error", message)
    return 2


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    _note("warning", str(message))


# --- arguments -----------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _note("error", f"{message} (see {self.prog} --help)")
        self.exit(2)


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than everything else here."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        print(f"backprop {backprop.__version__}")
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="backprop",
        description="Train small and medium dense networks on tables, and predict with them.",
        epilog="Start with: backprop train",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network on a CSV file and save it",
        description="Train a network on a CSV file with a header row, score it on rows held out, and save it. Numeric "
        "columns are standardised; columns with text get one input per category; missing cells are empty, NA, N/A, "
        "NaN, null or ?. Without a file, the bundled iris data are used.",
    )
    train.set_defaults(run=_train)
    train.add_argument("file", nargs="?", metavar="FILE.csv", help="the table; delimited by comma, semicolon, tab or |")
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
    activations = [name for name in backprop.ACTIVATIONS if name != "softmax"]
    model.add_argument("--activation", choices=activations, default="relu", help="of the hidden layers (default relu)")
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default float32")
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
    output = train.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="MODEL", help="the model file (default: FILE.safetensors, here)")
    output.add_argument("--plot", type=Path, metavar="PNG", help="draw the loss over the epochs into this file")
    output.add_argument("--quiet", action="store_true", help="print nothing but the score")

    predict = commands.add_parser(
        "predict",
        help="predict with a saved model",
        description="Predict the target for each row of a CSV file that has the columns the model was trained on. "
        "Where it has the target as well, the score goes to stderr. Without a file, the bundled iris data are used.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a file that `backprop train` wrote")
    predict.add_argument("file", nargs="?", metavar="FILE.csv", help="the rows to predict")
    predict.add_argument("--out", type=Path, metavar="PRED.csv", help="write the predictions here, not to stdout")
    predict.add_argument("--proba", action="store_true", help="add the probability of each class")

    info = commands.add_parser("info", help="tell about this installation, or about a model",
                               description="Print version, backend and NumPy, or what a model file holds.")  # fmt: skip
    info.set_defaults(run=_info)
    info.add_argument("model", nargs="?", metavar="MODEL", help="a file that `backprop train` wrote")
    return parser
