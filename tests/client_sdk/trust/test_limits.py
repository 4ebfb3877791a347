"""What a party refuses by its own limits, in the offer and with each task."""

from __future__ import annotations

import pytest

from client_sdk.errors import DataError
from client_sdk.participant import Participant
from client_sdk.trust.limits import Limits
from client_sdk.trust.offer import read_offer
from tests.support.federation import key_of
from tests.support.masked import MASKED, Drifting

PRIVATE = {"privacy": {"name": "dp-fedavg", "noise_multiplier": 2.0, "clip_norm": 0.5}}


async def offered(federation, **changes):
    experiment_id, key = await federation.create(**changes)
    return experiment_id, key, await read_offer(federation.admin, experiment_id)


@pytest.mark.parametrize(
    ("settings", "limits", "says"),
    [
        ({}, {}, None),
        (MASKED, {"require_secure": True, "min_participants": 4, "pinned": True}, None),
        (MASKED, {"min_participants": 5}, "has 4 clients, and this client wants 5"),
        ({}, {"require_secure": True}, "secure aggregation alone (require_secure)"),
        ({}, {"min_participants": 3}, "secure aggregation alone (min_participants)"),
        ({}, {"pinned": True}, "secure aggregation alone (pins)"),
        ({}, {"max_epsilon": 8.0}, "the experiment has no differential privacy"),
        (PRIVATE, {"max_epsilon": 8.0}, None),
        (PRIVATE, {"max_epsilon": 1.0}, "more than the 1 that this client spends at most"),
    ],
)
async def test_an_offer_is_compared_with_the_limits(federation, settings, limits, says):
    _, _, offer = await offered(federation, **settings)
    fault = Limits(**limits).fault(offer.view)
    if says is None:
        assert fault is None
    else:
        assert says in fault


async def joined(federation, experiment_id, key, count, **options):
    found = []
    for number in range(count):
        more = options if number == 0 else {}
        one = Participant(federation.admin, experiment_id, key_of(number), Drifting(), **more)
        await one.enrol(key)
        found.append(one)
    return found


async def test_each_task_is_compared_with_the_limits(federation):
    """The first round fits into this client's epsilon, and the second would not."""
    settings = PRIVATE | {"clients": 2, "clients_per_round": 2, "rounds": 3, "dataset_size": 42}
    experiment_id, key, offer = await offered(federation, **settings)
    mechanism = offer.view.config.privacy
    most = (mechanism.epsilon(1) + mechanism.epsilon(2)) / 2
    careful, other = await joined(federation, experiment_id, key, 2, max_epsilon=most)
    assert (await careful.turn()).trained
    assert (await other.turn()).trained
    assert (await federation.admin.experiment(experiment_id)).privacy.participations == 1
    with pytest.raises(DataError, match="Another round could raise epsilon"):
        await careful.turn()
    assert (await other.turn()).trained


async def test_a_task_whose_updates_are_not_masked_is_refused(federation):
    experiment_id, key, _ = await offered(federation, clients=1, clients_per_round=1)
    (careful,) = await joined(federation, experiment_id, key, 1, require_secure=True)
    with pytest.raises(DataError, match=r"secure aggregation alone \(require_secure\)"):
        await careful.turn()
