"""Parties with data of their own: what they declare counts, and the rest is refused by name."""

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.errors import RequestRefused, StateConflict
from tests.support.federation import ADMIN_KEY, BOTH_STORES, Member, key_of
from tests.support.own_data import FACTS, OWN, model, sums
from tests.support.plain_http import bearer


async def enrol(federation, experiment, key, number, examples=10, facts=FACTS, **more):
    subscription = await federation.admin.using(key).subscribe(
        experiment, key_of(number), f"c{number}", examples=examples, facts=facts, **more
    )
    token = subscription.token
    return Member(federation.admin.using(token), experiment, subscription.client_id)


@pytest.fixture
async def own(federation):
    """An experiment of three parties with data of their own, and its enrolment key."""
    return await federation.create(model(), **OWN, clients=3, clients_per_round=3, rounds=1)


@BOTH_STORES
async def test_each_party_counts_with_what_it_declared(federation):
    experiment, key = await federation.create(
        model(), **OWN, clients=3, clients_per_round=3, rounds=1
    )
    sizes = {0: 707, 1: 417, 2: 60}
    members = [await enrol(federation, experiment, key, n, sizes[n]) for n in sizes]
    listed = await federation.http.get(f"/v1/experiments/{experiment}/clients", headers=BEARER)
    assert [client["shard_size"] for client in listed.json()] == [707, 417, 60]
    for member, value, size in zip(members, (1.0, 2.0, 4.0), sizes.values(), strict=True):
        await member.upload(1, value, size)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.history[0].num_examples) == ("completed", 707 + 417 + 60)


async def test_no_update_or_evaluation_claims_more_than_was_declared(federation, own):
    experiment, key = own
    members = [await enrol(federation, experiment, key, n, 60) for n in range(3)]
    with pytest.raises(RequestRefused, match="61 examples, but client-00 declared 60") as refused:
        await members[0].upload(1, 1.0, 61)
    assert refused.value.code == "examples-out-of-range"
    with pytest.raises(RequestRefused, match="61 examples, but client-01 declared 60"):
        await members[1].api.report_evaluation(experiment, 0, 61, {"accuracy": 0.5})


async def test_the_number_of_examples_is_fixed(federation, own):
    experiment, key = own
    first = await enrol(federation, experiment, key, 0, 417)
    assert (await enrol(federation, experiment, key, 0, 417)).id == first.id
    with pytest.raises(StateConflict, match=r"enrolled with 417 .* declares 420") as refused:
        await enrol(federation, experiment, key, 0, 420)
    assert refused.value.code == "examples-fixed"


@pytest.mark.parametrize(
    ("declared", "code", "says"),
    [
        ({"examples": None}, "examples-missing", "declare the number of your examples"),
        ({"examples": 1_000_001}, "too-many-examples", r"1000001 .*max_examples_per_client"),
        ({"facts": {}}, "facts-differ", "task: nothing here, 'classifier' in the experiment"),
        (
            {"facts": FACTS | {"class 0": "malignant", "class 1": "benign"}},
            "facts-differ",
            "class 0: 'malignant' here, 'benign' in the experiment; class 1: 'benign' here, "
            "'malignant' in the experiment",
        ),
        (
            {"facts": FACTS | {"column age": "text"}},
            "facts-differ",
            r"agreed\. column age: 'text' here, 'number' in the experiment\.$",
        ),
        (
            {"facts": FACTS | {"column bmi": "number"}},
            "facts-differ",
            "column bmi: 'number' here, nothing in the experiment",
        ),
    ],
)
async def test_a_declaration_that_does_not_fit_is_refused(federation, own, declared, code, says):
    experiment, key = own
    with pytest.raises(RequestRefused, match=says) as refused:
        await enrol(federation, experiment, key, 0, **declared)
    assert refused.value.code == code
    assert (await federation.admin.experiment(experiment)).enrolled == 0


async def test_facts_are_checked_again_when_a_client_comes_back(federation, own):
    experiment, key = own
    await enrol(federation, experiment, key, 0)
    with pytest.raises(RequestRefused, match="class 0") as refused:
        await enrol(federation, experiment, key, 0, facts=FACTS | {"class 0": "other"})
    assert refused.value.code == "facts-differ"


async def test_there_are_no_shards(federation, own):
    experiment, key = own
    with pytest.raises(StateConflict, match="data of their own: there are no shards") as refused:
        await federation.enrol(experiment, key, 0)
    assert refused.value.code == "no-shards"
    member = await enrol(federation, experiment, key, 0)
    with pytest.raises(StateConflict, match="there are no shards"):
        await member.api.shard(experiment)


async def test_a_common_data_set_takes_no_declaration(federation):
    experiment, key = await federation.create()
    with pytest.raises(RequestRefused, match="shares out a common data set") as refused:
        await enrol(federation, experiment, key, 0)
    assert refused.value.code == "data-not-taken"
    with pytest.raises(StateConflict, match="share a common data set"):
        await federation.admin.agreement(experiment)


async def test_the_audit_log_names_the_examples(federation, own):
    experiment, key = own
    await enrol(federation, experiment, key, 0, 707)
    response = await federation.http.get(f"/v1/experiments/{experiment}/audit", headers=BEARER)
    enrolled = [event for event in response.json() if event["what"] == "client-enrolled"]
    assert [event["detail"] for event in enrolled] == ["c0, 707 examples of its own"]


BEARER = bearer(ADMIN_KEY)
FEDERATED = OWN | {"normalisation": "federated"}


@BOTH_STORES
async def test_the_sums_fix_mean_and_deviation_at_the_start(federation):
    experiment, key = await federation.create(
        model("age", "bmi"), **FEDERATED, clients=3, clients_per_round=2, min_clients=2
    )
    before = await federation.admin.agreement(experiment)
    assert (before.normalise, before.sums_due, before.scales) == (["age", "bmi"], True, [])
    first = [sums("age", 30, 50), sums("bmi", 20)]
    second = [sums("age", 70), sums("bmi")]
    await enrol(federation, experiment, key, 0, sums=first)
    member = await enrol(federation, experiment, key, 1, sums=second)
    fixed = await member.api.agreement(experiment)
    age, bmi = fixed.scales
    assert (age.column, age.mean, age.count) == ("age", 50.0, 3)
    assert age.deviation == pytest.approx((800 / 3) ** 0.5, rel=1e-15)
    assert (bmi.mean, bmi.deviation, bmi.count) == (20.0, 1.0, 1)
    # Who comes late sends no sums, and uses the same.
    assert fixed.sums_due is False
    late = await enrol(federation, experiment, key, 2)
    assert (await late.api.agreement(experiment)).scales == fixed.scales


async def test_the_sums_of_a_revoked_client_do_not_count(federation):
    experiment, key = await federation.create(
        model("age"), **FEDERATED, clients=3, clients_per_round=2, min_clients=3
    )
    await enrol(federation, experiment, key, 0, sums=[sums("age", 1e9)])
    await federation.http.post(
        f"/v1/experiments/{experiment}/clients/client-00/revoke", headers=BEARER
    )
    await enrol(federation, experiment, key, 1, sums=[sums("age", 40)])
    await enrol(federation, experiment, key, 2, sums=[sums("age", 60)])
    (age,) = (await federation.admin.agreement(experiment)).scales
    assert (age.mean, age.deviation, age.count) == (50.0, 10.0, 2)


@BOTH_STORES
async def test_a_deleted_experiment_leaves_no_normalisation(federation, store):
    experiment, key = await federation.create(
        model("age"), **FEDERATED, clients=1, clients_per_round=1
    )
    await enrol(federation, experiment, key, 0, sums=[sums("age", 40)])
    assert len(await store.documents.keys("normalisations", f"{experiment}/")) == 1
    await federation.admin.stop_experiment(experiment)
    await federation.admin.delete_experiment(experiment)
    assert await store.documents.keys("normalisations", f"{experiment}/") == []


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ([], "sums-differ", "the sums of age are missing"),
        ([sums("age", 1.0), sums("bmi", 1.0)], "sums-differ", "bmi is not among its columns"),
        ([sums("age", 1.0), sums("age", 1.0)], "sums-differ", "a column is named twice"),
        ([sums("age", *range(11))], "bad-sums", "11 values of 10 examples"),
    ],
)
async def test_sums_that_do_not_fit_are_refused(federation, given, code, says):
    experiment, key = await federation.create(model("age"), **FEDERATED)
    with pytest.raises(RequestRefused, match=says) as refused:
        await enrol(federation, experiment, key, 0, sums=given)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"squares": 0.5}, "too small for the sum"),
        ({"count": 0, "squares": 0.0}, "too small for the sum"),
        ({"count": 0, "sum": 0.0}, "squares of them"),
        ({"squares": -1.0}, "squares"),
        ({"sum": 1e101}, "sum"),
        ({"count": -1}, "count"),
        ({"column": ""}, "column"),
    ],
)
async def test_sums_of_no_values_are_refused(federation, change, says):
    experiment, key = await federation.create(model("age"), **FEDERATED)
    found = {"column": "age", "count": 1, "sum": 2.0, "squares": 4.0} | change
    body = {"client_key": key_of(0), "examples": 10, "facts": FACTS, "sums": [found]}
    response = await federation.http.post(
        f"/v1/experiments/{experiment}/clients",
        json=body,
        headers=bearer(key),
    )
    assert response.status_code == 422
    assert says in response.json()["detail"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_sums_that_are_no_numbers_are_refused(federation, value):
    experiment, key = await federation.create(model("age"), **FEDERATED)
    sent = f'{{"column": "age", "count": 1, "sum": {value}, "squares": 4.0}}'
    text = f'{{"client_key": "{key_of(0)}", "examples": 10, "sums": [{sent}]}}'
    response = await federation.http.post(
        f"/v1/experiments/{experiment}/clients",
        content=text,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    assert (response.status_code, "sum" in response.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"facts": "{"}, "they are not JSON"),
        ({"facts": "[]"}, "`facts` must map names to words"),
        ({"facts": '{"a": 1}'}, "`facts` must map names to words"),
        ({"facts": '{"a": "\\u001b[31m"}'}, "control characters"),
        ({"facts": '{"' + "a" * 221 + '": "x"}'}, "has more, or none"),
        ({"facts": '{"a": "' + "x" * 201 + '"}'}, "has more, or none"),
        ({"normalise": '["age", "age"]'}, "names a column twice"),
        ({"normalise": "[[]]"}, "must list names of columns"),
        ({}, "name no column"),
    ],
)
async def test_an_initial_model_with_bad_terms_is_refused(federation, metadata, says):
    initial = safetensors.numpy.save({"w": np.zeros(2, np.float32)}, metadata or None)
    with pytest.raises(RequestRefused, match=says) as refused:
        await federation.create(initial, **FEDERATED)
    assert refused.value.code == "bad-facts"


async def test_some_parties_begin_and_the_rest_come_into_the_next_round(federation):
    experiment, key = await federation.create(
        model(), **OWN, clients=3, clients_per_round=3, min_clients=2, rounds=2
    )
    first = [await enrol(federation, experiment, key, n) for n in range(2)]
    assert await federation.cohort(experiment) == ["client-00", "client-01"]
    late = await enrol(federation, experiment, key, 2)
    for member in first:
        await member.upload(1, 1.0, 10)
    assert await federation.cohort(experiment) == ["client-00", "client-01", "client-02"]
    for member in (*first, late):
        await member.upload(2, 1.0, 10)
    assert (await federation.admin.experiment(experiment)).state == "completed"


async def test_no_experiment_begins_with_fewer_parties_than_its_quorum(federation):
    with pytest.raises(RequestRefused, match=r"min_clients \(1\) must lie between quorum \(2\)"):
        await federation.create(model(), **OWN, clients=3, clients_per_round=3, min_clients=1)
