"""Tasks on the workers of any executor: threads, processes, other machines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, TypeVar

from backprop.base import checks as check
from backprop.base import threads

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2  # tasks that are sent for each worker: the one that it does, and the next
_SECONDS = 0.02  # between two looks at Ctrl-C


def checked(name: str, value: Any) -> Executor:
    """Return an executor."""
    if not isinstance(value, Executor):
        hint = "; of a Dask client give client.get_executor()" if hasattr(value, "get_executor") else ""
        raise TypeError(f"{name}: needs a concurrent.futures.Executor, got {check.shown(value)}{hint}")
    return value


def n_workers(executor: Executor) -> int:
    """Return how many tasks it does at a time; the CPUs of this machine where it does not say."""
    client = getattr(executor, "_client", None)  # Dask
    if client is not None:
        return max(1, int(sum(client.nthreads().values())))
    number = getattr(executor, "_max_workers", None)  # concurrent.futures, loky, mpi4py
    return number if isinstance(number, int) and number > 0 else threads.usable_cpus()


def run(
    executor: Executor,
    function: Callable[[T], R],
    tasks: Iterable[T],
    take: Callable[[R], None],
    pause: Callable[[], None],
    here: Callable[[Callable[[T], R], T], R],
) -> None:
    """Let an executor call a function for each task, and take each result as soon as it comes.

    Tasks are made when a worker is about to have time for them. The first exception of a task ends it all. So does one
    of `pause`, which is called many times in a second. Where the executor breaks, because a worker has died, what is
    left is done by `here`, which is given the function and a task.
    """
    running: dict[Future[R], T] = {}
    rest = iter(tasks)
    most = _AHEAD * n_workers(executor)
    try:
        while True:
            while len(running) < most and (task := next(rest, None)) is not None:
                running[_sent(executor, function, task)] = task
            if not running:
                return
            done, _ = wait(running, _SECONDS, FIRST_COMPLETED)
            pause()
            for future in done:
                result = future.result()
                del running[future]
                take(result)
    except BrokenExecutor as error:
        warnings.warn(
            f"executor: it broke, so this process does the rest itself, with the same result ({error})",
            RuntimeWarning,
            stacklevel=2,
        )
        for future, task in running.items():
            is_done = future.done() and not future.cancelled() and future.exception() is None
            take(future.result() if is_done else here(function, task))
            pause()
        for task in rest:
            take(here(function, task))
            pause()
    finally:
        for future in running:
            future.cancel()


def _sent(executor: Executor, function: Callable[[T], R], task: T) -> Future[R]:
    """Send a task; to an executor that is broken, as one that has failed."""
    try:
        return executor.submit(function, task)
    except BrokenExecutor as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        return failed
    except RuntimeError as error:
        raise RuntimeError(f"executor: needs one that takes tasks, got {check.shown(executor)} ({error})") from error
