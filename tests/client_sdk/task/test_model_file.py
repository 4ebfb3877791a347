"""A stranger's model file: whatever its description says, the reader ends in a sentence."""

import pytest

from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError
from client_sdk.task.model_file import Description, to_bytes
from client_sdk.task.models import build, spec_for

DEEP = "[" * 200_000 + "]" * 200_000
HUGE = "1" + "0" * 400  # a whole number that no float can hold


@pytest.fixture(scope="module")
def network():
    return build(spec_for("auto", (1, 8, 8), 2), 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", DEEP),
        ("classes", DEEP),
        ("classes", HUGE),
        ("mean", DEEP),
        ("mean", f"[{HUGE}]"),
        ("std", f"[{HUGE}]"),
        ("white", HUGE),
        ("ranges", DEEP),
        ("ranges", f'{{"float": [[{HUGE}], [1]]}}'),
        ("ranges", '{"float": [[0], [1e400]]}'),
    ],
)
def test_numbers_and_depths_beyond_python_are_one_sentence(network, key, value):
    spec = spec_for("auto", (1, 8, 8), 2)
    about = Description(spec, "own", ("no", "yes"), (0.5,), (0.5,), Preparation(1, 8, 8))
    data = to_bytes(network, about.metadata() | {key: value})
    with pytest.raises(DataError):
        Description.read(data, "The model")
