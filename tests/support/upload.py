"""Plain HTTP for uploads that no sound client would send."""

from __future__ import annotations

import hashlib
import json
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


def running_experiment(url: str, clients: int = 4, **changes: Any) -> tuple[str, list[str]]:
    """A running experiment: its id, and its clients' tokens by slot."""
    settings = config(**{"clients": clients, "deadline_seconds": 10**6} | changes)
    with http(url) as caller:
        caller.headers.update(bearer(KEY))
        body = {"config": settings.model_dump(mode="json")}
        made = caller.post("/experiments", json=body).raise_for_status().json()
        path = f"/experiments/{made['id']}/initial-model"
        assert send(caller, path, MODEL, {}).status_code == 200
        tokens = {}
        for n in range(clients):
            got = caller.post(
                f"/experiments/{made['id']}/clients",
                json={"client_key": f"{n:04d}" * 10},
                headers=bearer(made["enrolment_key"]),
            )
            found = got.raise_for_status().json()
            tokens[found["client_id"]] = found["token"]
    return made["id"], [tokens[name] for name in sorted(tokens)]


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
