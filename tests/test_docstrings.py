"""Every example in a docstring runs and shows what it says."""

import doctest
import importlib
import inspect
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


class Finder(doctest.DocTestFinder):
    """Finds the examples of functions that are wrapped, too: they belong to the module of what is in the wrapping."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for examples in Finder().find(module, name):
        runner.run(examples)
    assert runner.summarize().failed == 0


def test_examples_of_wrapped_methods_are_found():
    from backprop.network import trainable

    assert {test.name for test in Finder().find(trainable, "trainable")} >= {
        f"trainable.Trainable.{name}" for name in ("fit", "minimize", "apply_gradients")
    }


@pytest.mark.parametrize("name", [name for name in backprop.__all__ if not name.startswith("_")])
def test_every_public_object_is_documented(name):
    assert getattr(backprop, name).__doc__
