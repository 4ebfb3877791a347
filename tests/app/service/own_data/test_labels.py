"""Counts of labels: taken where the experiment asks, bounded, shown, and taken back."""

from __future__ import annotations

import re

import pytest

from client_sdk.errors import NotAuthorised, RequestRefused, StateConflict
from serverless_fl.domain.label_counts import MAX_LABEL, MAX_LABELS
from tests.support.federation import BOTH_STORES, Member, key_of
from tests.support.own_data import FACTS, OWN, model
from tests.support.plain_http import bearer

ASKED = {"label_counts": "asked"}


async def party(federation, examples=10, facts=FACTS, **settings) -> Member:
    """A party with data of its own, in an experiment of classes benign and malignant."""
    experiment, key = await federation.create(model(facts=facts), **OWN, **ASKED | settings)
    enrolled = await federation.admin.using(key).subscribe(
        experiment, key_of(0), "north", examples=examples, facts=facts
    )
    return Member(federation.admin.using(enrolled.token), experiment, enrolled.client_id)


async def shown(federation, experiment) -> dict[str, int]:
    (one,) = await federation.admin.clients(experiment)
    return one.labels


@BOTH_STORES
async def test_counts_are_shown_with_the_client_replaced_and_taken_back(federation):
    one = await party(federation)
    share = one.api.share_labels
    assert await shown(federation, one.experiment_id) == {}
    # A document of MongoDB could not have such names.
    for counts in ({"malignant": 3, "benign": 7}, {"benign": 1, "malignant": 0}, {}):
        await share(one.experiment_id, counts)
        found = await shown(federation, one.experiment_id)
        assert list(found.items()) == list(counts.items())


@BOTH_STORES
async def test_names_may_have_dots_and_signs(federation):
    experiment, key = await federation.create(**ASKED)
    member = await federation.enrol(experiment, key, 0)
    counts = {"$a.b": 4, "São Paulo": 6}
    await member.api.share_labels(experiment, counts)
    assert await shown(federation, experiment) == counts


async def test_an_experiment_that_does_not_ask_takes_none(federation):
    one = await party(federation, label_counts="off")
    with pytest.raises(StateConflict) as refused:
        await one.api.share_labels(one.experiment_id, {"benign": 1})
    assert refused.value.code == "labels-not-asked"
    assert await shown(federation, one.experiment_id) == {}


@pytest.mark.parametrize(
    ("counts", "code", "says"),
    [
        ({"benign": 6, "malignant": 5}, "too-many-examples", "count 11 examples, but .* has 10"),
        ({"ill": 1}, "labels-unknown", "no class 'ill': its classes are benign, malignant"),
        ({"benign": -1}, "invalid-request", "greater than or equal to 0"),
        ({"benign": 1.5}, "invalid-request", "valid integer"),
        ({"": 1}, "invalid-request", "at least 1 character"),
        ({"a\x1b[31m": 1}, "invalid-request", "control characters"),
        ({"a" * (MAX_LABEL + 1): 1}, "invalid-request", f"at most {MAX_LABEL} characters"),
        ({str(n): 0 for n in range(MAX_LABELS + 1)}, "invalid-request", f"at most {MAX_LABELS}"),
    ],
)
async def test_counts_that_cannot_be_are_refused(federation, counts, code, says):
    one = await party(federation)
    path = f"/v1/experiments/{one.experiment_id}/label-counts"
    body = {"counts": counts}
    answer = await federation.http.put(path, json=body, headers=bearer(one.token))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert re.search(says, answer.text)
    assert await shown(federation, one.experiment_id) == {}


async def test_a_shard_bounds_the_counts_and_a_long_class_may_be_shortened(federation):
    experiment, key = await federation.create(**ASKED)  # 40 examples for 4 clients
    member = await federation.enrol(experiment, key, 0)
    with pytest.raises(RequestRefused, match="count 11 examples, but the client has 10"):
        await member.api.share_labels(experiment, {"0": 11})
    one = await party(federation, facts={"class 0": "b" * 90, "class 1": "m"})
    await one.api.share_labels(one.experiment_id, {"b" * 30: 4, "m": 6})


async def test_a_revoked_client_shares_nothing(federation):
    one = await party(federation)
    await federation.admin.revoke_client(one.experiment_id, one.id)
    with pytest.raises(NotAuthorised):
        await one.api.share_labels(one.experiment_id, {"benign": 1})
