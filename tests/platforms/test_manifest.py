"""The wskdeploy manifest deploys what the entry needs."""

from pathlib import Path

import pytest
import yaml

from app.entry.openwhisk import settings_of
from examples import openwhisk_gateway
from tests.support.ways import openwhisk_way

MANIFESTS = Path(__file__).parents[2] / "examples" / "openwhisk"
MANIFEST = MANIFESTS / "manifest.yaml"


@pytest.fixture(scope="module")
def package():
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["packages"]["federated-learning"]


def test_the_parameters_are_settings_and_all_that_it_cannot_do_without(package):
    inputs = package["actions"]["coordinator"]["inputs"]
    filled = {
        name: "a-value-from-the-environment" if value.startswith("$") else value
        for name, value in inputs.items()
    }
    settings = settings_of(filled)
    assert settings.mongodb_database == inputs["FL_MONGODB_DATABASE"]
    secrets = [name for name, value in inputs.items() if value == f"${name}"]
    assert secrets == ["MONGODB_URL", "FL_ADMIN_KEY"]
    for name in secrets:
        with pytest.raises(RuntimeError, match="bind MONGODB_URL and FL_ADMIN_KEY"):
            settings_of({k: v for k, v in filled.items() if k != name})


def test_the_action_is_a_raw_web_action_with_the_limits_that_the_tests_keep(package):
    action = package["actions"]["coordinator"]
    assert action["web"] == "raw"
    assert action["limits"]["timeout"] == openwhisk_gateway.SECONDS * 1000
    assert action["limits"]["memorySize"] * 1024**2 == openwhisk_way().memory


def test_the_alarm_reaches_the_action_every_minute(package):
    (rule,) = package["rules"].values()
    assert rule["action"] in package["actions"]
    trigger = package["triggers"][rule["trigger"]]
    assert trigger["feed"] == "/whisk.system/alarms/alarm"
    assert trigger["inputs"] == {"cron": "* * * * *"}  # no payload: what is no request is a tick


def test_the_helpers_action_is_the_same_image_in_its_role():
    found = yaml.safe_load((MANIFESTS / "helper.yaml").read_text(encoding="utf-8"))
    action = found["packages"]["federated-helper"]["actions"]["helper"]
    filled = {k: v if k.startswith("FL_ROLE") else "x" * 16 for k, v in action["inputs"].items()}
    assert settings_of(filled | {"FL_HELPER_FEWEST": 3, "FL_HELPER_PINS": ""}).role == "helper"
    assert (action["web"], action["limits"]["memorySize"]) == ("raw", 512)
