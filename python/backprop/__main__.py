"""``python -m backprop``: the command line; see `backprop.cli`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from backprop.cli import INTERRUPTED
from backprop.cli import main as run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; a query that Ctrl-C left behind does not keep the process."""
    status = run(argv)
    if status == INTERRUPTED:
        from backprop.tables.engine import QUERY

        if any(thread.name == QUERY for thread in threading.enumerate()):
            sys.stdout.flush()
            os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
