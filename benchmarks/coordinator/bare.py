"""The peer of benchmarks/coordinator/requests.py: FastAPI alone, with bodies of one size.

It answers with a body of a status answer's size, so that both servers send as much.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from mangum import Mangum

app = FastAPI()
handler = Mangum(app, lifespan="off")
WAITING = {
    "action": "wait",
    "round": 1,
    "retry_after": 0.25,
    "message": "Your update is in; others are still training.",
}
TRAINING = {
    "action": "train",
    "round": 1,
    "attempt": 1,
    "base_version": 0,
    "model": {"sha256": "a1" * 32, "size": 87904},
    "deadline": "2026-11-24T10:15:00.123456Z",
    "seconds_left": 3599.123456,
    "training": {
        "local_epochs": 10,
        "batch_size": 32,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "seed": 0,
    },
    "part_bytes": 8388608,
    "direct": False,
    "max_update_bytes": 153440,
}


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/waiting")
async def waiting() -> dict[str, Any]:
    return WAITING


@app.get("/training")
async def training() -> dict[str, Any]:
    return TRAINING


@app.put("/part")
async def part(request: Request) -> dict[str, Any]:
    return {"number": 0, "sha256": "a1" * 32, "size": len(await request.body())}


@app.post("/commit")
async def commit(commit: dict[str, Any]) -> dict[str, Any]:
    return {"round": 1, "client_id": "client-07", "sha256": commit["sha256"], "size": 87904} | {
        "num_examples": commit["num_examples"]
    }
