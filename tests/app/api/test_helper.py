"""The helper's routes: who may call, what is refused, and what it remembers."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from app.config import BadSettings, Settings, read_settings
from app.main import create_app
from serverless_fl.privacy.secure import helper
from serverless_fl.privacy.secure.context import AttemptContext
from serverless_fl.privacy.secure.helper import Sealed
from serverless_fl.privacy.secure.terms import Terms
from tests.support.federation import Clock
from tests.support.helped import KEY, helping

CONTEXT = AttemptContext(
    experiment="e",
    round=3,
    attempt=1,
    model_sha256="a" * 64,
    config_sha256="b" * 64,
    terms=Terms(bits=32, max_weight_change=1.0, parties=5, most_examples=9, metrics=("loss",)),
    roster=(),
)


@pytest.fixture
async def app(fresh_store):
    store = await fresh_store()
    return await helping(store.documents, store.blobs, Clock())


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://helper", headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        yield client


async def body(http, count=3, context=CONTEXT, **changes):
    key = (await http.get("/v1/helper")).json()["key"]
    seals = {slot: helper.seal(context, slot, bytes.fromhex(key))[0].text for slot in range(count)}
    place = {"helper": key, "sequence": "weights", "first": 0, "count": 5}
    return Sealed.of(context, seals).plain | place | changes


async def test_anybody_may_read_the_key_and_the_coordinator_alone_may_ask(http):
    shown = await http.get("/v1/helper", headers={"Authorization": ""})
    assert (shown.status_code, shown.json()["fewest"], shown.json()["pinned"]) == (200, 3, False)
    asked = await body(http)
    for header in ("", "Bearer another-key-of-somebody"):
        refused = await http.post("/v1/helper/words", json=asked, headers={"Authorization": header})
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    good = await http.post("/v1/helper/words", json=asked)
    assert (good.status_code, len(good.content)) == (200, 20)


async def test_it_opens_one_sum_of_a_round_and_that_as_often_as_it_is_asked(http, app):
    asked = await body(http, 4)
    first = (await http.post("/v1/helper/words", json=asked)).content
    assert (await http.post("/v1/helper/words", json=asked)).content == first
    rest = await http.post("/v1/helper/words", json=asked | {"first": 2, "count": 3})
    assert np.array_equal(np.frombuffer(rest.content, "<u4"), np.frombuffer(first, "<u4")[2:])
    fewer = asked | {"updates": asked["updates"][:3]}
    for other in (fewer, asked | {"attempt": 2}, await body(http)):
        refused = await http.post("/v1/helper/words", json=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "helper-refused")
        assert refused.json()["detail"].startswith("The helper has opened another sum of round 3")
    assert (await http.post("/v1/helper/words", json=fewer | {"round": 4})).status_code == 200
    counts = await http.post("/v1/helper/words", json=asked | {"sequence": "counts", "count": 3})
    assert len(counts.content) == 24


async def test_another_process_over_its_store_has_the_same_key_and_memory(fresh_store):
    store = await fresh_store()
    keys, answers = set(), []
    asked = None
    for count in (3, 3, 4):
        app = await helping(store.documents, store.blobs, Clock())
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://helper",
            headers={"Authorization": f"Bearer {KEY}"},
        ) as http:
            keys.add((await http.get("/v1/helper")).json()["key"])
            asked = asked if asked and count == 3 else await body(http, count)
            answers.append((await http.post("/v1/helper/words", json=asked)).status_code)
    assert (len(keys), answers) == (1, [200, 200, 409])


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"helper": "0" * 64}, 409, "The experiment names another helper: the key here is"),
        ({"updates": []}, 422, ""),
        ({"count": 0}, 422, ""),
        ({"count": 2**24}, 422, ""),
        ({"first": -1}, 422, ""),
        ({"words": 64}, 422, ""),
        ({"sequence": "seeds"}, 422, ""),
        ({"experiment": "a/b"}, 422, ""),
        ({"metrics": ["x"] * 99}, 422, ""),
    ],
    ids=str,
)
async def test_what_is_no_question_is_refused_and_not_remembered(http, app, changes, status, said):
    refused = await http.post("/v1/helper/words", json=await body(http) | changes)
    assert refused.status_code == status
    assert refused.json()["detail"].startswith(said)
    documents = app.state.coordinator.context.repo.documents
    assert await documents.keys("helper_sums", "") == []


async def test_a_sum_of_too_few_or_of_seals_that_are_none_is_refused(http):
    few = await http.post("/v1/helper/words", json=await body(http, 2))
    assert few.json()["detail"] == "The sum has 2 updates; its clients and the helper want 3."
    asked = await body(http)
    twice = asked | {"updates": [*asked["updates"], asked["updates"][0]]}
    refused = await http.post("/v1/helper/words", json=twice)
    assert refused.json()["detail"] == "The sum has a client twice, or one that is none."
    none = asked | {"updates": [{"client": f"client-0{n}", "seal": "x"} for n in range(3)]}
    refused = await http.post("/v1/helper/words", json=none)
    assert refused.json()["detail"] == "A seal cannot be read: this is no seal of an update."


async def test_a_helper_runs_no_experiments(http):
    for path in ("/v1/experiments", "/", "/docs"):
        assert (await http.get(path)).status_code == 404
    assert (await http.get("/health")).json() == {"status": "ok"}
    assert (await http.get("/ready")).json() == {"status": "ready"}


async def test_the_role_is_a_setting_and_the_helper_opens_with_its_pins(tmp_path):
    """Its own lifespan: the store, the key, the pins out of one line."""
    pins = f"{'a' * 64} Hospital north, {'b' * 64}"
    app = create_app(
        read_settings(
            {"FL_ROLE": "helper", "FL_ADMIN_KEY": KEY, "FL_HELPER_PINS": pins}
            | {"FL_DATA_DIR": str(tmp_path), "FL_HELPER_FEWEST": 4}
        )
    )
    async with app.router.lifespan_context(app):
        service = app.state.coordinator
        assert dict(service.helping.helper.pins.names) == {
            "a" * 64: "Hospital north",
            "b" * 64: "b" * 64,
        }
        assert service.helping.helper.fewest == 4
        assert await service.tick() == []
        await service.close()


def test_a_coordinator_without_an_address_has_no_helper():
    assert Settings(helper_key="k" * 20).helper_url is None
    with pytest.raises(BadSettings, match="FL_HELPER_KEY: must be set where FL_HELPER_URL is"):
        read_settings({"FL_HELPER_URL": "https://helper.example.org/base"})
