"""Wrong shares and lost files of masked updates: another attempt, and who is at fault."""

from __future__ import annotations

import pytest

from client_sdk.api.client import CoordinatorClient
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.masking import ShareOf
from tests.support.masked import begin, require_mean, take_turns


class Liar(CoordinatorClient):
    """A client that hands in shares of nothing, in attempts up to `last`."""

    last = 99

    async def send_answer(self, experiment_id, number, answer):
        if answer.attempt <= self.last:
            wrong = [ShareOf(client=each.client, share="1" * 132) for each in answer.seeds]
            answer = answer.model_copy(update={"seeds": wrong})
        return await super().send_answer(experiment_id, number, answer)


def make_liar(client, last=99):
    client._client.__class__ = type("Liar", (Liar,), {"last": last})


async def test_a_wrong_share_is_left_out_and_named_in_the_next_attempt(federation):
    """Three shares of three open nothing; the next attempt waits for the fourth."""
    experiment_id, clients, trainer = await begin(federation, rounds=1)
    make_liar(clients[1])
    assert (await take_turns(federation, clients)).state == "completed"
    round_ = await federation.admin.round(experiment_id, 1)
    assert (round_.attempt, round_.wrong_shares) == (2, ["client-01"])
    assert len(round_.updates) == 4
    assert trainer.trained == 8  # a test's trainer; a real one's words are masked again
    await require_mean(federation, experiment_id, clients, trainer, range(4))


async def test_wrong_shares_in_every_attempt_end_the_experiment_with_a_sentence(federation):
    experiment_id, clients, _ = await begin(federation, rounds=1, max_attempts=2)
    make_liar(clients[0])
    make_liar(clients[1])
    assert (await take_turns(federation, clients)).state == "failed"
    shown = await federation.admin.experiment(experiment_id)
    assert shown.reason.startswith("Round 1 has no sum after 2 attempts. Its masks cannot be taken")


async def test_a_lost_masked_file_is_named_and_another_attempt_goes_on_without_it(federation):
    experiment_id, clients, trainer = await begin(federation, rounds=1)
    while (await federation.admin.round(experiment_id, 1)).state is not RoundState.UNMASKING:
        for client in clients:
            if (await federation.admin.round(experiment_id, 1)).state is RoundState.UNMASKING:
                break
            await client.turn()
    (document,) = [
        each for each in await federation.documents.scan("updates", "") if each.body["slot"] == 2
    ]
    await federation.blobs.delete(document.body["blob"]["prefix"])
    assert (await take_turns(federation, clients)).state == "completed"
    round_ = await federation.admin.round(experiment_id, 1)
    assert round_.attempt == 2
    assert [(each.client, each.code) for each in round_.refused] == [("client-02", "update-lost")]
    await require_mean(federation, experiment_id, clients, trainer, (0, 1, 3))


async def test_a_lost_file_too_many_ends_the_experiment_with_a_sentence(federation):
    experiment_id, clients, _ = await begin(federation, rounds=1, max_attempts=1)
    while (await federation.admin.round(experiment_id, 1)).state is not RoundState.UNMASKING:
        for client in clients:
            await client.turn()
            if (await federation.admin.round(experiment_id, 1)).state is RoundState.UNMASKING:
                break
    await federation.blobs.delete("uploads/")
    assert (await take_turns(federation, clients)).state == "failed"
    shown = await federation.admin.experiment(experiment_id)
    assert "Round 1 has no sum after 1 attempts. The file of client-0" in shown.reason


@pytest.mark.parametrize("liars", [(), (3,)], ids=["nobody", "the last to answer"])
async def test_shares_that_are_not_needed_cost_no_attempt(federation, liars):
    experiment_id, clients, _ = await begin(federation, rounds=1)
    for slot in liars:
        make_liar(clients[slot])
    assert (await take_turns(federation, clients)).state == "completed"
    round_ = await federation.admin.round(experiment_id, 1)
    assert (round_.attempt, round_.wrong_shares) == (1, [])
