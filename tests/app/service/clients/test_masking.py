"""What the coordinator takes and refuses in the phases of secure aggregation."""

from __future__ import annotations

import pytest

from client_sdk.errors import NotThere, RequestRefused, StateConflict
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.masking import ForClient, PhaseAnswer, PhaseBoxes, PhaseKeys, ShareOf
from tests.support.federation import weights
from tests.support.masked import MASKED, Drifting, enrolled

SHARE, BOX = "1" * 132, "2" * 296


async def begin(federation, until):
    """Four clients that have come to a state of the first round: its id and the participants."""
    experiment_id, key = await federation.create(**MASKED, rounds=1)
    clients = await enrolled(federation, experiment_id, key, Drifting(), 4)
    while (await federation.admin.round(experiment_id, 1)).state != until:
        for client in clients:
            if (await federation.admin.round(experiment_id, 1)).state != until:
                await client.turn()
    return experiment_id, clients


def code_of(error):
    return error.value.code


async def test_keys_that_are_sent_twice_stand_and_others_are_refused(federation):
    experiment_id, clients = await begin(federation, RoundState.ADVERTISING)
    api = clients[0]._client
    await clients[0].turn()
    kept = (await federation.documents.scan("phase_keys", ""))[0].body
    keys = PhaseKeys(attempt=1, box_key=kept["box_key"], mask_key=kept["mask_key"])
    receipt = await api.send_keys(experiment_id, 1, keys)
    assert receipt.state is RoundState.ADVERTISING
    with pytest.raises(StateConflict) as other:
        swapped = PhaseKeys(attempt=1, box_key=keys.mask_key, mask_key=keys.box_key)
        await api.send_keys(experiment_id, 1, swapped)
    assert code_of(other) == "already-sent"
    with pytest.raises(StateConflict) as weak:
        await clients[1]._client.send_keys(
            experiment_id, 1, PhaseKeys(attempt=1, box_key="0" * 64, mask_key=keys.mask_key)
        )
    assert code_of(weak) == "not-asked-for"
    with pytest.raises(StateConflict) as early:
        await api.send_boxes(experiment_id, 1, PhaseBoxes(attempt=1, boxes=[]))
    assert code_of(early) == "out-of-turn"
    with pytest.raises(StateConflict) as wrong:
        await api.send_keys(experiment_id, 1, keys.model_copy(update={"attempt": 2}))
    assert code_of(wrong) == "out-of-turn"


async def test_boxes_are_for_all_neighbours_and_for_nobody_else(federation):
    experiment_id, clients = await begin(federation, RoundState.SHARING)
    api = clients[0]._client
    for others in ([1, 2], [1, 2, 3, 0], []):
        boxes = [ForClient(client=f"client-0{n}", box=BOX) for n in others]
        with pytest.raises(StateConflict) as wrong:
            await api.send_boxes(experiment_id, 1, PhaseBoxes(attempt=1, boxes=boxes))
        assert code_of(wrong) == "not-asked-for"


async def test_boxes_that_are_sent_twice_stand_and_others_are_refused(federation):
    experiment_id, clients = await begin(federation, RoundState.SHARING)
    api = clients[0]._client

    def boxes(last):
        found = [ForClient(client=f"client-0{n}", box=BOX[:-1] + last) for n in (1, 2, 3)]
        return PhaseBoxes(attempt=1, boxes=found)

    for _ in range(2):
        receipt = await api.send_boxes(experiment_id, 1, boxes("2"))
        assert receipt.state is RoundState.SHARING
    with pytest.raises(StateConflict) as other:
        await api.send_boxes(experiment_id, 1, boxes("3"))
    assert code_of(other) == "already-sent"


async def test_only_the_shares_that_the_sum_needs_are_taken(federation):
    """No key of a client whose update is in the sum, and nothing of a stranger."""
    experiment_id, clients = await begin(federation, RoundState.UNMASKING)
    api = clients[0]._client
    for answer in (
        {"seeds": [], "keys": [ShareOf(client="client-01", share=SHARE)]},
        {"seeds": [ShareOf(client="client-09", share=SHARE)], "keys": []},
    ):
        with pytest.raises(StateConflict) as wrong:
            await api.send_answer(experiment_id, 1, PhaseAnswer(attempt=1, **answer))
        assert code_of(wrong) == "not-asked-for"


async def test_shares_that_are_sent_twice_stand_and_others_are_refused(federation):
    experiment_id, clients = await begin(federation, RoundState.UNMASKING)
    api = clients[0]._client
    for share, stands in ((SHARE, True), (SHARE, True), ("3" * 132, False)):
        seeds = [ShareOf(client=f"client-0{n}", share=share) for n in range(4)]
        answer = PhaseAnswer(attempt=1, seeds=seeds, keys=[])
        if stands:
            await api.send_answer(experiment_id, 1, answer)
            continue
        with pytest.raises(StateConflict) as other:
            await api.send_answer(experiment_id, 1, answer)
        assert code_of(other) == "already-sent"


async def test_an_update_in_the_clear_is_refused(federation):
    experiment_id, clients = await begin(federation, RoundState.COLLECTING)
    data = weights(1.0)
    api = clients[0]._client
    for examples, metrics, masked in (
        (10, {}, None),  # as without masks
        (1, {"loss": 1.0}, (1, "0" * 144)),  # metrics in the clear
        (2, {}, (1, "0" * 144)),  # examples in the clear
        (1, {}, (1, "00")),  # counts of another length
        (1, {}, (1, "0" * 144)),  # the file is not masked
    ):
        with pytest.raises(RequestRefused) as refused:
            await api.upload_update(
                experiment_id, 1, data, examples, metrics, 1 << 20, masked=masked
            )
        assert code_of(refused) in ("not-masked", "encoding-mismatch")


async def test_an_update_of_another_attempt_is_refused(federation):
    experiment_id, clients = await begin(federation, RoundState.COLLECTING)
    with pytest.raises(StateConflict) as refused:
        await clients[0]._client.upload_update(
            experiment_id, 1, weights(1.0), 1, {}, 1 << 20, masked=(2, "0" * 144)
        )
    assert code_of(refused) == "out-of-turn"


async def test_a_plain_round_has_no_masks(federation):
    experiment_id, members = await federation.start()
    with pytest.raises(NotThere):
        await members["client-00"].api.masked_round(experiment_id, 1)
    with pytest.raises(RequestRefused) as refused:
        who = (await federation.cohort(experiment_id))[0]
        await members[who].api.upload_update(
            experiment_id, 1, weights(1.0), 1, {}, 1 << 20, masked=(1, "")
        )
    assert code_of(refused) == "not-masked"


async def test_the_view_says_who_is_awaited_and_what_is_seen(federation):
    experiment_id, clients = await begin(federation, RoundState.SHARING)
    await clients[1].turn()
    shown = await federation.admin.experiment(experiment_id)
    assert "1 of 4 clients have shared their secrets" in shown.progress
    assert "waiting for client-00, client-02, client-03" in shown.progress
    assert "The coordinator sees masked updates" in shown.progress
    assert shown.current_round.awaited == [client.id for client in clients]


async def test_boxes_are_deleted_with_the_round_and_answers_with_its_updates(federation):
    await begin(federation, RoundState.CLOSED)
    for kind in ("phase_boxes", "phase_answers", "phase_keys"):
        assert not await federation.documents.scan(kind, "")
