"""One thread at a time trains a network, and nobody else uses it meanwhile."""

from __future__ import annotations

import threading


class Guard:
    """What everything that changes a network's parameters holds: ``with network._guard: ...``.

    Reading costs no lock: `count` is odd while somebody trains and goes up at each beginning and end, so that a reader
    that sees the same even number before and after has read parameters that stood still. Only the holder of the lock
    writes `count` and `thread`, so that both are right without the GIL, too.
    """

    __slots__ = ("_lock", "count", "thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0
        self.thread = 0

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            where = "in a callback of" if self.thread == threading.get_ident() else "in another thread during"
            raise RuntimeError(f"the network is being trained: this call comes {where} a fit that has not returned")
        self.thread = threading.get_ident()  # before the count is odd: `check_reader` asks for it then
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count += 1
        self.thread = 0  # or this thread might be told, while the next one begins, that it is in its own callback
        self._lock.release()

    def check_reader(self, count: int) -> None:
        """Raise unless a reader that found this `count` may go on: nobody trains, or its own thread does."""
        if count != self.count or (count & 1 and self.thread != threading.get_ident()):
            raise RuntimeError("the network is being trained in another thread: its parameters do not stand still")
