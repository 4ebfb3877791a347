"""Plain HTTP to a coordinator, by the API's documentation alone; and uploads that it refuses."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

import httpx
import numpy as np

from tests.support.federation import config, weights
from tests.support.processes import KEY

MODEL = weights(0, big=np.zeros(500, np.float32))


def http(url: str) -> httpx.Client:
    return httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=120)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def create(admin: httpx.Client, name: str, initial: bytes = b"", **changes: Any) -> tuple[str, str]:
    """An enrolling experiment, a toy but for the changes: its id and enrolment key."""
    settings = {
        **{"dataset": "toy", "dataset_size": 40, "model": "toy", "clients": 4},
        **{"clients_per_round": 2, "rounds": 2, "deadline_seconds": 3600},
    }
    body = {"name": name, "config": settings | changes}
    made = admin.post("/experiments", json=body).raise_for_status().json()
    path = f"/experiments/{made['id']}/initial-model"
    send(admin, path, initial or weights(0), {}).raise_for_status()
    return made["id"], made["enrolment_key"]


def enrol(caller: httpx.Client, experiment: str, key: str, name: str) -> dict[str, str]:
    """A client of that name: its id and token, as the coordinator answers."""
    body = {"client_key": secrets.token_hex(20), "name": name}
    path = f"/experiments/{experiment}/clients"
    return caller.post(path, json=body, headers=bearer(key)).raise_for_status().json()


def running_experiment(url: str, clients: int = 4, **changes: Any) -> tuple[str, list[str]]:
    """A running experiment: its id, and its clients' tokens by slot."""
    settings = config(**{"clients": clients, "deadline_seconds": 10**6} | changes)
    with http(url) as caller:
        caller.headers.update(bearer(KEY))
        made_of = settings.model_dump(mode="json")
        experiment, key = create(caller, "", MODEL, **made_of)
        found = [enrol(caller, experiment, key, "") for _ in range(clients)]
    tokens = {one["client_id"]: one["token"] for one in found}
    return experiment, [tokens[name] for name in sorted(tokens)]


def send(
    caller: httpx.Client, path: str, data: bytes, commit: dict[str, Any], **lies: Any
) -> httpx.Response:
    """Put one part and commit it; `lies` take the place of what is true of it."""
    sha = hashlib.sha256(data).hexdigest()
    put = caller.put(f"{path}/parts/0", params={"sha256": lies.get("sha256", sha)}, content=data)
    if put.status_code != 200:
        return put
    body = {"sha256": sha, "parts": [sha]} | commit | lies
    return caller.post(
        path,
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
