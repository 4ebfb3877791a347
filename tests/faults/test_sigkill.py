"""Workers of a real server are killed at random times, over SQLite and MongoDB's protocol.

`make soak` does it hundreds of times.
"""

import os

import pytest

from client_sdk.api import connection
from tests.support import chaos
from tests.support.processes import Server

KILLS = int(os.environ.get("SIGKILLS", "2"))
SEED = int(os.environ.get("SIGKILL_SEED", "1"))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["sqlite", "mongo"])
async def test_every_round_closes_once_over_what_was_accepted(
    tmp_path, request, monkeypatch, store
):
    # Clients that come back know of no answer yet, and a busy machine starts a server slowly.
    monkeypatch.setattr(connection, "FIRST_SECONDS", chaos.PATIENT.give_up_after)
    settings = {"FL_DATA_DIR": str(tmp_path)}
    if store == "mongo":
        settings = {
            "MONGODB_URL": request.getfixturevalue("mongodb_url"),
            "FL_MONGODB_DATABASE": f"sigkill_{SEED}",
        }
    settings |= {"FL_LEASE_SECONDS": "1", "FL_STEP_SECONDS": "0.001", "FL_RATE_PER_SECOND": "0"}
    with Server("--workers", "2", **settings) as server:
        record = await chaos.run(server, seed=SEED, kills=KILLS, rounds=max(4, KILLS))
    rounds = max(4, KILLS)
    print(
        f"figure: {store}: {record.kills} kills, {rounds} rounds, {len(record.receipts)} receipts"
    )
    assert record.kills > 0
