"""A coordinator and a browser that the tests of a file share."""

from __future__ import annotations

import json

import httpx
import pytest

from client_sdk.data import datasets
from client_sdk.task import models
from tests.page.browser import CHROMIUM, Watched, chromium
from tests.support.federation import weights
from tests.support.processes import KEY, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(FL_DATA_DIR=str(tmp_path_factory.mktemp("page"))) as server:
        yield server


@pytest.fixture(scope="module")
def http(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{server.url}/v1", headers=headers, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Opens pages by their context's options; at the end none of them may have had a fault."""
    contexts, opened = [], []

    def open_(**options) -> Watched:
        contexts.append(browser.new_context(**options))
        opened.append(Watched(contexts[-1]))
        return opened[-1]

    yield open_
    for context in contexts:
        context.close()
    assert [w.faults for w in opened if w.faults] == []


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """Untrained weights for the digits, as a file that one would upload."""
    digits = datasets.load("digits", tmp_path_factory.mktemp("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    path = tmp_path_factory.mktemp("model") / "initial.safetensors"
    path.write_bytes(models.to_bytes(models.build(spec, 0), models.describe(digits, spec)))
    return path, len(digits.train_y)


def create(
    http: httpx.Client, name: str, initial: bytes | None = None, **changes
) -> tuple[str, str]:
    """An enrolling toy experiment: its id and enrolment key."""
    import hashlib

    settings = {
        **{"dataset": "toy", "dataset_size": 40, "model": "toy", "clients": 4},
        **{"clients_per_round": 2, "rounds": 2, "deadline_seconds": 3600},
    }
    body = {"name": name, "config": settings | changes}
    made = http.post("/experiments", json=body).raise_for_status().json()
    data = initial or weights(0)
    digest = hashlib.sha256(data).hexdigest()
    path = f"/experiments/{made['id']}/initial-model"
    http.put(f"{path}/parts/0", params={"sha256": digest}, content=data).raise_for_status()
    commit = json.dumps({"sha256": digest, "parts": [digest]})
    headers = {"Content-Type": "application/json"}
    http.post(path, content=commit, headers=headers).raise_for_status()
    return made["id"], made["enrolment_key"]


def enrol(http: httpx.Client, experiment: str, key: str, name: str) -> dict[str, str]:
    import secrets

    return (
        http.post(
            f"/experiments/{experiment}/clients",
            json={"client_key": secrets.token_hex(20), "name": name},
            headers={"Authorization": f"Bearer {key}"},
        )
        .raise_for_status()
        .json()
    )
