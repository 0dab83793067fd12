"""Ctrl-C waits while something is changed that must not be left half done."""

from __future__ import annotations

# What `signal` wraps, without its enums: ten microseconds less, and a step of a small network takes thirty-five.
import _signal  # type: ignore[import-not-found]
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class HeldInterrupts:
    """Holds Ctrl-C back within the block: no step is cut in half, no epoch is forgotten, no guard stays shut.

    Only the main thread receives signals, so there is nothing to hold back in others. Nothing is held back while `call`
    runs code that is not ours. What has come and was not delivered is delivered when the block is left.
    """

    def __enter__(self) -> HeldInterrupts:
        self.pending: tuple[int, FrameType | None] | None = None
        self.open = False
        handler = _signal.getsignal(_signal.SIGINT)
        self.handler: Any = handler if callable(handler) else None
        if self.handler is not None:
            try:
                _signal.signal(_signal.SIGINT, self.hold)
            except ValueError:  # not in the main thread
                self.handler = None
        return self

    def hold(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal."""
        if self.open:
            self.handler(number, frame)
        else:
            self.pending = number, frame

    def deliver(self) -> None:
        """Let the handler that was there before have the signal, if one has come; it usually raises."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.handler(*pending)

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what is not ours; Ctrl-C may interrupt it."""
        try:
            self.open = True
            return function(*args, **kwargs)
        finally:
            self.open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.handler is not None:
            _signal.signal(_signal.SIGINT, self.handler)
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.deliver()
