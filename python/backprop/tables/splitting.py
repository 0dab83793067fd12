"""Which rows are held out: at random, by class, by group, or the last ones in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = NDArray[np.int64]


def split_rows(
    n: int,
    share: float,
    seed: int,
    *,
    strata: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
) -> tuple[Indices, Indices]:
    """Hold rows out; return (training rows, rows held out), each ascending.

    Parameters
    ----------
    n
        How many rows there are.
    share
        Which share of them is held out.
    seed
        Of what is drawn.
    strata
        Classes, (n,): the same share of each is held out, at least one row of each that has two, and never all.
    groups
        Groups, (n,): the rows of one stay together.
    order
        Times, (n,): the last rows are held out; rows of the last training time are too, so that none is on both sides.

    Examples
    --------
    >>> split_rows(8, 0.25, 0, order=np.array([3, 1, 2, 8, 7, 6, 5, 4]))
    (array([0, 1, 2, 5, 6, 7]), array([3, 4]))
    """
    if order is not None:
        held_out = _last(order, share)
    elif groups is not None:
        held_out = _groups(groups, share, seed)
    else:
        draw = np.random.default_rng(seed).permutation(n)
        held_out = np.zeros(n, bool)
        if strata is None:
            held_out[draw[: min(round(n * share), n - 1)]] = True
        else:
            least = min(round(n * share), 1)
            for members in _members(strata, draw):
                wanted = max(round(len(members) * share), least)
                held_out[members[: min(wanted, len(members) - 1)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def folds(
    n: int,
    k: int,
    seed: int,
    *,
    strata: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
) -> Iterator[tuple[Indices, Indices]]:
    """Yield (training rows, rows held out) `k` times; arguments as in `split_rows`.

    Each row is held out once. With `order`, fold i is trained on the first i of k + 1 parts and held out on the next.

    Examples
    --------
    >>> sorted(int(row) for _, rows in folds(7, 3, 0) for row in rows)
    [0, 1, 2, 3, 4, 5, 6]
    """
    fold = np.zeros(n, np.int64)
    if order is not None:
        _, rank = np.unique(order, return_inverse=True)
        edges = np.quantile(rank, np.arange(1, k + 1) / (k + 1))
        part = np.searchsorted(edges, rank, side="left")
        for each in range(1, k + 1):
            yield np.flatnonzero(part < each), np.flatnonzero(part == each)
        return
    draw = np.random.default_rng(seed).permutation(n)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        sizes = np.bincount(group)
        filled = np.zeros(k)
        drawn = np.random.default_rng(seed).permutation(len(sizes))  # whatever the order of their names
        of_group = np.zeros(len(sizes), np.int64)
        for each in sorted(drawn, key=lambda g: -sizes[g]):  # the largest first, into the emptiest
            of_group[each] = target = int(filled.argmin())
            filled[target] += sizes[each]
        fold = of_group[group]
    elif strata is not None:
        start = 0
        for members in _members(strata, draw):
            fold[members] = (start + np.arange(len(members))) % k
            start += len(members)
    else:
        fold[draw] = np.arange(n) % k
    for each in range(k):
        yield np.flatnonzero(fold != each), np.flatnonzero(fold == each)


def _members(strata: NDArray[Any], draw: Indices) -> Iterator[Indices]:
    """Yield the rows of each class, in the order that was drawn."""
    _, group = np.unique(strata, return_inverse=True)
    together = draw[np.argsort(group[draw], kind="stable")]
    yield from np.split(together, np.cumsum(np.bincount(group))[:-1])


def _groups(groups: NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    held_out = np.zeros(len(sizes), bool)
    wanted, n_held_out = round(len(groups) * share), 0
    for each in np.random.default_rng(seed).permutation(len(sizes))[:-1]:
        if n_held_out + sizes[each] / 2 <= wanted and wanted:
            held_out[each] = True
            n_held_out += sizes[each]
    found: NDArray[np.bool_] = held_out[group]
    return found


def _last(order: NDArray[Any], share: float) -> NDArray[np.bool_]:
    n = len(order)
    wanted = min(round(n * share), n - 1)
    if not wanted:
        return np.zeros(n, bool)
    first = np.sort(order)[n - wanted]
    found: NDArray[np.bool_] = order >= first
    return found if not found.all() else order > first
