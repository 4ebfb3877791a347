"""Experiments are made, get their initial weights and their clients, and are stopped."""

from __future__ import annotations

import hashlib
import itertools
import random
import secrets

import numpy as np
import pytest

from client_sdk.errors import NotAuthorised, NotThere, RequestRefused, StateConflict
from serverless_fl.wire.schema import ModelOrigin
from tests.support.federation import config, weights
from tests.support.ways import EACH_KIND, is_problem

NAME = 'Krankenhaus Süd · 病院 · 🏥 \\ " % + & ='


async def test_creating_is_idempotent_by_its_key(api):
    body = {"name": NAME, "config": config().model_dump()}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first = await api.send("POST", "/v1/experiments", json=body, headers=headers)
    assert first.status_code == 201
    assert first.json()["part_bytes"] == api.way.part_bytes
    again = await api.send("POST", "/v1/experiments", json=body, headers=headers)
    assert again.json() == first.json()
    body["config"]["rounds"] = 7
    other = await api.send("POST", "/v1/experiments", json=body, headers=headers)
    assert is_problem(other, 409, "idempotency-key-reused")
    shown = await api.admin.experiment(first.json()["id"])
    assert (shown.name, shown.state) == (NAME, "awaiting_model")


@EACH_KIND
async def test_an_experiment_begins_from_the_model_that_it_names(api):
    data = weights(3.0)
    sha256 = hashlib.sha256(data).hexdigest()
    origin = ModelOrigin(experiment="an-earlier-one", version=7, sha256=sha256)
    made = await api.admin.create_experiment("", config(), secrets.token_hex(8), origin)
    with pytest.raises(RequestRefused) as other:
        await api.admin.upload_initial_model(made.id, weights(4.0), made.part_bytes)
    assert (other.value.status, other.value.code) == (422, "not-the-origin")
    await api.admin.upload_initial_model(made.id, data, made.part_bytes)
    shown = await api.admin.experiment(made.id)
    assert (shown.origin.experiment, shown.origin.sha256) == ("an-earlier-one", sha256)


@EACH_KIND
async def test_an_initial_model_goes_up_in_parts_of_any_size_and_order(api):
    made = await api.create()
    data = weights(1, big=np.random.default_rng(0).normal(size=50_000).astype(np.float32))
    edges = [0, 1, 4, 70_001, 70_256, len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(edges)]
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    path = f"/v1/experiments/{made.id}/initial-model"
    commit = {"sha256": hashlib.sha256(data).hexdigest(), "parts": digests}
    for number in (4, 0, 3, 1):
        put = await api.send(
            "PUT", f"{path}/parts/{number}?sha256={digests[number]}", content=parts[number]
        )
        assert put.json() == {
            "number": number,
            "sha256": digests[number],
            "size": len(parts[number]),
        }
    assert is_problem(await api.send("POST", path, json=commit), 409, "parts-missing")
    await api.send("PUT", f"{path}/parts/2?sha256={digests[2]}", content=parts[2])
    for _ in range(2):
        model = (await api.send("POST", path, json=commit)).json()
        assert (model["version"], model["size"]) == (0, len(data))
    assert await api.admin.download_model(made.id, 0, 10_007) == data


async def test_parts_of_every_size_up_to_the_limit_arrive_as_they_were_sent(api):
    made = await api.create()
    path = f"/v1/experiments/{made.id}/initial-model/parts"
    limit = api.way.part_bytes
    every_byte = bytes(range(256))
    for number, size in enumerate((1, 2, 3, 256, 65_537, limit - 1, limit)):
        data = (every_byte * (size // 256 + 1))[:size] if size < 1000 else random.randbytes(size)
        sha256 = hashlib.sha256(data).hexdigest()
        put = await api.send(
            "PUT",
            f"{path}/{number}?sha256={sha256}",
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        assert put.json() == {"number": number, "sha256": sha256, "size": size}
    over = b"x" * (limit + 1)
    url = f"{path}/0?sha256={hashlib.sha256(over).hexdigest()}"
    assert is_problem(await api.send("PUT", url, content=over), 413, "too-large")
    # Beyond what the platform carries it never arrives; whoever refuses it says the same.
    assert (await api.send("PUT", url, content=over * 2)).status_code == 413


@EACH_KIND
async def test_clients_enrol_once_into_shards_that_share_the_data_out(api):
    made = await api.create(clients=3, dataset_size=41)
    with pytest.raises(StateConflict, match="has not been uploaded yet"):
        await api.enrol(made, 0)
    await api.admin.upload_initial_model(made.id, weights(0), made.part_bytes)
    with pytest.raises(NotAuthorised):
        await api.admin.subscribe(made.id, "k" * 40)
    members = [await api.enrol(made, n, f"{NAME} {n}") for n in range(3)]
    again = await api.enrol(made, 1, "another name")
    assert (again.id, again.api.connection.key) == (members[1].id, members[1].api.connection.key)
    with pytest.raises(StateConflict) as full:
        await api.enrol(made, 3)
    assert full.value.code == "experiment-full"
    shards = [(await member.api.shard(made.id)).indices for member in members]
    assert sorted(index for shard in shards for index in shard) == list(range(41))
    listed = (await api.send("GET", f"/v1/experiments/{made.id}/clients")).json()
    assert sorted(c["name"] for c in listed) == [f"{NAME} {n}" for n in range(3)]
    assert sorted(c["shard_size"] for c in listed) == [13, 14, 14]


@EACH_KIND
async def test_a_stopped_experiment_keeps_its_model_and_lets_its_clients_go(api):
    experiment, members = await api.start(clients=2)
    assert (await members[0].status()).action == "train"
    shown = await api.admin.stop_experiment(experiment)
    assert (shown.state, shown.reason) == ("stopped", "Stopped by the admin.")
    assert (await api.admin.stop_experiment(experiment)).ended_at == shown.ended_at
    told = await members[0].status()
    assert (told.action, told.state, told.model_version) == ("done", "stopped", 0)
    with pytest.raises(RequestRefused) as refused:
        await members[0].upload(1, 1.0)
    assert (refused.value.status, refused.value.code) == (409, "out-of-turn")
    assert await api.admin.download_model(experiment) == weights(0)


@EACH_KIND
async def test_a_deleted_experiment_is_gone_for_everybody(api):
    experiment, members = await api.start(clients=2)
    path = f"/v1/experiments/{experiment}"
    renamed = await api.admin.change_experiment(experiment, name="over soon", keep_days=9)
    assert (renamed.name, renamed.config.keep_days) == ("over soon", 9)  # by PATCH
    assert is_problem(await api.send("DELETE", path), 409, "not-ended")
    assert is_problem(await api.send("DELETE", path, key=None), 401, "unauthenticated")
    for _ in range(2):
        gone = await api.send("DELETE", f"{path}?stop=true")
        assert (gone.status_code, gone.content) == (204, b"")
    assert is_problem(await api.send("GET", path), 404, "deleted")
    with pytest.raises(NotThere, match="was deleted"):
        await members[0].status()
