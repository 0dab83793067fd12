"""``python -m backprop``: the command line; see `backprop.cli`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from backprop.tables import engine

_READING = ("train", "predict", "report")  # the commands that read a table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; a query that Ctrl-C left behind does not keep the process."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in _READING:
        engine.begin()  # while the rest is imported
    from backprop.cli import INTERRUPTED
    from backprop.cli import main as run

    status = run(words)
    if status == INTERRUPTED and any(thread.name == engine.QUERY for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
