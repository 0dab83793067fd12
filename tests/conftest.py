import os

import numpy as np
import pytest
from backprop import _backend

# Where no compiled core was built, the reference is what the tests are about and its warning says nothing new.
if _backend.available() == (_backend.REFERENCE,):
    os.environ.setdefault(_backend.ENVIRONMENT_VARIABLE, _backend.REFERENCE)


@pytest.fixture(params=_backend.available())
def backend(request):
    """Every backend of this machine in turn."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)
