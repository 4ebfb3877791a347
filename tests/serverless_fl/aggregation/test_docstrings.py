"""The examples in the docstrings of strategies run, and their settings need no NumPy."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import serverless_fl.aggregation

NAMES = [module.name for module in pkgutil.iter_modules(serverless_fl.aggregation.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    module = importlib.import_module(f"serverless_fl.aggregation.{name}")
    failed, _ = doctest.testmod(module)
    assert not failed


def test_settings_of_strategies_need_no_numpy():
    """A coordinator that only answers polls never loads it."""
    program = "import sys, serverless_fl.aggregation; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
