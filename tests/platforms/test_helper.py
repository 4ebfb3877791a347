"""The role `helper` on Lambda and OpenWhisk: its words arrive, as many as an answer holds."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import ExitStack

import numpy as np
import pytest

from examples.lambda_gateway import http_api
from examples.lambda_local import LambdaContainer
from examples.openwhisk_local import OpenWhiskContainer
from serverless_fl.privacy.secure import helper
from serverless_fl.privacy.secure.context import AttemptContext
from serverless_fl.privacy.secure.helper import Sealed
from serverless_fl.privacy.secure.streams import apply_streams
from serverless_fl.privacy.secure.terms import Terms
from serverless_fl.wire.masking import MAX_WORDS
from tests.support.federation import ADMIN_KEY
from tests.support.ways import (
    api_at,
    invoke,
    lambda_way,
    openwhisk_way,
    through_lambda,
    through_openwhisk,
)

CONTEXT = AttemptContext(
    experiment="e",
    round=1,
    attempt=1,
    model_sha256="a" * 64,
    config_sha256="b" * 64,
    terms=Terms(bits=16, max_weight_change=1.0, parties=3, most_examples=9, metrics=()),
    roster=(),
)


@pytest.fixture
def bound(mongodb_url):
    return {
        "FL_ROLE": "helper",
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"helper_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
    }


@pytest.mark.parametrize("platform", ["lambda", "openwhisk"])
async def test_words_arrive_as_many_as_an_answer_holds_and_a_tick_does_nothing(platform, bound):
    with ExitStack() as stack:
        if platform == "lambda":
            container = stack.enter_context(
                LambdaContainer(bound | {"AWS_DEFAULT_REGION": "eu-west-1"})
            )
            way, carrier = lambda_way(http_api), through_lambda([container])
        else:
            container = stack.enter_context(OpenWhiskContainer({}))
            way, carrier = openwhisk_way(), through_openwhisk([container], bound)
        async with api_at(carrier, way) as api:
            key = (await api.send("GET", "/v1/helper", key=None)).json()["key"]
            drawn = [helper.seal(CONTEXT, slot, bytes.fromhex(key)) for slot in range(3)]
            place = {"helper": key, "sequence": "weights", "first": 5, "count": MAX_WORDS}
            seals = {slot: seal.text for slot, (seal, _) in enumerate(drawn)}
            asked = Sealed.of(CONTEXT, seals).plain | place
            answer = await api.send("POST", "/v1/helper/words", json=asked)
            assert answer.status_code == 200, answer.text
            assert len(answer.content) == way.part_bytes
            words = np.frombuffer(answer.content, "<u2").copy()
            apply_streams(words, [stream for _, stream in drawn], 5)
            assert not words.any()
        if platform == "lambda":
            assert await asyncio.to_thread(invoke, container, {"tick": True}) == {"advanced": []}
