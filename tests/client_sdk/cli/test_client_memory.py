"""Where `join` keeps what a client remembers."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

from client_sdk.api import key_file
from client_sdk.cli.client_memory import memory_of

SERVER, EXPERIMENT = "http://127.0.0.1:8000", "20261128-1"


def memory(key=None, name="", experiment=EXPERIMENT):
    arguments = Namespace(server=SERVER, experiment=experiment, name=name, key_file=key)
    return memory_of(arguments, SimpleNamespace(id=experiment)).path


def test_it_lies_beside_the_key_and_is_of_one_experiment():
    key = key_file.default_path(SERVER, EXPERIMENT, "")
    assert memory().parent == key.parent
    assert memory().name.startswith(key.name)
    assert memory(Path("keys/one")) == Path(f"keys/one-{EXPERIMENT}.memory")
    several = {memory(), memory(name="x"), memory(Path("a")), memory(Path("a"), experiment="b")}
    assert len(several) == 4
