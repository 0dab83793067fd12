"""The commands: train, predict, report, info."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import backprop
from backprop.cli import output
from backprop.cli.output import note, print_line, print_nothing
from backprop.network import Network
from backprop.tables import scores
from backprop.tables import targets as predicted
from backprop.tables.loading import load_table_model
from backprop.tables.model import TableModel
from backprop.tables.predicting import Prediction
from backprop.tables.preparing import Plan
from backprop.tables.table import shorten
from backprop.tables.targets import Labels, Target
from backprop.tables.writing import written

_SETTINGS = (
    "hidden",
    "activation",
    "dtype",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "loss",
    "l2",
    "tolerance",
    "patience",
    "validation_size",
    "test_size",
    "folds",
    "class_weight",
    "threshold",
    "seed",
)
_COLUMNS = ("numeric", "categorical", "date", "ignore", "id", "weight", "group", "time")
# What the library calls by its Python name is an option here.
_OPTIONS = (
    "loss",
    "test_size",
    "validation_size",
    "class_weight",
    "folds",
    "memory",
    "threshold",
    "group",
    "time",
    "learning_rate",
)


def train(args: argparse.Namespace) -> None:
    """Train a network on a table and save it."""
    say: output.Say = print_nothing if args.quiet else print_line
    out = args.out or default_path(args.file[0] if args.file else "query" if args.sql else "iris")
    check_output("--out", out, *args.file)
    if args.plot:
        from backprop import plotting

        check_output("--plot", args.plot, *args.file, out)
        plotting.check_path(args.plot)
    settings = {name: getattr(args, name) for name in _SETTINGS}
    model = TableModel(**settings, n_threads=args.threads or "auto")
    with _source(args) as (source, name), _options():
        target = args.target or ("species" if source is not None and not args.file and not args.sql else None)
        plan = model.prepare(
            source,
            target,
            task=args.task,
            sql=args.sql,
            table=args.table,
            memory=args.memory,
            name=name,
            progress=not args.quiet,
            **{column: getattr(args, column) for column in _COLUMNS},
        )
        _say_plan(say, plan)
        start = time.perf_counter()

        def started(target: Target, network: Network, arguments: Mapping[str, Any]) -> None:
            nonlocal start
            several = f"{target.name}: " if len(plan.preprocessing.targets) > 1 else ""
            say("network", several + output.describe_network(network))
            say("training", several + output.describe_training(network, arguments, len(plan.split.validation)))
            start = time.perf_counter()

        model.train(plan, progress=False if args.quiet else "auto", on_start=started)
    seconds = time.perf_counter() - start
    for each, history in model.history.items():
        why = " (it stopped falling)" if history.stop_reason == "tolerance" else ""
        said = f"{each}: " if len(model.history) > 1 else ""
        took = f" in {seconds:.2f} s" if len(model.history) == 1 else ""
        say("", f"{said}{history.epochs:,} epochs{took}; final training loss {history.loss[-1]:.4g}{why}")
    _say_scores(say, model, plan, quiet=args.quiet)
    model.save(out)
    say("model", str(out))
    if args.plot:
        from backprop import plotting

        first = next(iter(model.history))
        history, loss = model.history[first], model.training["loss"]
        title = f"{Path(plan.name).name}: {first}, loss {history.loss[-1]:.3g} after {history.epochs:,} epochs"
        plotting.plot_loss(history.loss, args.plot, title, f"training loss ({loss} + l2)")
        say("plot", str(args.plot))
    say("next", shlex.join(["backprop", "predict", str(out), *args.file]))


def _say_plan(say: output.Say, plan: Plan) -> None:
    """Print what was found in a table, and what will be done with it."""
    fitted, split = plan.preprocessing, plan.split
    dropped = f"; {plan.n_dropped:,} more without a target left out" if plan.n_dropped else ""
    read = "".join(f"; {each}" for each in plan.said)
    say("data", f"{plan.name}: {len(plan):,} rows, {plan.n_columns:,} columns{dropped}{read}")
    for target in fitted.targets:
        say("target", output.describe_target(target, plan.counts.get(target.name)))
    say("columns", output.describe_columns(fitted))
    say("", f"{fitted.n_inputs:,} input{'' if fitted.n_inputs == 1 else 's'} of the network")
    for line in output.describe_missing(plan):
        say("missing", line)
    for each in plan.notes:
        say("note", each)
    output.say_left_out(say, fitted)
    held_out = f"{len(split.held_out):,} held out ({split.how}, seed {plan.settings.seed})"
    if plan.settings.folds:
        held_out = f"each held out in one of {plan.settings.folds} folds ({split.how}, seed {plan.settings.seed})"
    elif not len(split.held_out):
        held_out = "none held out, so that the score does not tell how well new rows will be predicted"
    watching = f", {len(split.validation):,} to tell when to stop" if len(split.validation) else ""
    say("rows", f"{len(split.fit):,} to train on{watching}, {held_out}")


def _say_scores(say: output.Say, model: TableModel, plan: Plan, *, quiet: bool) -> None:
    """Print how well the model does."""
    rows = model.scored_rows
    where = "held out" if len(plan.split.held_out) else "trained on"
    several = len(plan.preprocessing.targets) > 1
    for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True):
        found = model.scores[target.name]
        said = f"{target.name}: " if several else ""
        if folds := model.fold_scores.get(target.name):
            text = output.describe_folds(folds)
            say("score", said + text)
        else:
            first = scores.FIRST[target.task]
            base = scores.baseline(target, truth[plan.split.train], truth[rows])
            text = scores.shown(found, base, first)
            say("score", f"{said}{where}: {text}")
            # Weights of classes and a threshold trade accuracy for something else.
            traded = plan.settings.class_weight is not None or plan.settings.threshold is not None
            if (why := scores.worse(found, base)) and not (traded and isinstance(target, Labels)):
                note("warning", f"{said}{where}: {why}")
            if rest := scores.shown({name: value for name, value in found.items() if name not in first}):
                say("", rest + _about(target))
            if absent := scores.undefined(target, truth[rows]):
                say("note", f"{said}{where}: {absent}")
        if quiet:
            print(said + text)
        if isinstance(target, Labels) and target.n_outputs <= output.MAX_CLASSES_SHOWN and not folds:
            outputs = model.networks[target.name].predict(plan.X[rows])
            classes = scores.classes(target, outputs, model.settings.threshold)
            say("", output.confusion_table(target, classes, truth[rows]))


def _about(target: Target) -> str:
    """Return which class figures are about."""
    return f" (of {target.labels[target.positive]!r})" if isinstance(target, Labels) and target.n_outputs == 2 else ""


# --- predict -------------------------------------------------------------------------------------------------------


def predict(args: argparse.Namespace) -> None:
    """Predict the target of the rows of a table."""
    if args.out:
        check_output("--out", args.out, *args.file, args.model)
    model = _loaded(args)
    if args.threshold is not None:
        with _options():
            model = model.with_settings(threshold=args.threshold)
    fitted = model.preprocessing
    assert fitted is not None
    numbers = [target.name for target in fitted.targets if not isinstance(target, Labels)]
    if args.proba and len(numbers) == len(fitted.targets):
        raise ValueError(
            f"--proba: needs a model for a classification; {args.model} predicts the number {numbers[0]!r}"
        )
    with _source(args) as (source, name), _options():
        found = model.predictions(source, sql=args.sql, table=args.table, memory=args.memory, name=name)
        keep = [column for column in fitted.ids if column in found.table.columns and column not in args.keep]
        data = written(model, found, [*keep, *args.keep], proba=args.proba, path=args.out)
        if not args.out:
            try:
                sys.stdout.write(data.decode())
                sys.stdout.flush()
            except OSError as error:
                error.filename = "standard output"
                raise
        _note_predictions(model, found)


def _note_predictions(model: TableModel, found: Prediction) -> None:
    """Tell what had to be made up, and how well the predictions hit where the table knows."""
    fitted = model.preprocessing
    assert fitted is not None
    for each in found.notes:
        note("note", each)
    for name, count in found.missing.items():
        note("note", f"{name}: {count:,} missing")
    for name, unknown in found.unknown.items():
        examples = shorten((value for value, _ in unknown.most_common()), 5)
        note("note", f"{name}: {unknown.total():,} with a category that no training row had: {examples}")
    for target in fitted.targets:
        if target.name in found.table.columns:
            _note_score(model, found, target, len(fitted.targets) > 1)


def _note_score(model: TableModel, found: Prediction, target: Target, several: bool) -> None:
    said = f"{target.name}: " if several else ""
    try:
        scored = model.scored(found, target)
    except ValueError as error:
        note("score", f"{said}none ({error})")
        return
    first = scores.FIRST[target.task]
    rows = f"{scored.n_rows:,} row{'' if scored.n_rows == 1 else 's'} with {target.name!r}"
    note("score", f"{said}{scores.shown(scored.scores, names=first)} on {rows}")
    if scored.unknown:
        text = predicted.said_unknown(target.name, scored.unknown, scored.first_unknown)
        note("note", f"{text}; not in the score")
    if isinstance(target, Labels) and target.n_outputs == 2:
        rest = {name: value for name, value in scored.scores.items() if name not in first}
        note("score", f"{said}{scores.shown(rest)}{_about(target)}")


# --- report --------------------------------------------------------------------------------------------------------


def report(args: argparse.Namespace) -> None:
    """Tell how well a model does on the rows of a table."""
    if args.html:
        check_output("--html", args.html, *args.file, args.model)
    model = _loaded(args)
    with _source(args) as (source, name), _options():
        found = model.report(source, sql=args.sql, table=args.table, memory=args.memory, name=name)
    for line in str(found).splitlines():
        print("".join(c if c.isprintable() else "?" for c in line))
    if args.html:
        found.save(args.html)
        print_line("page", str(args.html))


# --- info ----------------------------------------------------------------------------------------------------------


def info(args: argparse.Namespace) -> None:
    """Tell about the installation, or about a model file."""
    if args.model is None:
        backprop.show_config()
        return
    model = load_table_model(args.model)
    fitted, say = model.preprocessing, print_line
    assert fitted is not None
    say("model", str(args.model))
    for target in fitted.targets:
        network = model.networks[target.name]
        say("network", output.describe_network(network))
        say("", network.summary())
        say("target", output.describe_target(target))
    say("columns", output.describe_columns(fitted))
    output.say_left_out(say, fitted)
    shown = (
        f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in model.training.items()
    )
    say("training", "\n".join(shown))


# --- what the commands share ---------------------------------------------------------------------------------------


def _loaded(args: argparse.Namespace) -> TableModel:
    try:
        model = load_table_model(args.model)
    except ValueError as error:
        with open(args.model, "rb") as file:
            if file.read(9)[8:] != b"{":  # where the header of a model begins
                raise ValueError(
                    f"{args.model}: not a safetensors file, or a damaged one; MODEL comes first, then the table"
                ) from error
        raise
    return model if args.threads is None else model.with_settings(n_threads=args.threads)


@contextlib.contextmanager
def _source(args: argparse.Namespace) -> Iterator[tuple[Any, str | None]]:
    """Yield what `open_table` takes: the files, none for a query, or the bundled data and their name."""
    if args.file:
        yield (args.file[0] if len(args.file) == 1 else args.file), None
    elif args.sql:
        yield None, None
    else:
        from importlib.resources import as_file, files

        with as_file(files("backprop").joinpath("data", "iris.csv")) as iris:
            yield iris, "iris.csv (bundled)"


@contextlib.contextmanager
def _options() -> Iterator[None]:
    """Call what a message names by the option that it is here."""
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(": ")
        if name == "target" and colon:
            raise ValueError(f"--target: {rest}") from error
        if name in _OPTIONS:
            raise ValueError(f"--{name.replace('_', '-')}: {rest}") from error
        raise


def default_path(source: Any) -> Path:
    """Return where the model of a source goes if nothing else was said.

    Examples
    --------
    >>> str(default_path("data/houses.csv.gz")), str(default_path("-"))
    ('houses.safetensors', 'model.safetensors')
    """
    text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    stem = Path(text).name
    for suffix in (".gz", ".zst", *Path(stem.removesuffix(".gz").removesuffix(".zst")).suffixes[-1:]):
        stem = stem.removesuffix(suffix)
    return Path(f"{stem if stem.strip('-*?[]') else 'model'}.safetensors")


def check_output(option: str, path: Path, *others: str | Path | None) -> None:
    """Raise before the work, not after it, when a file could not be written, or would replace one that is read."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{option}: needs the name of a file; {path} is none")
    if not path.parent.is_dir():
        raise ValueError(f"{option}: needs a folder that exists; {path.parent} does not")
    for other in others:
        if other is not None and path.resolve() == Path(other).resolve():
            raise ValueError(f"{option}: needs another name than {other}, which it would replace")
