"""Parts in gzip: fewer bytes on the wire, the same ones in the store."""

import httpx
import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.participant import Participant
from client_sdk.task.task import LocalUpdate
from serverless_fl.weights.deltas import encode_update
from tests.support.federation import ADMIN_KEY, weights

SIZE = 200_000


def model(seed: int) -> bytes:
    """Values of which most are small, as most of a trained model's changes are."""
    draw = np.random.default_rng(seed)
    return weights(0, big=(draw.normal(size=SIZE) ** 5).astype(np.float32))


class Trained:
    async def train(self, client_id, indices, data, task):
        return LocalUpdate(model(1), 10, {})


class Diverged:
    async def train(self, client_id, indices, data, task):
        return LocalUpdate(weights(np.nan, big=np.zeros(SIZE, np.float32)), 10, {})


class Way(httpx.AsyncBaseTransport):
    """To the coordinator; notes the parts, and may let none through that is packed."""

    def __init__(self, app, refusing=None):
        self.inner, self.refusing, self.parts = httpx.ASGITransport(app), refusing, []

    async def handle_async_request(self, request):
        if request.method == "PUT":
            packed = request.headers.get("content-encoding")
            self.parts.append((packed, len(request.content)))
            if packed and self.refusing:
                return httpx.Response(self.refusing, text="what is this?")
        return await self.inner.handle_async_request(request)


async def take_part(
    federation, refusing=None, part_bytes=1 << 20, without=(), trainer=None, **settings
):
    """One client's turn; gives the parts that it sent, and the round."""
    federation.limits = Limits(part_bytes=part_bytes)
    federation.app.state.coordinator = federation.coordinator()
    experiment, members = await federation.start(
        initial=model(0), clients=1, clients_per_round=1, rounds=1, keep_updates=1, **settings
    )
    (member,) = members.values()
    task = (await member.status()).model_copy(update={name: [] for name in without})
    way = Way(federation.app, refusing)
    async with CoordinatorClient(
        "http://coordinator", ADMIN_KEY, retry=Retry(give_up_after=0), transport=way
    ) as api:
        client = Participant(
            api.using(member.api.connection.key), experiment, "k" * 40, trainer or Trained()
        )
        client.id = member.id
        await client._take_part(task)
    if trainer is None:
        kept = await federation.admin.download_update(experiment, 1, 0)
        assert safetensors.numpy.load(kept)["big"].size == SIZE
    return way.parts, await federation.admin.round(experiment, 1)


@pytest.mark.parametrize("part_bytes", [1 << 20, 100_000])
async def test_int8_is_packed_on_the_way_and_stored_as_it_is(federation, part_bytes):
    parts, round_ = await take_part(federation, part_bytes=part_bytes, update_encoding="delta-int8")
    assert {packed for packed, size in parts if size > 1000} == {"gzip"}
    assert sum(size for _, size in parts) < 0.8 * round_.update_bytes
    size = len(encode_update(model(0), model(1), "delta-int8", 0))
    assert round_.update_bytes == round_.updates[0].size == size
    assert (len(parts) > 1) == (part_bytes < 1 << 20)


@pytest.mark.parametrize("encoding", ["weights", "delta-float32", "delta-float16"])
async def test_what_does_not_shrink_is_sent_as_it_is(federation, encoding):
    parts, round_ = await take_part(federation, update_encoding=encoding)
    assert parts == [(None, round_.update_bytes)]


async def test_to_a_coordinator_that_does_not_say_so_nothing_is_packed(federation):
    parts, _ = await take_part(
        federation, without=("content_codings",), update_encoding="delta-int8"
    )
    assert [packed for packed, _ in parts] == [None]


@pytest.mark.parametrize("status", [400, 415, 422])
async def test_where_it_is_not_let_through_parts_are_sent_again_as_they_are(federation, status):
    parts, round_ = await take_part(
        federation, refusing=status, part_bytes=100_000, update_encoding="delta-int8"
    )
    assert [packed for packed, _ in parts].count("gzip") <= 8  # those under way at that moment
    assert sum(size for packed, size in parts if not packed) == round_.update_bytes


async def test_what_is_refused_for_what_it_holds_is_not_sent_again_as_it_is(federation):
    parts, round_ = await take_part(federation, trainer=Diverged(), update_encoding="delta-int8")
    assert [packed for packed, _ in parts] == ["gzip"]
    assert [(r.client, r.code) for r in round_.refused] == [("client-00", "non-finite")]
