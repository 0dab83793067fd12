"""Plant faults one at a time, each in a fork that runs the tests up to the first that fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import only_built
from build import ROOT

LONGEST = 300  # seconds of computing: tests that take longer have noticed a fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, what plants it in this process, and the files of tests that are to notice it."""

    what: str
    plant: Callable[[], None]
    tests: Sequence[str]


def switch_on(number: int) -> Callable[[], None]:
    """What switches on a fault that is compiled in."""

    def plant() -> None:
        os.environ["BACKPROP_FAULT"] = str(number)

    return plant


class OneByOne:
    """A plugin of pytest that plants each fault in a fork, which runs the tests that are to notice it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults, self.missed, self.shows = faults, list[str](), True

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            print(report.longreprtext)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.shows:
            print(report.nodeid, report.longreprtext, sep="\n")

    def pytest_runtestloop(self, session: Any) -> bool:
        # all of them here at first, which also leaves everything imported and the oracles' numbers computed
        if session.testsfailed or not all_pass(session, session.items):
            raise session.Failed("without any fault")
        self.shows = False
        for k, fault in enumerate(self.faults, 1):
            started = time.perf_counter()
            seen = noticed(session, fault)
            if not seen:
                self.missed.append(fault.what)
            took = time.perf_counter() - started
            print(f"{k}/{len(self.faults)} {'noticed' if seen else 'MISSED '} {took:5.1f} s  {fault.what}", flush=True)
        return True


def all_pass(session: Any, items: Sequence[Any]) -> bool:
    """Run the tests, up to the first that fails."""
    for item, following in zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return False
    return True


def noticed(session: Any, fault: Fault) -> bool:
    """Whether a test fails with a fault, in a process of its own."""
    items = [item for name in fault.tests for item in session.items if item.path.name == name]
    if (child := os.fork()) == 0:
        failed = True
        try:
            signal.setitimer(signal.ITIMER_PROF, LONGEST)
            fault.plant()
            failed = not all_pass(session, items)
        finally:
            os._exit(failed)
    return os.waitpid(child, 0)[1] != 0


def missed(package: Path, faults: Sequence[Fault], select: str = "") -> list[str]:
    """The faults that no test of the package notices."""
    sys.path[:0] = [str(package), str(ROOT / "tests")]
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = str(package)  # for what the tests start
    only_built.enforce()
    import pytest

    plugin = OneByOne(faults)
    files = dict.fromkeys(str(ROOT / "tests" / name) for fault in faults for name in fault.tests)
    # A crash is noticed too, and needs no trace of its threads.
    plugins = ("terminal", "cacheprovider", "randomly", "faulthandler")
    options = [*(f"-pno:{name}" for name in plugins), "-k", select]
    if code := pytest.main(["--rootdir", str(ROOT), *options, *files], [plugin]):
        sys.exit(f"pytest: {code!r}")
    return plugin.missed


def report(title: str, faults: Sequence[Fault], unnoticed: list[str]) -> list[str]:
    print(*(f"missed: {what}" for what in unnoticed), sep="\n")
    print(f"{title}: {len(faults) - len(unnoticed)} of {len(faults)} faults noticed")
    return unnoticed
