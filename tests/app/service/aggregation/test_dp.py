"""Rounds with differential privacy: the noise, the ledger, `verify` and every death."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import NotAuthorised, RequestRefused, StateConflict
from client_sdk.tools.verify import verify
from serverless_fl.privacy.dp_fedavg import DpFedAvg
from serverless_fl.privacy.dp_ftrl import DpFtrl
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.weights.header import TensorSpec
from serverless_fl.weights.spans import Piece
from tests.support.crashes import deaths_that_change_nothing
from tests.support.federation import Federation
from tests.support.sample import deaths

SECRET = "5e" * 32
FEDAVG = {"name": "dp-fedavg", "noise_multiplier": 2.0, "clip_norm": 3.0, "delta": 1e-3}
ADAPTIVE = FEDAVG | {"name": "dp-adaptive", "count_noise": 1.5}
TREE = FEDAVG | {"name": "dp-ftrl"}


@pytest.fixture(autouse=True)
def known_secret(monkeypatch):
    monkeypatch.setattr("app.service.records.repository.new_secret", lambda: SECRET)


def model(value):
    return safetensors.numpy.save({"w": np.full(50, value, np.float32)})


async def run(federation, privacy=FEDAVG, rounds=2, **settings):
    """An experiment in which each client's update is as far from the model as its slot says."""
    settings = {"clients": 4, "clients_per_round": 3, "keep_updates": 9} | settings
    experiment, members = await federation.start(
        initial=model(0), rounds=rounds, privacy=privacy, **settings
    )
    for number in range(1, rounds + 1):
        for name in await federation.cohort(experiment):
            value = 0.1 * (1 + int(name.rpartition("-")[2]))
            await members[name].upload_bytes(number, model(value), 2 * (1 + int(name[-1])))
    return experiment


async def good(federation, experiment):
    found = await verify(federation.admin, experiment)
    assert all(finding.good for finding in found), [f.message for f in found]
    return found


async def test_the_model_is_the_clipped_mean_with_the_noise_of_the_secret(federation):
    experiment = await run(federation, rounds=1)
    round_ = await federation.admin.round(experiment, 1)
    values, slots = [], [int(update.client[-2:]) for update in round_.updates]
    for update, slot in zip(round_.updates, slots, strict=True):
        norm = np.float32(0.1 * (1 + slot)) * 50**0.5
        assert update.norm == pytest.approx(norm, rel=1e-6)
        assert update.scale == pytest.approx(min(1, 3.0 / norm), rel=1e-6)
        values.append(0.1 * (1 + slot) * update.scale)
    tensor = Piece(TensorSpec("w", "F32", (50,), 0, 200), 0, 50)
    noise = Noise(round_key(bytes.fromhex(SECRET), 1), 2.0 * 3.0 / 3).of(tensor)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))["w"]
    assert found == pytest.approx(np.mean(values) + noise, abs=1e-6)
    assert len(await good(federation, experiment)) == 3


@pytest.mark.parametrize("part_bytes", [1 << 20, 64], ids=["one span", "spans"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strategy": {"name": "fedadam", "server_learning_rate": 0.1}},
        {"privacy": ADAPTIVE},
        {"privacy": FEDAVG | {"max_weight": 5}, "download_encoding": "float16"},
        {"privacy": TREE, "strategy": "fedavgm", "rounds": 3},
    ],
    ids=["fixed", "with a state", "adaptive", "bounded weights, float16", "tree"],
)
async def test_verify_recomputes_noise_and_ledger(store, part_bytes, settings):
    limits = Limits(part_bytes=part_bytes, group_size=2)
    federation = Federation(store.documents, store.blobs, limits=limits)
    async with federation.serving():
        experiment = await run(federation, **settings)
        await good(federation, experiment)


async def test_the_ledger_adds_up_what_the_most_frequent_client_paid(federation):
    experiment = await run(federation, rounds=3, clients=3)
    entries = [m.ledger for m in await federation.admin.models(experiment)]
    mechanism = DpFedAvg(**FEDAVG)
    assert entries[0] is None
    assert [e.participations for e in entries[1:]] == [1, 2, 3]
    assert [e.epsilon for e in entries[1:]] == [mechanism.epsilon(n) for n in (1, 2, 3)]
    assert {(e.delta, e.clip, e.round_epsilon) for e in entries[1:]} == {
        (1e-3, 3.0, mechanism.epsilon(1))
    }


async def test_the_model_of_a_tree_has_the_noise_of_one_sum_after_four_rounds(federation):
    """By then a client that was in each pays for sums of 1, 2, 1 and 4 of its updates."""
    experiment = await run(federation, TREE, rounds=4, clients=3)
    models = await federation.admin.models(experiment)
    assert [m.ledger.squares for m in models[1:]] == [1, 5, 6, 22]
    assert [m.ledger.next_squares for m in models[1:]] == [5, 6, 22, 23]
    mechanism = DpFtrl(**TREE)
    assert [m.ledger.epsilon for m in models[1:]] == [mechanism.epsilon(n) for n in (1, 5, 6, 22)]
    tensor = Piece(TensorSpec("w", "F32", (50,), 0, 200), 0, 50)
    noise = Noise(round_key(bytes.fromhex(SECRET), 4), 2.0 * 3.0 / 3).of(tensor)
    start = np.float32(0)
    for number in range(1, 5):
        updates = (await federation.admin.round(experiment, number)).updates
        base = safetensors.numpy.load(await federation.admin.download_model(experiment, number - 1))
        sent = [(0.1 * (1 + int(u.client[-2:])) - base["w"]) * u.scale for u in updates]
        start = start + np.mean(sent, axis=0)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 4))["w"]
    assert found == pytest.approx(start + noise, abs=1e-5)
    shown = (await federation.admin.experiment(experiment)).privacy
    assert "tree aggregation" in shown.meaning
    assert shown.next_epsilon == mechanism.epsilon(23)


async def test_a_tree_pauses_before_a_round_that_could_sum_up_too_much(federation):
    mechanism = DpFtrl(**TREE)
    budget = mechanism.epsilon(10)  # the fourth round would sum up all four
    experiment, members = await federation.start(
        initial=model(0), privacy=TREE, budget_epsilon=budget, rounds=9, clients=3,
        clients_per_round=3,
    )  # fmt: skip
    for number in (1, 2, 3):
        await finish(federation, experiment, members, number)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.privacy.epsilon) == ("paused", mechanism.epsilon(6))
    assert f"to {mechanism.epsilon(22):.4g}" in shown.reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy": TREE | {"max_weight": 5}}, r"max_weight \(5\) divides each round"),
        ({"selection": "secret"}, "needs no secret cohorts"),
        ({"schedule": {"name": "synchronous", "over_selection": 1}}, r"over_selection \(1\)"),
        ({"schedule": "buffered"}, "schedule"),
    ],
)
async def test_what_breaks_the_sums_of_a_tree_is_refused_by_name(federation, changes, says):
    with pytest.raises(RequestRefused, match=says):
        await federation.start(initial=model(0), **{"privacy": TREE} | changes)


async def test_the_norm_of_an_adaptive_round_is_the_one_that_the_version_before_found(federation):
    experiment = await run(federation, ADAPTIVE, rounds=3)
    entries = [m.ledger for m in await federation.admin.models(experiment)][1:]
    assert [e.clip for e in entries] == [3.0, *(e.next_clip for e in entries[:-1])]
    assert len({e.clip for e in entries}) == 3
    second = await federation.admin.round(experiment, 2)
    for update in second.updates:
        assert update.scale == pytest.approx(min(1, entries[1].clip / update.norm))


async def test_verify_finds_another_secret_and_a_forged_ledger(federation):
    experiment = await run(federation)
    for kind, key, change, says in [
        ("models", "0000002", lambda b: b["ledger"].update(epsilon=0.1), "epsilon in the ledger"),
        ("models", "0000001", lambda b: b["ledger"].update(epsilon=0.1), "its parent is not"),
        ("secrets", "0000000", lambda b: b.update(secret="00" * 32), "tensor 'w' differs"),
    ]:
        found = await federation.documents.get(kind, f"{experiment}/{key}")
        before = await federation.documents.get(kind, f"{experiment}/{key}")
        change(found.body)
        await federation.documents.replace(kind, f"{experiment}/{key}", found.revision, found.body)
        faults = [f.message for f in await verify(federation.admin, experiment) if f.good is False]
        assert any(says in fault for fault in faults), (says, faults)
        await federation.documents.replace(
            kind, f"{experiment}/{key}", found.revision + 1, before.body
        )


async def test_only_the_admin_reads_the_secret_and_only_where_there_is_one(federation):
    experiment, members = await federation.start(initial=model(0), privacy=FEDAVG)
    assert await federation.admin.noise_secret(experiment) == bytes.fromhex(SECRET)
    for member in members.values():
        with pytest.raises(NotAuthorised):
            await member.api.noise_secret(experiment)
    await federation.admin.delete_experiment(experiment, stop=True)
    assert await federation.documents.get("secrets", f"{experiment}/0000000") is None
    plain, _ = await federation.start(initial=model(0))
    with pytest.raises(StateConflict, match="no secret"):
        await federation.admin.noise_secret(plain)


async def test_a_tensor_of_whole_numbers_would_stay_without_noise(federation):
    counting = safetensors.numpy.save({"w": np.zeros(3, np.float32), "steps": np.zeros(1, int)})
    with pytest.raises(RequestRefused, match="'steps' has whole numbers") as refused:
        await federation.create(initial=counting, privacy=FEDAVG)
    assert refused.value.code == "privacy-refuses"


@deaths()
async def test_dying_at_any_write_draws_the_same_noise(store, fresh_store, after):
    privacy = {"name": "dp-adaptive", "clip_norm": 2.0, "count_noise": 1.0}
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=15, sqlite=5, rounds=2, privacy=privacy
    )
    assert deaths > 25


async def finish(federation, experiment, members, number):
    for name in await federation.cohort(experiment):
        await members[name].upload_bytes(number, model(0.1))


async def test_it_pauses_before_a_round_that_could_exceed_the_budget(federation):
    mechanism = DpFedAvg(**FEDAVG)
    two, three = mechanism.epsilon(2), mechanism.epsilon(3)
    experiment, members = await federation.start(
        initial=model(0), privacy=FEDAVG, budget_epsilon=(two + three) / 2, rounds=4, clients=3,
        clients_per_round=3,
    )  # fmt: skip
    shown = await federation.admin.experiment(experiment)
    assert (shown.privacy.epsilon, shown.privacy.participations) == (0, 0)
    assert "nothing is spent" in shown.privacy.meaning
    for number in (1, 2):
        await finish(federation, experiment, members, number)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version, shown.privacy.epsilon) == ("paused", 2, two)
    assert f"raise epsilon from {two:.4g} to {three:.4g}" in shown.reason
    assert "Resume it with a higher budget_epsilon" in shown.progress

    resume = federation.admin.resume_experiment
    for budget in (None, two):
        with pytest.raises(StateConflict) as refused:
            await resume(experiment, budget_epsilon=budget)
        assert refused.value.code == "budget-reached"
    resumed = await resume(experiment, budget_epsilon=three)
    assert (resumed.state, resumed.privacy.budget_epsilon) == ("running", three)
    await finish(federation, experiment, members, 3)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.privacy.epsilon) == ("paused", three)
    (listed,) = [e for e in await federation.admin.experiments() if e.id == experiment]
    assert listed.privacy == shown.privacy
    told = [e.detail for e in await federation.admin.audit(experiment, limit=1000)]
    assert f"To an epsilon of {three:g}" in told


async def test_a_budget_of_privacy_needs_a_mechanism_that_spends(federation):
    experiment, _ = await federation.start(initial=model(0))
    with pytest.raises(RequestRefused, match="Privacy none spends no epsilon"):
        await federation.admin.resume_experiment(experiment, budget_epsilon=3.0)
    assert (await federation.admin.experiment(experiment)).privacy is None


def test_an_older_record_has_no_ledger():
    from app.service.records import mapping
    from serverless_fl.domain.records import Blob, ModelVersion

    blob = Blob(prefix="p", sha256="0", parts=(), sizes=())
    version = ModelVersion(
        experiment_id="e", version=1, blob=blob, parent_sha256=None, created_at=0.0
    )
    assert "ledger" not in mapping.body_of_model(version)
    assert {f.name for f in dataclasses.fields(ModelVersion)} >= {"ledger"}
