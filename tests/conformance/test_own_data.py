"""Parties with data of their own, through every way in."""

from __future__ import annotations

import pytest

from client_sdk.errors import RequestRefused, StateConflict
from tests.support.federation import Member
from tests.support.own_data import FACTS, OWN, model, sums
from tests.support.ways import EACH_KIND


@EACH_KIND
async def test_parties_with_data_of_their_own(api):
    made = await api.create(
        **OWN, normalisation="federated", clients=2, clients_per_round=2, rounds=1
    )
    await api.admin.upload_initial_model(made.id, model("age"), made.part_bytes)
    door = api.admin.using(made.enrolment_key)
    terms = await door.agreement(made.id)
    assert (terms.facts, terms.normalise, terms.sums_due) == (FACTS, ["age"], True)
    with pytest.raises(RequestRefused) as refused:
        await door.subscribe(made.id, "k" * 40, examples=9, facts=FACTS | {"class 0": "ill"})
    assert (refused.value.status, refused.value.code) == (422, "facts-differ")
    members = []
    for number, (size, age) in enumerate(((707, 30.0), (60, 50.0))):
        given = {"examples": size, "facts": FACTS, "sums": [sums("age", age)]}
        got = await door.subscribe(made.id, f"{number}" * 40, **given)
        assert (got.shard_size, got.shard, got.rule) == (size, None, None)
        members.append(Member(api.admin.using(got.token), made.id, got.client_id))
    with pytest.raises(StateConflict) as fixed:
        await door.subscribe(made.id, "0" * 40, examples=9, facts=FACTS)
    assert (fixed.value.status, fixed.value.code) == (409, "examples-fixed")
    with pytest.raises(StateConflict) as none:
        await members[0].api.shard(made.id)
    assert (none.value.status, none.value.code) == (409, "no-shards")
    (age,) = (await members[1].api.agreement(made.id)).scales
    assert (age.mean, age.deviation, age.count) == (40.0, 10.0, 2)
    await members[0].upload(1, 1.0, 707)
    await members[1].upload(1, 2.0, 60)
    closed = await api.admin.experiment(made.id)
    assert (closed.state, closed.history[0].num_examples) == ("completed", 767)


async def test_the_largest_declaration_is_carried(api):
    """A thousand facts and the sums of five hundred columns, with the longest names."""
    names = [f"column {n:04} {'é' * 80}" for n in range(500)]
    facts = dict.fromkeys(names, "number")
    made = await api.create(**OWN, normalisation="federated", clients=1, clients_per_round=1)
    initial = model(*names, facts=facts)
    await api.admin.upload_initial_model(made.id, initial, made.part_bytes)
    door = api.admin.using(made.enrolment_key)
    got = await door.subscribe(
        made.id,
        "k" * 40,
        examples=10,
        facts=facts,
        sums=[sums(name, 1 / 3, 2 / 3) for name in names],
    )
    found = await api.admin.using(got.token).agreement(made.id)
    assert [scale.column for scale in found.scales] == names
