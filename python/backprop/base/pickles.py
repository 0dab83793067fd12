"""What is pickled of an object, and copied with it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def attributes(thing: Any, left_out: Collection[str]) -> dict[str, Any]:
    """Return the attributes of an object, those of the user's subclass too, but for some names."""
    found: Any = object.__getstate__(thing)
    both = found if isinstance(found, tuple) else (found,)
    return {name: each for part in both for name, each in (part or {}).items() if name not in left_out}
