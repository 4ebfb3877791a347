"""Further sets of tensors that an update carries: SCAFFOLD's control variates."""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits, Subscriber
from client_sdk.tools.recompute import Contributed, Recomputed, trained
from serverless_fl.aggregation.facts import round_facts, update_facts
from serverless_fl.aggregation.scaffold import Scaffold
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.records import UpdateCommit, WeightsCommit
from serverless_fl.weights.deltas import add_companions, encode_update
from serverless_fl.weights.header import layout_of
from tests.support.federation import Federation, config
from tests.support.gathering import sha

CLIENTS = 5
CUTS = {
    "one task": Limits(lease_seconds=30),
    "a task a call": Limits(part_bytes=256, group_size=2, step_seconds=0, lease_seconds=30),
}


def model(*seed):
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save(
        {
            "a": draw.normal(size=(9, 17)).astype(np.float32),
            "n": draw.integers(0, 99, size=7),
            "z": draw.normal(size=40),
        }
    )


def controls(*seed):
    values = safetensors.numpy.load(model(*seed, 7))
    return {"control": {name: values[name].reshape(-1) for name in ("a", "z")}}


class Running:
    """An experiment with SCAFFOLD straight over the service."""

    @classmethod
    async def of(cls, store, limits, **settings):
        self = cls()
        self.federation = Federation(store.documents, store.blobs, limits=limits)
        service = self.federation.coordinator()
        made_of = config(
            clients=CLIENTS, clients_per_round=CLIENTS, quorum=CLIENTS, momentum=0, **settings
        )
        self.config = replace(made_of.to_config(), strategy=Choice("scaffold"))
        made, key = await service.experiments.create("x", self.config, secrets.token_hex(8))
        self.id = made.id
        parts = await self.store(model(1000), service.experiments.store_initial_part, made.id)
        commit = WeightsCommit(sha256=sha(model(1000)), parts=parts)
        await service.experiments.commit_initial(made.id, commit)
        tokens = [
            await service.enrolment.subscribe(made.id, key, Subscriber(client_key=f"{n}" * 40))
            for n in range(CLIENTS)
        ]
        clients = [await service.enrolment.client_of(made.id, got.token) for got in tokens]
        self.clients = sorted(clients, key=lambda client: client.slot)
        return self

    async def store(self, data, put, *place):
        size = self.federation.limits.part_bytes
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        for number, part in enumerate(parts):
            await put(*place, number, sha(part), part)
        return [sha(part) for part in parts]

    async def upload(self, client, number, data):
        updates = self.federation.coordinator().updates
        parts = await self.store(data, updates.store_part, client, number)
        commit = UpdateCommit(sha256=sha(data), parts=parts, num_examples=1 + client.slot)
        await updates.commit(client, number, commit)

    async def closed(self, number):
        for _ in range(300):
            experiment, _ = await self.federation.coordinator().rounds.advance(self.id)
            if experiment.model_version == number:
                return
        raise AssertionError("the round has no end")

    async def files(self, number):
        version = await self.federation.coordinator().models.version(self.id, number)
        return await self.bytes_of(version.blob), {
            name: await self.bytes_of(blob) for name, blob in version.state.items()
        }

    async def bytes_of(self, blob):
        parts = [await self.federation.blobs.get(blob.key(n)) for n in range(len(blob.parts))]
        return b"".join(parts)


@pytest.mark.parametrize("encoding", ["weights", "delta-float16"])
@pytest.mark.parametrize("cut", CUTS)
async def test_their_means_go_into_the_step(store, cut, encoding):
    running = await Running.of(store, CUTS[cut], rounds=2, update_encoding=encoding)
    for number in (1, 2):
        base, state = await running.files(number - 1)
        group_size, contributed = CUTS[cut].group_size, []
        for client in running.clients:
            seed = (number, client.slot)
            update = encode_update(base, model(*seed), encoding, seed=0)
            data = add_companions(base, update, encoding, controls(*seed))
            await running.upload(client, number, data)
            facts = update_facts(client.slot, 1 + client.slot, {})
            values = trained(layout_of(base), base, data, encoding, 1.0, ["control"])
            contributed.append(Contributed(facts, 1.0, values))
        await running.closed(number)
        facts = round_facts(running.config, number, CLIENTS, [u.facts for u in contributed])
        groups = [contributed[at : at + group_size] for at in range(0, CLIENTS, group_size)]
        again = Recomputed(Scaffold(), facts, base, base, state, groups)
        assert again.files() == await running.files(number)
        found = safetensors.numpy.load((await running.files(number))[1]["control"])
        before = safetensors.numpy.load(state["control"])["a"] if state else 0
        means = np.mean([controls(number, n)["control"]["a"] for n in range(CLIENTS)], axis=0)
        np.testing.assert_allclose(found["a"], before + means.reshape(9, 17), rtol=1e-5, atol=1e-6)
        assert not found["n"].any()


async def test_an_update_without_them_is_refused(store):
    running = await Running.of(store, CUTS["one task"])
    with pytest.raises(BadWeights, match="__control__") as refused:
        await running.upload(running.clients[0], 1, model(1))
    assert refused.value.code == "layout-mismatch"


async def test_a_model_whose_tensor_has_their_name_is_refused():
    base = safetensors.numpy.save({"w": np.ones(1), "__control__.w": np.ones(1)})
    with pytest.raises(BadWeights, match="rename it"):
        add_companions(base, base, "weights", {"control": {"w": np.ones(1)}})
