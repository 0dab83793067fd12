"""What a fit leaves that is refused: the estimator as it was."""

from __future__ import annotations

from typing import Any

import numpy as np


class Before:
    """An estimator as it is before a fit; what is raised in a ``with`` block of it takes the estimator back there.

    Its attributes are those of before, and a `numpy.random.RandomState` among them stands where it stood. What an
    attribute holds is not copied: a fit makes new arrays and lists until it trains.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.attributes = estimator, dict(vars(estimator))
        random = self.attributes.get("random_state")
        self.random = (random, random.get_state()) if isinstance(random, np.random.RandomState) else None

    def restore(self) -> None:
        """Take the estimator back."""
        attributes = vars(self.estimator)
        for name in attributes.keys() - self.attributes.keys():
            del attributes[name]
        attributes.update(self.attributes)
        if self.random is not None:
            random, state = self.random
            random.set_state(state)

    def __enter__(self) -> Before:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            self.restore()
