"""The estimators beside scikit-learn's, on its data sets: `python -m bench.estimators --help`.

Both get the same folds, scaling and initial weights; the order of the rows differs. Fits are timed in turns, on one
thread, in processor time: other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

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


def load(name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows, targets, and the name of the estimator; targets of a regression are scaled."""
    X, y = DATA[name](return_X_y=True)
    return (X, scale(y), "MLPRegressor") if name == "diabetes" else (X, y, "MLPClassifier")


def make(module: Any, kind: str, seed: int) -> Any:
    return getattr(module, kind)(hidden_layer_sizes=50, max_iter=200, n_iter_no_change=np.inf, random_state=seed)


def scores(name: str, n_seeds: int) -> dict[str, list[float]]:
    """Accuracy or R² on rows held out, one for each fold and seed."""
    X, y, kind = load(name)
    found: dict[str, list[float]] = {"theirs": [], "ours": []}
    for seed in range(n_seeds):
        folds = (KFold if kind == "MLPRegressor" else StratifiedKFold)(5, shuffle=True, random_state=seed)
        for learn, test in folds.split(X, y):
            scaler = StandardScaler().fit(X[learn])
            for who, module in (("theirs", theirs), ("ours", ours)):
                model = make(module, kind, seed).fit(scaler.transform(X[learn]), y[learn])
                found[who].append(model.score(scaler.transform(X[test]), y[test]))
    return found


def times(name: str, repetitions: int) -> dict[str, float]:
    """Seconds of processor time of a `fit` on all rows: medians."""
    X, y, kind = load(name)
    X = scale(X)
    found: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(repetitions):
        for who, module in (("theirs", theirs), ("ours", ours)):
            model = make(module, kind, 0)
            start = time.process_time()
            model.fit(X, y)
            found[who].append(time.process_time() - start)
    return {who: median(seconds) for who, seconds in found.items()}


def row(name: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [name]
    for who in ("theirs", "ours"):
        found = result["scores"][who]
        cells.append(f"{mean(found):.4f} ± {stdev(found) / math.sqrt(len(found)):.4f}")
    old, new = (1e3 * result["seconds"][who] for who in ("theirs", "ours"))
    return f"| {' | '.join([*cells, f'{old:.0f}', f'{new:.1f}', f'{old / new:.1f}'])} |"


def table(results: dict[str, Any]) -> str:
    """The table in Markdown."""
    lines = [
        "| data | scikit-learn | backprop | scikit-learn, ms | backprop, ms | times faster |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        *(row(name, result) for name, result in results["data"].items()),
    ]
    about = results["machine"]
    return "\n".join(lines) + f"\n\nMeasured on {about['cpu']}, scikit-learn {results['sklearn']}, one thread.\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__)
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"{', '.join(DATA)} (default: all)")
    parser.add_argument("--repetitions", type=int, default=15, help="timed fits of each (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds, with five folds each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/estimators.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its two marks")
    options = parser.parse_args()
    names = options.data or list(DATA)
    if unknown := set(names) - set(DATA):
        parser.error(f"unknown data {', '.join(sorted(unknown))}; there are {', '.join(DATA)}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    machine.pin(1)
    threadpool_limits(1)
    results = {
        "machine": machine.describe(),
        "sklearn": sklearn.__version__,
        "data": {
            name: {"seconds": times(name, options.repetitions), "scores": scores(name, options.seeds)} for name in names
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
