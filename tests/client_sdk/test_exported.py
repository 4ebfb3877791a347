"""What a user imports from `client_sdk`."""

import subprocess
import sys

import pytest

import client_sdk

PUBLIC = [
    *("Answer", "Arrays", "BadAnswer", "BadSettings", "Batched", "ClientError"),
    "CoordinatorClient",
    *("CoordinatorUnreachable", "CorruptDownload", "Data", "DataError", "Dataset"),
    *("DirectRefused", "EmbeddedCoordinator", "Engine", "Event", "FlowerAppTask", "FlowerTask"),
    *(
        "FunctionTask",
        "InLine",
        "Items",
        "LocalTrainer",
        "Memory",
        "ModelSpec",
        "NotAuthorised",
        "NotThere",
    ),
    *("Offer", "Outcome", "Participant", "PartlyShared", "PictureTask", "Processes"),
    *("Ray", "RequestRefused", "Result"),
    *("Row", "Simulation", "SimulationResult", "SiteTables", "SklearnTask", "StateConflict"),
    *("Task", "TorchTask", "TrainSettings", "TrainingFailed", "Turn", "TwoLayerCNN", "Watchers"),
    *("as_data", "ditto", "export", "fingerprint", "initial_model", "load", "picture_task"),
    *("predict", "read_identity", "read_offer", "read_pins", "read_sites", "simulate"),
    *("simulate_async", "spec_for", "verify"),
]


def test_the_public_names():
    """A name that is added or removed here is a change for users: it goes into the changelog."""
    assert client_sdk.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(client_sdk))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_is_there(name):
    found = getattr(client_sdk, name)
    assert found.__name__ == name
    assert found.__module__.startswith("client_sdk.")


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        client_sdk.nonsense  # noqa: B018


def test_the_package_and_its_errors_do_without_pytorch():
    code = "import sys; from client_sdk import DataError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
