"""Every example in a docstring runs and shows what it says."""

import doctest
import importlib
import pkgutil

import backprop
import pytest

# The command line's module runs when it is imported; the compiled cores have no docstring of their own to test.
MODULES = [
    "backprop",
    *(
        info.name
        for info in pkgutil.walk_packages(backprop.__path__, "backprop.")
        if not info.name.startswith(("backprop._core", "backprop._cpu", "backprop.__main__"))
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", [name for name in backprop.__all__ if not name.startswith("_")])
def test_every_public_object_is_documented(name):
    assert getattr(backprop, name).__doc__
