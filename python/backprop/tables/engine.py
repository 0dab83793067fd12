"""DuckDB: the connection, its limits, and its errors in our words.

DuckDB is in the extra ``tables``. It is imported when a table is read, and nowhere else than here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backprop.base import checks as check

MISSING_LIBRARY = "tables: needs duckdb; install it with: pip install 'bpcore[tables]'"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
# What a connection needs before it has read anything.
SMALLEST_MEMORY = 100 * 10**6
INTERRUPT_SECONDS = 1.0
PROGRESS_AFTER_SECONDS = 2.0
QUERY = "backprop query"  # the names of threads
BEGINNING = "backprop beginning"
_SETTINGS = {"autoinstall_known_extensions": "false", "preserve_insertion_order": "true"}
# What `begin` has under way.
_threads: list[threading.Thread] = []
_connections: list[Any] = []


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading a table may take.

    Parameters
    ----------
    memory
        Bytes for the data, in DuckDB and as arrays together; None for no limit of ours.
    threads
        Threads of DuckDB; None for as many as there are processors.
    progress
        Whether to show how far reading is, where it takes some seconds.

    Examples
    --------
    >>> Limits(memory=10**9, threads=1)
    Limits(memory=1000000000, threads=1, progress=False)
    """

    memory: int | None = None
    threads: int | None = None
    progress: bool = False


def memory_size(name: str, text: str | int) -> int:
    """Return a size in bytes: a whole number of bytes, or a text such as ``500MB`` or ``1.5 GiB``.

    Examples
    --------
    >>> memory_size("memory", "1GB"), memory_size("memory", "512 MiB")
    (1000000000, 536870912)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*", str(text), re.IGNORECASE)
    unit = match[2].upper() if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or unit not in _UNITS:
        raise ValueError(f"{name}: needs a size such as 500MB or 2GB, got {check.shown(text)}")
    size = int(float(match[1]) * _UNITS[unit])
    if size < SMALLEST_MEMORY:
        raise ValueError(f"{name}: needs at least {shown_size(SMALLEST_MEMORY)}, got {check.shown(text)}")
    return size


def shown_size(size: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> shown_size(2_340_000_000)
    '2.3 GB'
    """
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def library() -> Any:
    """Return DuckDB's module.

    The engine alone, where it can be had: the Python around it takes twice as long to import, and nothing of it is
    needed here.
    """
    if importlib.util.find_spec("duckdb") is None:
        raise ImportError(MISSING_LIBRARY)
    try:
        return importlib.import_module("_duckdb")
    except ImportError:
        return importlib.import_module("duckdb")


def begin() -> None:
    """Begin a connection in a thread of its own; the next `connect` takes it.

    Importing DuckDB and connecting take 40 ms, about as long as importing what reads a table.
    """

    def work() -> None:
        with contextlib.suppress(Exception):  # `connect` tries it again, and raises
            _connections.append(_connected())

    _threads.append(threading.Thread(target=work, name=BEGINNING))
    _threads[-1].start()


def connect(limits: Limits) -> Any:
    """Return a new connection to a database of its own, in memory; what does not fit goes to a temporary folder."""
    while _threads:
        _threads.pop().join()
    connection = _connections.pop() if _connections else _connected()
    if limits.memory is not None:
        # The rest is for the arrays that its answers become.
        connection.execute(f"SET memory_limit = '{limits.memory // 2 // 10**6}MB'")
    if limits.threads is not None:
        connection.execute(f"SET threads = {limits.threads}")
    if limits.progress:  # it is to know how far it is, and not to print it
        connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    return connection


def _connected() -> Any:
    return library().connect(config=_SETTINGS)


def run(
    connection: Any, query: str, parameters: Sequence[Any] = (), *, arrays: bool = False, progress: bool = False
) -> Any:
    """Return the rows that a query gives, or its columns as arrays; Ctrl-C ends the wait for it at once.

    DuckDB looks for an interrupt between its tasks only, and one of them may take hours. So the query runs in a thread
    of its own, which is left alone if it does not end soon after the interrupt.
    """
    answers: list[Any] = []

    def work() -> None:
        try:
            result = connection.execute(query, list(parameters) or None)
            answers.append(result.fetchnumpy() if arrays else result.fetchall())
        except BaseException as error:
            answers.append(error)
        finally:
            done.set()

    done = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # which alone gets Ctrl-C
        work()
    else:
        threading.Thread(target=work, name=QUERY, daemon=True).start()
        try:
            if progress and not done.wait(PROGRESS_AFTER_SECONDS):
                _show_progress(connection, done)
            done.wait()
        except KeyboardInterrupt:
            connection.interrupt()
            done.wait(INTERRUPT_SECONDS)
            raise
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def _show_progress(connection: Any, done: threading.Event) -> None:
    """Show how far a query is until it is done."""
    from tqdm import tqdm

    with tqdm(total=100, desc="reading", unit="%", leave=False, bar_format="{desc}: {percentage:3.0f}%|{bar}|") as bar:
        while not done.wait(0.1):
            bar.n = max(bar.n, min(100.0, connection.query_progress()))
            bar.refresh()


@contextlib.contextmanager
def errors(name: str) -> Iterator[None]:
    """Turn what DuckDB raises into a ValueError that begins with a name and is one line."""
    duckdb = library()
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(f"{name}: does not fit into the memory that it may take ({_first_line(error)})") from error
    except (duckdb.InterruptException, RuntimeError) as error:
        if "interrupted" not in str(error).lower():
            raise
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise ValueError(located(name, explained(error))) from error


def located(name: str, text: str) -> str:
    """Return a message that begins with a name, or with a name and a line where the text does.

    Examples
    --------
    >>> located("t.csv", "line 3: 1 value"), located("t.csv", "no rows")
    ('t.csv, line 3: 1 value', 't.csv: no rows')
    """
    return name + (", " if re.match(r"line \d+( or below)?: ", text) else ": ") + text


class Folder:
    """A temporary folder that goes when nobody holds it any more, or at the end of the process."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="backprop-")
        self._clean = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __truediv__(self, name: str) -> str:
        return os.path.join(self.path, name)


def explained(error: Exception, line: Callable[[int], str] = "line {}".format) -> str:
    """Return what DuckDB says, in one line; `line` says where in the file a record is, which DuckDB calls a line."""
    text = str(error)
    if ragged := re.search(r"Line: (\d+)\n.*Expected Number of Columns: (\d+) Found: (\d+)", text, re.DOTALL):
        number, expected, found = (int(part) for part in ragged.groups())
        values = f"{_count(found, 'value')}, but the header has {_count(expected, 'column')}"
        hint = "; it begins with #" if "\nOriginal Line: #" in text else ""
        return f"{line(number)}: {values}{hint}"
    where = f"{line(int(match[1]))}: " if (match := re.search(r"CSV Error on Line: (\d+)", text)) else ""
    if "unterminated quote" in text:
        return f"{where}a quote that is opened and not closed"
    if "not utf-8" in text.lower():
        return f"{where}not UTF-8 text"
    if "maximum_line_size" in text.lower() or "maximum line size" in text.lower():
        return f"{where}a line that is longer than 2,000,000 bytes"
    if "No magic bytes" in text:
        return "not a whole Parquet file (its end is missing or damaged)"
    return where + _first_line(error)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    said = re.sub(r"^(Invalid Input|IO|Parser|Catalog|Binder|Conversion|Out of Memory) Error: ", "", said)
    hints = [line for line in lines[1:3] if line.startswith(("Did you mean", "Candidate"))]
    pointed = next((line for line in lines if line.startswith("LINE ")), "")
    return "; ".join([said, *hints, *([pointed] if pointed and "syntax" in said else [])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
