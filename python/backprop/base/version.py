"""The version of the installed distribution."""

from __future__ import annotations


def version() -> str:
    """Return the version, and ``0+unknown`` for a source tree that was never installed."""
    from importlib import metadata  # asked for rarely, and it takes long to import

    try:
        return metadata.version("bpcore")
    except metadata.PackageNotFoundError:
        return "0+unknown"
