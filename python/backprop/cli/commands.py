"""The commands: train, predict, info."""

from __future__ import annotations

import argparse
import csv
import io
import math
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import backprop
from backprop import Dense, Network, plotting
from backprop.base.atomic import write_atomically
from backprop.cli.defaults import (
    L2_TIMES_ROWS,
    LEARNING_RATES,
    LOSSES_OF_TASK,
    MAX_CLASSES_SHOWN,
    MAX_EPOCHS,
    MAX_L2,
    METRICS,
    MIN_EPOCHS,
    MIN_ROWS_TO_SPLIT,
    OUTPUT_OF_TASK,
    STEPS,
    TEST_SIZE,
)
from backprop.cli.output import (
    Say,
    baseline_scores,
    confusion_table,
    describe_column,
    describe_network,
    describe_target,
    measured,
    note,
    print_line,
    print_nothing,
    say_left_out,
    show_scores,
)
from backprop.io import load_with_extra
from backprop.reference.optimizers import OPTIMIZERS
from backprop.tables import preprocessing as tabular
from backprop.tables.csv import Table, read_csv, shorten
from backprop.tables.preprocessing import Labels, NumericColumn, Preprocessing, Target


class _Examples(NamedTuple):
    """A table in numbers, shared out."""

    fitted: Preprocessing
    X: NDArray[np.float64]
    truth: NDArray[Any]
    train: tabular.Indices
    held_out: tabular.Indices


def train(args: argparse.Namespace) -> None:
    """Train a network on a table and save it."""
    say = print_nothing if args.quiet else print_line
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
    say("network", describe_network(network))
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
    scores = measured(fitted.target, outputs, truth[rows])
    text = show_scores(scores, baseline_scores(fitted.target, truth[train], truth[rows]))
    say("score", f"{where}: {text}")
    if args.quiet:
        print(text)
    if isinstance(fitted.target, Labels) and fitted.target.n_outputs <= MAX_CLASSES_SHOWN:
        say("", confusion_table(fitted.target, outputs, truth[rows]))

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
    say("target", describe_target(fitted.target, groups))
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
    say_left_out(say, fitted)
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


def predict(args: argparse.Namespace) -> None:
    """Predict the target of the rows of a table."""
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
        note("note", f"{name}: {count:,} missing")
    for name, unknown in encoded.unknown.items():
        examples = shorten((value for value, _ in unknown.most_common()), 5)
        note("note", f"{name}: {unknown.total():,} with a category that no training row had: {examples}")
    if target.name in table.columns:
        note("score", _score_predictions(target, table, outputs))


def _score_predictions(target: Target, table: Table, outputs: NDArray[Any]) -> str:
    """Compare with the target that the file has, as far as it has one."""
    try:
        truth = target.encode(table)
    except ValueError as error:
        return f"none ({error})"
    given = np.array([bool(cell) for cell in table.column(target.name)])
    if not given.any():
        return f"none (column {target.name!r} is empty)"
    return f"{show_scores(measured(target, outputs[given], truth[given]))} on {given.sum():,} rows with {target.name!r}"


# --- info ----------------------------------------------------------------------------------------------------------


def info(args: argparse.Namespace) -> None:
    """Tell about the installation, or about a model file."""
    if args.model is None:
        backprop.show_config()
        return
    network, fitted, training = _load(args.model)
    say = print_line
    say("model", str(args.model))
    say("network", describe_network(network))
    say("", network.summary())
    say("target", describe_target(fitted.target))
    say("columns", "\n".join(map(describe_column, fitted.columns)))
    say_left_out(say, fitted)
    shown = (
        f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in training.items()
    )
    say("training", "\n".join(shown))


# --- what the commands share ---------------------------------------------------------------------------------------


def _read(path: str | None) -> Table:
    if path is not None:
        return read_csv(path)
    with as_file(files("backprop").joinpath("data", "iris.csv")) as iris:
        return read_csv(iris, "iris.csv (bundled)")


def _load(path: str) -> tuple[Network, Preprocessing, Mapping[str, Any]]:
    """Return the network, the preprocessing and the training summary that `train` saved."""
    network, extra = load_with_extra(path)
    if not isinstance(network, Network):
        raise ValueError(f"{path}: a fleet; needs a network that `backprop train` wrote")
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
