"""The training loop around the core: time slices, Ctrl-C, progress, history."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop import _threads
from backprop import _validation as check
from backprop._types import Data, TrainingSettings, TrainingState
from backprop.optimizers import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    from backprop.history import History
    from backprop.losses import Loss
    from backprop.network import Network

# The core trains this long between two looks at Ctrl-C and the progress bar.
SLICE_SECONDS = 0.05
# A run that ends before this shows no progress bar, so short runs do not even import tqdm.
PROGRESS_AFTER_SECONDS = 2.0


class DivergedError(ArithmeticError):
    """The loss of an epoch is not finite.

    The network is as the last step left it, and its history has every epoch up to and including that one.

    Attributes
    ----------
    epoch : int
        The epoch, counted from 1 over all calls of `fit`.
    loss : float
        Its loss: nan or inf.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([1, 1], dtype="float64", seed=0)
    >>> try:
    ...     history = net.fit([[1.0], [2.0]], [1.0, 2.0], optimizer=bp.SGD(learning_rate=1e100), batch_size=1)
    ... except bp.DivergedError as error:
    ...     print(error.epoch == net.history.epochs)
    True
    """

    def __init__(self, epoch: int, loss: float, learning_rate: float) -> None:
        self.epoch = epoch
        self.loss = loss
        self.learning_rate = learning_rate
        super().__init__(epoch, loss, learning_rate)

    def __str__(self) -> str:
        return (
            f"the loss of epoch {self.epoch} is {self.loss}: try a learning_rate below {self.learning_rate:g}, "
            "clip_norm or clip_value, or scale the columns of X"
        )


def fit(
    network: Network,
    data: Data,
    loss: Loss,
    optimizer: str | Optimizer,
    *,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    clip_norm: float | None,
    clip_value: float | None,
    tolerance: float | None,
    patience: int,
    n_threads: int | str,
    progress: bool | str,
) -> History:
    """Train a network on checked data; `Network.fit` documents the rest."""
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    epochs = check.integer("epochs", epochs, at_least=1)
    n_rows = len(data.X)
    if batch_size is not None and check.integer("batch_size", batch_size, at_least=1) >= n_rows:
        batch_size = None
    settings = TrainingSettings(
        batch_size=None if batch_size is None else int(batch_size),
        shuffle=check.boolean("shuffle", shuffle),
        clip_norm=None if clip_norm is None else check.number("clip_norm", clip_norm, above=0),
        clip_value=None if clip_value is None else check.number("clip_value", clip_value, above=0),
        tolerance=None if tolerance is None else check.number("tolerance", tolerance, at_least=0),
        patience=min(check.integer("patience", patience, at_least=1), sys.maxsize),
        n_threads=_threads.choose(
            None
            if check.is_auto("n_threads", n_threads, "an integer >= 1")
            else check.integer("n_threads", n_threads, at_least=1, at_most=_threads.MOST),
            6.0 * network.n_parameters * (batch_size or n_rows),
        ),
    )
    if not check.is_auto("progress", progress, "True, False"):
        progress = check.boolean("progress", progress)

    try:
        losses = np.empty(epochs)
    except (MemoryError, ValueError) as error:
        raise ValueError(f"epochs: needs a number for whose losses there is memory, got {epochs:,}") from error
    state = _begin(network, optimizer, settings, n_rows)
    first_epoch, last_epoch = state.epoch, state.epoch + epochs
    rates = np.array([optimizer.learning_rate])

    def train_on() -> str:
        run = network._core.Training(network._plan, loss, optimizer, settings, data, state, rates).run
        return str(run(last_epoch, SLICE_SECONDS, losses[state.epoch - first_epoch :]))

    start = time.perf_counter()
    reason = "interrupted"
    bar = _Progress(progress, epochs)
    with _HeldInterrupts() as interrupts:
        try:
            while (stop := train_on()) == "time":
                interrupts.deliver()
                bar.show(state.epoch - first_epoch, losses)
            reason = stop
        finally:
            done = state.epoch - first_epoch
            history = network.history
            history.extend(done, {"loss": losses[:done]})
            history.stop_reason = reason
            history.elapsed += time.perf_counter() - start
            bar.close(done, losses)
    if reason == "diverged":
        raise DivergedError(state.epoch, float(losses[done - 1]), optimizer.learning_rate)
    return network.history


def _begin(network: Network, optimizer: Optimizer, settings: TrainingSettings, n_rows: int) -> TrainingState:
    """Return the network's training state at the start of an epoch: the one it has, or a fresh one."""
    state, last = network._state, network._optimizer
    if state is None:
        bit_generator = np.random.PCG64(network._seed_sequences()[1])
        slots = optimizer.new_slots(network.n_parameters, network.dtype)
        state = network._state = TrainingState(network.parameters, slots, bit_generator)
    elif type(optimizer) is not type(last) or optimizer.hyperparameters != last.hyperparameters:
        state.slots = optimizer.new_slots(network.n_parameters, network.dtype)
        state.step = 0
    network._optimizer = optimizer
    state.cursor = 0
    state.loss_sum = state.weight_sum = 0.0
    state.best_loss, state.stale_epochs = math.inf, 0
    n_shuffled = n_rows if settings.shuffle and settings.batch_size is not None else 0
    if len(state.permutation) != n_shuffled:
        state.permutation = np.zeros(n_shuffled, np.int64)
    return state


class _HeldInterrupts:
    """Holds Ctrl-C back while the core runs, so that no step is cut in half and every epoch is recorded.

    Only the main thread receives signals, so there is nothing to hold back in others.
    """

    def __enter__(self) -> _HeldInterrupts:
        self.pending: tuple[int, FrameType | None] | None = None
        handler = signal.getsignal(signal.SIGINT)
        self.handler: Any = handler if callable(handler) else None
        if self.handler is not None:
            try:
                signal.signal(signal.SIGINT, self.hold)
            except ValueError:  # not in the main thread
                self.handler = None
        return self

    def hold(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal."""
        self.pending = number, frame

    def deliver(self) -> None:
        """Let the handler that was there before have the signal, if one has come; it usually raises."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.handler(*pending)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.handler is not None:
            signal.signal(signal.SIGINT, self.handler)
        if kind is None:
            self.deliver()


class _Progress:
    """A progress bar on stderr, once it is wanted."""

    def __init__(self, wanted: bool | str, epochs: int) -> None:
        self.epochs = epochs
        self.bar: Any = None
        self.start = time.perf_counter()
        if wanted == "auto":
            self.after = PROGRESS_AFTER_SECONDS
        else:
            self.after = 0.0 if wanted else math.inf

    def show(self, done: int, losses: NDArray[np.float64]) -> None:
        """Bring the bar up to date; called once in a time slice."""
        if self.bar is None:
            if time.perf_counter() - self.start < self.after:
                return
            from tqdm import tqdm

            self.bar = tqdm(total=self.epochs, unit="epoch", mininterval=0.5, smoothing=0, file=sys.stderr)
            self.bar.start_t -= time.perf_counter() - self.start  # the epochs before the bar took time as well
        if done:
            self.bar.set_postfix(loss=f"{losses[done - 1]:.4g}", refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self, done: int, losses: NDArray[np.float64]) -> None:
        """Leave the bar as it stands; one that was asked for appears now at the latest."""
        if self.bar is not None or self.after == 0:
            self.show(done, losses)
            self.bar.close()
