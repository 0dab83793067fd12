"""The estimators beside scikit-learn's, on its data sets: `python -m bench.estimators --help`.

Both get the same folds, scaling and initial weights; the order of the rows differs. Fits are timed in turns. On one
thread they are timed in processor time: other work on the machine counts little. With Adam the time is that of a fit of
200 epochs, with L-BFGS that of an iteration, of at most 300: each library has its own rules for when it is done.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import numpy as np
import sklearn
from backprop import sklearn as ours
from sklearn import neural_network as theirs
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler, scale
from threadpoolctl import threadpool_limits

from bench import machine

DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}
BEGIN, END = "<!-- python -m bench.estimators -->", "<!-- end -->"


class Settings(NamedTuple):
    """What both libraries are asked for."""

    solver: str
    n_threads: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of both libraries' estimators."""
        if self.solver == "lbfgs":
            return {"solver": "lbfgs", "max_iter": 300, "max_fun": 100_000, "tol": 0}
        return {"solver": "adam", "max_iter": 200, "n_iter_no_change": np.inf}

    @property
    def clock(self) -> Callable[[], float]:
        """What times a fit: threads share the processor time of a process."""
        return time.process_time if self.n_threads == 1 else time.perf_counter


def load(name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows, targets, and the name of the estimator; targets of a regression are scaled."""
    X, y = DATA[name](return_X_y=True)
    return (X, scale(y), "MLPRegressor") if name == "diabetes" else (X, y, "MLPClassifier")


def make(module: Any, kind: str, seed: int, settings: Settings) -> Any:
    own = {"n_threads": settings.n_threads} if module is ours else {}
    return getattr(module, kind)(hidden_layer_sizes=50, random_state=seed, **settings.arguments, **own)


def scores(name: str, n_seeds: int, settings: Settings) -> dict[str, list[float]]:
    """Accuracy or R² on rows held out, one for each fold and seed."""
    X, y, kind = load(name)
    found: dict[str, list[float]] = {"theirs": [], "ours": []}
    for seed in range(n_seeds):
        folds = (KFold if kind == "MLPRegressor" else StratifiedKFold)(5, shuffle=True, random_state=seed)
        for learn, test in folds.split(X, y):
            scaler = StandardScaler().fit(X[learn])
            for who, module in (("theirs", theirs), ("ours", ours)):
                model = make(module, kind, seed, settings).fit(scaler.transform(X[learn]), y[learn])
                found[who].append(model.score(scaler.transform(X[test]), y[test]))
    return found


def times(name: str, repetitions: int, settings: Settings) -> dict[str, float]:
    """Seconds of a `fit` on all rows, or of an iteration of it: medians."""
    X, y, kind = load(name)
    X = scale(X)
    found: dict[str, list[float]] = {"theirs": [], "ours": []}
    for seed in range(repetitions):
        for who, module in (("theirs", theirs), ("ours", ours)):
            model = make(module, kind, seed % 5, settings)
            start = settings.clock()
            model.fit(X, y)
            seconds = settings.clock() - start
            found[who].append(seconds / model.n_iter_ if settings.solver == "lbfgs" else seconds)
    return {who: median(seconds) for who, seconds in found.items()}


def row(name: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [name]
    for who in ("theirs", "ours"):
        found = result["scores"][who]
        cells.append(f"{mean(found):.4f} ± {stdev(found) / math.sqrt(len(found)):.4f}")
    old, new = (1e3 * result["seconds"][who] for who in ("theirs", "ours"))
    return f"| {' | '.join([*cells, f'{old:#.3g}', f'{new:#.3g}', f'{old / new:.1f}'])} |"


def table(results: dict[str, Any]) -> str:
    """The table in Markdown."""
    lines = [
        "| data | scikit-learn | backprop | scikit-learn, ms | backprop, ms | times faster |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        *(row(name, result) for name, result in results["data"].items()),
    ]
    about = results["machine"]
    n_threads = "one thread" if results["threads"] == 1 else f"{results['threads']} threads for backprop"
    return "\n".join(lines) + f"\n\nMeasured on {about['cpu']}, scikit-learn {results['sklearn']}, {n_threads}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__)
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"{', '.join(DATA)} (default: all)")
    parser.add_argument("--repetitions", type=int, default=15, help="timed fits of each (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds, with five folds each (default: %(default)s)")
    parser.add_argument("--solver", choices=("adam", "lbfgs"), default="adam", help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=1, help="for backprop; scikit-learn has one for its BLAS (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results/estimators.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its two marks")
    options = parser.parse_args()
    names = options.data or list(DATA)
    if unknown := set(names) - set(DATA):
        parser.error(f"unknown data {', '.join(sorted(unknown))}; there are {', '.join(DATA)}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    settings = Settings(options.solver, options.threads)
    machine.pin(options.threads)
    threadpool_limits(1)
    results = {
        "solver": settings.solver,
        "threads": settings.n_threads,
        "machine": machine.describe(),
        "sklearn": sklearn.__version__,
        "data": {
            name: {
                "seconds": times(name, options.repetitions, settings),
                "scores": scores(name, options.seeds, settings),
            }
            for name in names
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    print(text)
    if options.page is not None:
        before, rest = options.page.read_text().split(BEGIN)
        options.page.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
