"""Registries that are filled from the definitions in modules, so that none can be forgotten in a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import TypeVar

T = TypeVar("T")


def registry(base: type[T], modules: Sequence[ModuleType], needed: Sequence[str]) -> Mapping[str, type[T]]:
    """Collect the subclasses of `base` that the modules define, by their `name`, in the order of their definition.

    Raises
    ------
    TypeError
        If a class lacks its `name` or what is `needed`, shares its name with another, or is not in its module's
        ``__all__``.
    """
    found: dict[str, type[T]] = {}
    for module in modules:
        for cls in vars(module).values():
            if not (isinstance(cls, type) and issubclass(cls, base) and cls.__module__ == module.__name__):
                continue
            complete(cls, base, ("name", *needed))
            name: str = cls.name  # type: ignore[attr-defined]
            if name in found:
                raise TypeError(f"{_full_name(cls)}: needs a name of its own, {name!r} is {found[name].__name__}")
            if cls.__name__ not in module.__all__:
                raise TypeError(f"{_full_name(cls)}: needs to stand in the module's __all__")
            found[name] = cls
    return MappingProxyType(found)


def complete(cls: type[T], base: type[T], needed: Sequence[str]) -> None:
    """Raise TypeError unless the class defines, or inherits from another than `base`, what is needed."""
    for attribute in needed:
        if getattr(cls, attribute, None) is getattr(base, attribute, None):
            raise TypeError(f"{_full_name(cls)}: needs a definition of {attribute!r}")


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
