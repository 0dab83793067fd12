"""One library and one workload in a process of their own, so that rivals can take turns, each in its own environment.

The protocol: `python -m bench.worker PEER WORKLOAD THREADS` answers one JSON line when it is ready, and then one for
each JSON line `{"epochs": n, "shuffle": b}` on its standard input, until that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from bench.adapters import PEERS, Unsupported, prepare
from bench.workloads import Workload, loss_of, make_rows, make_weights, named


class WorkerError(Exception):
    """The worker cannot do what was asked of it, or died."""


def environment(name: str, workload: Workload, n_threads: int) -> dict[str, str]:
    """What pins every library to `n_threads`; the processor affinity is inherited."""
    threads = str(n_threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if n_threads > 1 else 'false'}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1" if workload.dtype == "float64" else "0",
        **dict(PEERS[name].environment),
    }


class Worker:
    """The asking end. Usable as a context, which ends the process."""

    def __init__(self, name: str, workload: Workload, n_threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", name, workload.name, str(n_threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(name, workload, n_threads),
            text=True,
        )
        self.about = self._answer()

    def run(self, epochs: int, *, shuffle: bool) -> dict[str, Any]:
        """Train from the initial weights: `seconds`, the final `loss`, `compile_seconds` so far; `busy`, the processors
        that the process had on average."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"epochs": epochs, "shuffle": shuffle}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: the missing answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"its process ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    name, workload, n_threads = sys.argv[1], PEERS[sys.argv[1]].share(named(sys.argv[2])), int(sys.argv[3])
    # Answers go to the true standard output; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    rows, weights = make_rows(workload), make_weights(workload)
    try:
        trainer = prepare(name, workload, rows, weights, n_threads)
        answer(note=getattr(trainer, "note", None), initial_loss=loss_of(workload, rows, weights))
        for line in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            run = trainer.run(**json.loads(line))
            answer(
                seconds=run.seconds,
                busy=(time.process_time() - cpu) / (time.perf_counter() - wall),
                loss=loss_of(workload, rows, run.weights),
                compile_seconds=getattr(trainer, "compile_seconds", 0.0),
            )
    except Unsupported as error:
        answer(error=str(error))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise


if __name__ == "__main__":
    main()
