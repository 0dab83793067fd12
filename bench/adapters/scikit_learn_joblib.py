"""scikit-learn's estimators, one `fit` after another, by joblib where there is more than one processor."""

from __future__ import annotations

from time import perf_counter

from joblib import Parallel, delayed

from bench.adapters import Run, member_of, stacked
from bench.adapters.scikit_learn import ScikitLearn
from bench.workloads import Rows, Weights, Workload


class Joblib:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> None:
        self.members = [ScikitLearn(*member_of(workload, rows, weights, k)) for k in range(len(rows.X))]
        self.parallel = Parallel(n_jobs=n_threads)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        start = perf_counter()
        runs = self.parallel(delayed(member.run)(epochs, shuffle=shuffle) for member in self.members)
        return Run(perf_counter() - start, stacked([run.weights for run in runs]))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Joblib:
    return Joblib(workload, rows, weights, n_threads)
