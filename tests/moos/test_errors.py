import inspect
import pickle

import pytest

import moos
from moos import errors

ERRORS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error_class", ERRORS)
def test_an_error_survives_pickling_with_its_message(error_class):
    error = error_class("rate=2 is above 1; set it in (0, 1]")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error) == "rate=2 is above 1; set it in (0, 1]"


@pytest.mark.parametrize("error_class", ERRORS)
def test_every_error_is_a_moos_error(error_class):
    assert issubclass(error_class, errors.MoosError)


def test_every_error_stands_in_the_tree_of_the_modules_docstring():
    assert all(error_class.__name__ in errors.__doc__ for error_class in ERRORS)


def test_the_package_exports_what_it_says():
    assert all(getattr(moos, name) is not None for name in moos.__all__)
    assert {"Compressor", "render", "MoosError"} <= set(moos.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compress_all'"):
        _ = moos.compress_all
