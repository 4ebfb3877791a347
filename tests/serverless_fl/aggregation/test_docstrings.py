"""The examples in the docstrings of strategies run."""

import doctest
import importlib
import pkgutil

import pytest

import serverless_fl.aggregation

NAMES = [module.name for module in pkgutil.iter_modules(serverless_fl.aggregation.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    module = importlib.import_module(f"serverless_fl.aggregation.{name}")
    failed, _ = doctest.testmod(module)
    assert not failed
