"""Rounds whose cohorts follow from the experiment's secret: who is drawn, and who sees it."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import NotAuthorised, RequestRefused
from client_sdk.tools.verify import verify
from serverless_fl.domain.derivation import secret_ticket
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.privacy.sampling import sampled_epsilon
from serverless_fl.weights.header import TensorSpec
from serverless_fl.weights.spans import Piece
from tests.support.crashes import deaths_that_change_nothing
from tests.support.sample import deaths

SECRET = "5e" * 32
PRIVATE = {"name": "dp-fedavg", "noise_multiplier": 2.0, "clip_norm": 3.0, "delta": 1e-2}
CLIENTS, MEAN = 10, 9
SETTINGS = {
    **{"clients": CLIENTS, "clients_per_round": MEAN, "selection": "secret", "dataset_size": 200},
    **{"max_attempts": 1, "quorum": 1, "keep_updates": 9, "privacy": PRIVATE},
}


@pytest.fixture(autouse=True)
def known_secret(monkeypatch):
    monkeypatch.setattr("app.service.records.repository.new_secret", lambda: SECRET)


def model(value):
    return safetensors.numpy.save({"w": np.full(50, value, np.float32)})


def drawn(number):
    own = bytes.fromhex(SECRET), number, 1
    return [slot for slot in range(CLIENTS) if secret_ticket(*own, slot) < MEAN / CLIENTS]


async def run(federation, rounds=2, **settings):
    """An experiment in which every client is 0.1 away from the model that it got."""
    experiment, members = await federation.start(
        initial=model(0), rounds=rounds, **SETTINGS | settings
    )
    for number in range(1, rounds + 1):
        for name in await federation.cohort(experiment):
            await members[name].upload_bytes(number, model(0.1), 5)
    return experiment, members


def anybody(federation):
    """A caller without a key."""
    transport = httpx.ASGITransport(federation.app, raise_app_exceptions=False)
    return CoordinatorClient("http://coordinator", transport=transport)


async def test_the_secret_draws_the_cohorts_and_the_mean_divides_by_their_mean_size(federation):
    experiment, _ = await run(federation, rounds=3)
    sizes = set()
    for number in (1, 2, 3):
        round_ = await federation.admin.round(experiment, number)
        assert [int(client[-2:]) for client in round_.cohort] == drawn(number)
        sizes.add(len(round_.cohort))
    assert len(sizes) > 1  # as many as the secret draws
    tensor = Piece(TensorSpec("w", "F32", (50,), 0, 200), 0, 50)
    noise = Noise(round_key(bytes.fromhex(SECRET), 1), 2.0 * 3.0 / MEAN).of(tensor)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))["w"]
    assert found == pytest.approx(0.1 * len(drawn(1)) / MEAN + noise, abs=1e-6)
    entries = [m.ledger for m in await federation.admin.models(experiment)][1:]
    assert [e.epsilon for e in entries] == [sampled_epsilon(0.9, 2.0, n, 1e-2) for n in (1, 2, 3)]
    assert {(e.sampling_rate, e.deviation) for e in entries} == {(0.9, 2.0 * 3.0 / MEAN)}
    shown = await federation.admin.experiment(experiment)
    assert "amplification by sampling" in shown.privacy.meaning


@pytest.mark.parametrize("privacy", [{}, {"name": "dp-adaptive", "count_noise": 1.5}])
async def test_verify_recomputes_the_cohorts_with_the_secret(federation, privacy):
    experiment, members = await run(federation, privacy=PRIVATE | privacy)
    found = await verify(federation.admin, experiment)
    assert all(finding.good for finding in found), [f.message for f in found]
    assert sum("is the secret's" in finding.message for finding in found) == 2
    outsider = next(iter(members.values())).api
    unknown = [f for f in await verify(outsider, experiment) if f.good is None]
    assert [f.version for f in unknown] == [1, 2]
    assert "cannot be checked: the cohorts are secret" in unknown[0].message


async def test_verify_finds_a_cohort_that_the_secret_does_not_draw(federation):
    experiment, _ = await run(federation)
    key = f"{experiment}/0000001"
    found = await federation.documents.get("rounds", key)
    other = next(slot for slot in range(CLIENTS) if slot not in drawn(1))
    found.body["cohort"] = sorted([*drawn(1)[1:], other])
    await federation.documents.replace("rounds", key, found.revision, found.body)
    faults = [f.message for f in await verify(federation.admin, experiment) if f.good is False]
    assert any(f"client {other} was asked, but the secret does not draw it" in f for f in faults)
    assert any(f"client {drawn(1)[0]} was not asked, but the secret" in f for f in faults)


async def test_rounds_are_shown_to_those_who_may_read_the_secret(federation):
    experiment, members = await run(federation, rounds=1)
    seen = await federation.admin.experiment(experiment)
    assert (len(seen.history), seen.current_round.number) == (1, 1)
    nobody = anybody(federation)
    for caller in (nobody, next(iter(members.values())).api):
        shown = await caller.experiment(experiment)
        assert (shown.history, shown.current_round, shown.cost) == ([], None, None)
        assert shown.privacy == seen.privacy
        with pytest.raises(NotAuthorised, match="is secret") as refused:
            await caller.round(experiment, 1)
        assert refused.value.code == "secret-cohorts"
    assert "client-" not in shown.model_dump_json()
    (line,) = await nobody.experiments()
    assert (line.cost_usd, line.best) == (None, None)


async def test_the_progress_of_a_round_does_not_tell_who_is_awaited(federation):
    experiment, _ = await federation.start(initial=model(0), **SETTINGS)
    assert "waiting for client-0" in (await federation.admin.experiment(experiment)).progress
    shown = await anybody(federation).experiment(experiment)
    assert shown.progress == "Round 1 of 2. Who takes part is secret."


@deaths()
async def test_dying_at_any_write_draws_the_same_cohorts(store, fresh_store, after):
    parties = {"own": True, "normalisation": "given", "min_clients": 4, "dataset_size": None}
    settings = SETTINGS | parties | {"keep_updates": 0}
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=60, sqlite=12, rounds=2, **settings
    )
    assert deaths > 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_attempts": 3}, r"max_attempts \(3\) repeats rounds"),
        ({"quorum": None}, r"quorum \(5\) ends an experiment"),
        ({"privacy": PRIVATE | {"max_weight": 5}}, r"max_weight \(5\) divides"),
        ({"schedule": {"name": "synchronous", "over_selection": 1}}, r"over_selection \(1\)"),
        ({"download_encoding": "float16"}, r"download_encoding \(float16\) rounds"),
        ({"budget_usd": 1.0}, r"budget_usd \(1\) pauses by a cost"),
        ({"clients_per_round": 5}, r"clients_per_round \(5 of 10 clients\) is so small"),
        ({"privacy": "none"}, r"selection \(secret\) hides who takes part"),
        ({"selection": "by-loss"}, r"selection \(by-loss\) tells of the clients' data"),
    ],
)
async def test_settings_that_would_tell_who_takes_part_are_refused_by_name(
    federation, changes, says
):
    with pytest.raises(RequestRefused, match=says):
        await federation.start(initial=model(0), **SETTINGS | changes)
