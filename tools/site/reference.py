"""The reference: one page per public module, with every name in its `__all__`, documented once."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mathml import formula

FOLDER = "reference"
MODULES = {
    "backprop": "Networks and what makes them",
    "backprop.Network": "A network",
    "backprop.Fleet": "Many networks",
    "backprop.layers": "Layers",
    "backprop.losses": "Losses",
    "backprop.optimizers": "Optimizers",
    "backprop.initializers": "Initial values",
    "backprop.schedules": "Learning rates over time",
    "backprop.callbacks": "Callbacks",
    "backprop.metrics": "Metrics",
    "backprop.history": "What training records",
    "backprop.training": "What training raises",
    "backprop.io": "Model files",
    "backprop.checkpoints": "Checkpoints",
    "backprop.solvers": "Solvers on all rows",
    "backprop.minimize": "SciPy's minimizers",
    "backprop.laplace": "How sure a network is",
    "backprop.importing": "Import",
    "backprop.bits": "Reproducible bits",
    "backprop.descent": "Descent on any function",
    "backprop.range_test": "Learning rates, found",
    "backprop.gradcheck": "Checked gradients",
    "backprop.trace": "A step, number by number",
    "backprop.plotting": "Plots",
    "backprop.tables": "Tables",
    "backprop.sklearn": "scikit-learn",
}
"""The pages: modules, and classes with too many methods to share a page."""

INHERITED = ("backprop.Network", "backprop.Fleet", "backprop.sklearn", "backprop.tables")
"""Pages of classes whose users call what they inherit."""


@dataclass(frozen=True)
class Name:
    """A public name: where users find it, and what it is."""

    public: str
    value: Any

    @property
    def short(self) -> str:
        """The last part of the name."""
        return self.public.rpartition(".")[2]

    @property
    def documented(self) -> bool:
        """Whether it is a class or a function of this library, whose docstring is the entry."""
        kind = inspect.isclass(self.value) or inspect.isfunction(self.value)
        return kind and self.value.__module__.startswith("backprop")

    @property
    def path(self) -> str:
        """Where it is defined, which is what mkdocstrings and its links call it."""
        return f"{self.value.__module__}.{self.value.__qualname__}"

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        text = inspect.getdoc(self.value) if self.documented else ""
        return " ".join((text or "").split("\n\n")[0].split()).replace("|", "\\|")


def uri(title: str) -> str:
    """Return where the page of a module or class is."""
    return f"{FOLDER}/{title}.md"


def names_of(module: ModuleType) -> Iterator[Name]:
    """Yield the public names of a module but its modules."""
    for short in module.__all__:
        value = getattr(module, short)
        if not isinstance(value, ModuleType) and not short.startswith("_"):
            yield Name(f"{module.__name__}.{short}", value)


def pages() -> dict[str, str]:
    """Return the Markdown of each page by its place in the site."""
    written: set[str] = set()
    made = {}
    # What has a page of its own, or a module nearer to it than `backprop`, is written there and linked elsewhere.
    for title in sorted(MODULES, key=lambda name: (name == "backprop", not name[9:10].isupper())):
        value = _resolved(title)
        names = list(names_of(value)) if isinstance(value, ModuleType) else [Name(title, value)]
        made[uri(title)] = _page(title, value, names, written)
    return {f"{FOLDER}/README.md": _index()} | made


def nav() -> list[dict[str, str]]:
    """Return the pages in the order of the navigation."""
    return [{title: uri(title)} for title in MODULES]


def links() -> dict[str, str]:
    """Return what a name in single backquotes links to."""
    found = {}
    for title in MODULES:
        if isinstance(module := _resolved(title), ModuleType):
            for name in names_of(module):
                if name.documented:
                    found[name.short] = found[name.public] = name.path
    return found


def defined(path: str) -> Any:
    """Return what a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _resolved(title: str) -> Any:
    return defined(title) if title[9:10].isupper() else importlib.import_module(title)


def _page(title: str, value: Any, names: list[Name], written: set[str]) -> str:
    parts = [f"# {MODULES[title]}", f"`{title}`"]
    if isinstance(value, ModuleType):
        parts += [inspect.getdoc(value) or "", _table(names)]
    if title == "backprop.layers":
        parts += ["## Activations", "Names for `Dense(activation=...)`; `z` is the score of a unit.", _activations()]
    for name in names:
        if not name.documented:
            parts += [f"## {name.short}", _shown(name.value)]
        elif name.path not in written:
            written.add(name.path)
            options = {"heading": name.short, "toc_label": name.short}
            options["inherited_members"] = str(title in INHERITED).lower()
            listed = (f"\n      {option}: {text}" for option, text in options.items())
            parts.append(f"::: {name.path}\n    options:{''.join(listed)}")
    return "\n\n".join(parts) + "\n"


def _table(names: list[Name]) -> str:
    rows = [f"| [`{name.short}`][{name.path}] | {name.summary} |" for name in names if name.documented]
    return "\n".join(["| name | |", "| --- | --- |", *rows]) if rows else ""


def _activations() -> str:
    from backprop.reference.activations import ACTIVATIONS

    rows = [f"| `{name}` | {formula(activation.formula)} |" for name, activation in ACTIVATIONS.items()]
    return "\n".join(["| name | formula |", "| --- | --- |", *rows])


def _shown(value: Any) -> str:
    """A constant: its value, or the keys of a mapping."""
    if isinstance(value, Mapping):
        return "A mapping with the keys " + ", ".join(f"`{key}`" for key in value) + "."
    if isinstance(value, (tuple, list, frozenset, set)):
        return ", ".join(f"`{item}`" for item in value) + "."
    return f"```python\n{value!r}\n```"


def _index() -> str:
    rows = [f"| [`{title}`]({title}.md) | {MODULES[title]} |" for title in MODULES]
    return "\n".join(["# Reference", "", "Every public name.", "", "| page | |", "| --- | --- |", *rows]) + "\n"
