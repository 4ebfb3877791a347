"""People beside the admin: what they may do, what they are told, and what records say of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from app.entry import new_key
from app.service.coordinator import Coordinator
from app.service.people.keys import read_keys
from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import RequestRefused
from tests.support.federation import ADMIN_KEY, Federation, config
from tests.support.plain_http import bearer

KEYS = {name: f"the-key-of-{name}-{'0' * 20}" for name in ("alice", "bob", "carol", "dora")}
ROLES = {"alice": "owner", "bob": "owner+reader", "carol": "reader", "dora": "admin"}
ENTRIES = [
    f"{name}:{ROLES[name]}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()
]


@dataclass
class House:
    """A coordinator with people, and the clients that they use."""

    federation: Federation

    def __getattr__(self, name: str) -> CoordinatorClient:
        return self.federation.admin.using(KEYS[name])

    async def experiment_of(self, name: str) -> tuple[str, str]:
        """An experiment that this person has created: its id and its enrolment key."""
        made = await getattr(self, name).create_experiment("toy", config(), f"made-by-{name}")
        return made.id, made.enrolment_key

    def close_views(self) -> None:
        self.federation.app.state.public_views = False


@pytest.fixture
def house(federation) -> House:
    context = federation.app.state.coordinator.context
    coordinator = Coordinator(context, ADMIN_KEY, keys=read_keys(ENTRIES))
    federation.app.state.coordinator = coordinator
    return House(federation)


async def refusal(call) -> tuple[int, str, str]:
    with pytest.raises(RequestRefused) as caught:
        await call
    return caught.value.status, caught.value.code, str(caught.value)


async def test_errors_say_which_role_is_missing(house):
    of_bob, _ = await house.experiment_of("bob")
    status, code, said = await refusal(
        house.carol.create_experiment("toy", config(), "made-by-carol")
    )
    assert (status, code) == (403, "role-missing")
    assert "needs the role admin or owner, and carol has the role reader." in said
    status, code, said = await refusal(house.alice.stop_experiment(of_bob))
    assert (status, code) == (403, "role-missing")
    assert "alice has the role owner and did not create it." in said
    *_, said = await refusal(house.alice.download_model(of_bob, 0, 1 << 20))
    assert "needs the role admin or reader, or that of the experiment's owner" in said


async def test_the_records_name_the_owner(house):
    federation = house.federation
    federation.admin = house.alice
    experiment, members = await federation.start()
    await house.alice.report_evaluation(experiment, 0, 5, {"loss": 0.5})
    await house.alice.revoke_client(experiment, "client-00")
    await house.dora.stop_experiment(experiment)
    events = await house.carol.audit(experiment)
    who = {event.what.value: event.who for event in events}
    assert who["experiment-created"] == who["initial-model-committed"] == "alice"
    assert who["evaluation-reported"] == who["client-revoked"] == "alice"
    assert who["experiment-ended"] == "dora"
    assert len(members) == 4


async def test_an_experiment_from_before_there_were_roles_is_the_admins(house):
    experiment, _ = await house.federation.create()
    assert (await refusal(house.alice.stop_experiment(experiment)))[0] == 403
    await house.dora.stop_experiment(experiment)
    assert (await house.federation.admin.experiment(experiment)).reason == "Stopped by the admin."


async def test_the_reason_of_an_end_is_for_everybody_and_names_nobody(house):
    experiment, _ = await house.experiment_of("alice")
    await house.alice.stop_experiment(experiment)
    assert (await house.carol.experiment(experiment)).reason == "Stopped by its owner."


async def test_an_owners_deletion_is_safe_to_repeat(house):
    experiment, _ = await house.experiment_of("alice")
    path = f"/v1/experiments/{experiment}?stop=true"
    for who, status in [("bob", 403), ("alice", 204), ("alice", 204), ("bob", 404), ("dora", 204)]:
        answer = await house.federation.http.delete(path, headers=bearer(KEYS[who]))
        assert answer.status_code == status, who


async def test_one_idempotency_key_of_two_owners_makes_two_experiments(house):
    made = [
        await getattr(house, who).create_experiment("toy", config(), "one-key-of-many")
        for who in ("alice", "bob", "alice", "dora")
    ]
    assert made[0].id == made[2].id
    assert len({m.id for m in made}) == 3
    assert len({m.enrolment_key for m in made}) == 3


async def test_a_caller_is_told_who_it_is(house):
    answers = {}
    for who in ("bob", "dora"):
        answer = await house.federation.http.get("/v1/me", headers=bearer(KEYS[who]))
        answers[who] = answer.json()
    assert answers == {
        "bob": {"name": "bob", "roles": ["owner", "reader"]},
        "dora": {"name": "dora", "roles": ["admin"]},
    }


async def test_a_caller_is_told_what_it_may_do_in_an_experiment(house):
    of_alice, _ = await house.experiment_of("alice")
    found = {}
    for who, key in KEYS.items():
        answer = await house.federation.http.get(
            "/v1/me", params={"experiment": of_alice}, headers=bearer(key)
        )
        found[who] = (answer.json()["owns"], answer.json()["reads"])
    assert found == {
        "alice": (True, True),
        "bob": (False, True),
        "carol": (False, True),
        "dora": (True, True),
    }
    for experiment, status in (("20261124-101500-9f2c1a", 404), ("A b", 422)):
        answer = await house.federation.http.get(
            "/v1/me", params={"experiment": experiment}, headers=bearer(KEYS["dora"])
        )
        assert answer.status_code == status


async def test_the_log_names_whose_key_a_request_had(house, caplog):
    experiment, _ = await house.federation.create()
    caplog.set_level("INFO")
    caplog.clear()
    await house.carol.download_model(experiment, 0, 1 << 20)
    await house.carol.experiment(experiment)
    assert [" person=carol " in line for line in caplog.text.splitlines()] == [True, False]


async def test_closed_views_are_for_people_and_members(house):
    experiment, key = await house.experiment_of("alice")
    _, other_key = await house.experiment_of("bob")
    view = f"/v1/experiments/{experiment}"
    callers = {
        None: 401,
        "w" * 43: 401,
        other_key: 401,
        key: 200,
        KEYS["bob"]: 200,
        KEYS["carol"]: 200,
        ADMIN_KEY: 200,
    }

    async def statuses(path):
        return {
            secret: (
                await house.federation.http.get(path, headers=bearer(secret) if secret else {})
            ).status_code
            for secret in callers
        }

    assert set((await statuses(view)).values()) == {200}
    house.close_views()
    await house.alice.stop_experiment(experiment)  # or the stream of its events would not end
    for path in (view, f"{view}/clients", f"{view}/models", f"{view}/events"):
        assert await statuses(path) == callers, path
    assert await statuses("/v1/experiments") == callers | {key: 401}


def test_a_new_key_fits_its_entry(capsys):
    assert new_key.main(["alice", "owner+reader"]) == 0
    key, entry = (line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines())
    (found,) = read_keys([entry])
    assert (found.person.name, sorted(found.person.roles)) == ("alice", ["owner", "reader"])
    assert found.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert key not in entry


def test_a_name_that_records_give_to_others_gets_no_key(capsys):
    for name in ("admin", "central", "coordinator", "client-07"):
        assert new_key.main([name, "owner"]) == 2
        assert f"must not name anybody {name}" in capsys.readouterr().err
