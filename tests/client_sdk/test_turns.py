"""A client that a scheduler runs now and then takes one turn at a time."""

from __future__ import annotations

import pytest

from client_sdk.errors import NotAuthorised
from client_sdk.participant import Participant
from client_sdk.task.task import Evaluation
from tests.support.federation import value_of
from tests.support.participants import Adding


class Measuring(Adding):
    async def evaluate(self, client_id, indices, data, seed):
        return Evaluation({"loss": 0.5, "accuracy": 0.25}, 4)


async def enrolled(federation, experiment, key, number, trainer, **options):
    """A client as a new process has it: nothing but the key stays."""
    participant = Participant(federation.admin, experiment, f"{number}" * 40, trainer, **options)
    await participant.enrol(key)
    return participant


async def test_clients_that_take_turns_in_new_processes_finish_an_experiment(quick):
    experiment, key = await quick.create(clients=3, clients_per_round=2, rounds=3)
    trainer, kinds, ends, turns = Measuring(), [], {}, []
    for number in (0, 1, 2):
        await enrolled(quick, experiment, key, number, trainer)
    while len(ends) < 3:
        for number in (0, 1, 2):
            client = await enrolled(
                quick, experiment, key, number, trainer, on_event=lambda e: kinds.append(e.kind)
            )
            turn = await client.turn()
            turns.append(turn)
            if turn.done:
                ends[number] = turn.done
        assert len(turns) < 50
    assert {done.state for done in ends.values()} == {"completed"}
    assert len(trainer.trained) == len(set(trainer.trained)) == sum(t.trained for t in turns) == 6
    assert value_of(await quick.admin.download_model(experiment)) == 3.0
    assert kinds.count("evaluated") >= 3  # at the end, as `run` does


async def test_a_turn_says_when_to_come_back_and_does_not_wait_itself(quick):
    experiment, key = await quick.create(clients=2, clients_per_round=1, rounds=2)
    one = await enrolled(quick, experiment, key, 0, trainer := Adding())
    before = await one.turn()
    assert (before.trained, before.done) == (False, None)
    assert before.seconds > 0
    assert trainer.trained == []  # the other client is not there yet


async def test_a_client_whose_next_round_is_open_comes_back_at_once(quick):
    experiment, key = await quick.create(clients=1, clients_per_round=1, rounds=2)
    client = await enrolled(quick, experiment, key, 0, Adding())
    first = await client.turn()
    assert (first.trained, first.seconds, first.done) == (True, 0.0, None)
    last = await client.turn()
    assert last.trained
    assert last.done is not None


async def test_a_refused_update_is_not_trained_again_in_the_next_turn(quick):
    experiment, key = await quick.create(clients=2, clients_per_round=2, rounds=1)
    trainer = Adding(spoilt=("client-00", "client-01"))
    client = await enrolled(quick, experiment, key, 0, trainer)
    await enrolled(quick, experiment, key, 1, trainer)
    assert (await client.turn()).trained
    again = await enrolled(quick, experiment, key, 0, trainer)
    assert not (await again.turn()).trained
    assert len(trainer.trained) == 1


async def test_a_turn_of_a_client_that_never_enrolled_is_an_error(quick):
    experiment, _ = await quick.create()
    stranger = Participant(quick.admin.using("nobody"), experiment, "k" * 40, Adding())
    with pytest.raises(NotAuthorised):
        await stranger.turn()
