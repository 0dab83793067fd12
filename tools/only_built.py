"""Nothing but the package on PYTHONPATH may be imported: `enforce`, and a plugin of pytest that calls it.

An editable install has a finder that comes before PYTHONPATH: with it, a tool would build one core and run another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def enforce() -> None:
    """Call it before `backprop` is imported. Without a package on PYTHONPATH, any that is installed will do."""
    folders = [Path(folder).resolve() for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    package = next((folder for folder in folders if (folder / "backprop/__init__.py").exists()), None)
    if package is None:
        return
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__name__.startswith("ScikitBuild")]
    import backprop

    if not Path(backprop.__file__).resolve().is_relative_to(package):
        sys.exit(f"backprop: needs the package of {package}, got {backprop.__file__}")


def pytest_load_initial_conftests() -> None:
    enforce()
