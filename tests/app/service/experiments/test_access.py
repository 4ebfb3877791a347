"""Access taken away and changed: revoked clients, replaced keys and tokens, caps."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from app.service.clients.credentials import AdminKeys, enrolment_key, fingerprint
from app.service.coordinator import Coordinator
from client_sdk.errors import NotAuthorised, NotThere, RequestRefused, StateConflict
from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.records import WeightsCommit
from tests.support.federation import ADMIN_KEY, BOTH_STORES, config, key_of, value_of, weights
from tests.support.plain_http import bearer
from tests.support.some import some


async def refused_as(code, call):
    with pytest.raises(NotAuthorised) as caught:
        await call
    assert (caught.value.status, caught.value.code) == (401, code)
    return True


# Revoking


async def test_a_revoked_client_is_told_so_everywhere_and_the_others_are_not(federation):
    experiment, key = await federation.create(clients=4)
    members = [await federation.enrol(experiment, key, n) for n in range(3)]
    gone, other, *_ = members
    shown = await federation.admin.revoke_client(experiment, gone.id)
    assert (shown.id, shown.revoked_at.timestamp()) == (gone.id, federation.clock.now)
    assert await refused_as("revoked", gone.status())
    assert await refused_as("revoked", gone.api.shard(experiment))
    assert await refused_as("revoked", gone.upload(1, 1.0))
    assert await refused_as("revoked", gone.api.download_model(experiment))
    assert await refused_as("revoked", gone.api.report_evaluation(experiment, 0, 1, {"loss": 1.0}))
    assert await refused_as("revoked", gone.api.replace_token(experiment, key_of(0)))
    assert await refused_as("revoked", federation.enrol(experiment, key, 0))  # its key, again
    assert (await other.status()).action == "wait"
    # Its slot stays its own: the fourth slot is the last one.
    await federation.enrol(experiment, key, 3)
    with pytest.raises(StateConflict) as caught:
        await federation.enrol(experiment, key, 4)
    assert caught.value.code == "experiment-full"


async def test_revoking_again_changes_nothing_and_a_stranger_is_not_there(federation):
    experiment, _ = await federation.start()
    first = await federation.admin.revoke_client(experiment, "client-01")
    federation.clock.now += 5
    assert await federation.admin.revoke_client(experiment, "client-01") == first
    for nobody in ("client-04", "client-001", "client-0000001"):
        with pytest.raises(NotThere):
            await federation.admin.revoke_client(experiment, nobody)


async def test_the_open_round_does_not_wait_for_a_revoked_client(federation):
    experiment, members = await federation.start()
    one, two = await federation.cohort(experiment)
    await members[one].upload(1, 3.0)
    await federation.admin.revoke_client(experiment, two)
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported) == ("closed", [one])
    assert (round_.missing, round_.revoked) == ([], [two])
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
    # Who is revoked later has still been missing, or has reported, before.
    second = await federation.cohort(experiment)
    assert two not in second
    await federation.admin.revoke_client(experiment, one)
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.reported, round_.revoked) == ([one], [two])


async def test_an_accepted_update_of_a_client_that_is_revoked_later_stands(federation):
    experiment, members = await federation.start()
    one, two = await federation.cohort(experiment)
    await members[one].upload(1, 2.0)
    await federation.admin.revoke_client(experiment, one)
    shown = await federation.admin.round(experiment, 1)
    assert (shown.state, shown.reported, shown.revoked) == ("collecting", [one], [])
    await members[two].upload(1, 4.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0


async def test_with_too_few_left_it_goes_on_with_fewer_and_the_quorum_decides(federation):
    experiment, members = await federation.start(clients=3, clients_per_round=3, quorum=1, rounds=2)
    await federation.admin.revoke_client(experiment, "client-00")
    await federation.admin.revoke_client(experiment, "client-01")
    last = members["client-02"]
    await last.upload(1, 1.0)
    assert await federation.cohort(experiment) == ["client-02"]
    await last.upload(2, 2.0)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 2)


async def test_with_nobody_left_it_fails_at_once_and_says_why(federation):
    experiment, members = await federation.start(max_attempts=2)
    for client in members:
        await federation.admin.revoke_client(experiment, client)
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "failed"
    assert "got 0 of the 1 updates" in shown.reason
    cohort = shown.current_round.earlier_attempts[0]
    assert cohort.revoked
    assert cohort.missing == []


async def test_revoked_before_the_start_it_still_starts(federation):
    experiment, key = await federation.create()
    members = [await federation.enrol(experiment, key, n) for n in range(3)]
    await federation.admin.revoke_client(experiment, members[0].id)
    await federation.enrol(experiment, key, 3)
    assert members[0].id not in await federation.cohort(experiment)
    assert (await federation.admin.experiment(experiment)).state == "running"


async def test_a_revocation_that_died_half_way_is_finished_by_its_retry(federation):
    experiment, members = await federation.start()
    repo = federation.app.state.coordinator.context.repo
    client = await repo.client(experiment, 0)
    await repo.save_client(replace(client, revoked_at=1.0, revoked_by="admin"))
    assert await refused_as("revoked", members["client-00"].status())
    await federation.admin.revoke_client(experiment, "client-00")
    assert (await repo.experiment(experiment)).revoked == (0,)


@BOTH_STORES
async def test_many_revoke_at_once_and_none_is_lost(federation):
    experiment, _ = await federation.start(clients=8, clients_per_round=2)
    others = [federation.coordinator() for _ in range(8)]
    await asyncio.gather(
        *(c.access.revoke(experiment, f"client-{n:02d}", "admin") for n, c in enumerate(others[:6]))
    )
    stored = await others[0].context.repo.experiment(experiment)
    assert stored.revoked == (0, 1, 2, 3, 4, 5)


async def test_what_was_stored_before_there_were_revocations_is_read_as_it_was(federation):
    experiment, members = await federation.start()
    documents = federation.documents
    new = {
        "experiments": {"created_by", "ended_by", "revoked", "enrol_generation", "rotations"},
        "clients": {"token_generation", "token_changes", "revoked_at", "revoked_by"},
        "rounds": {"revoked"},
        "models": {"created_by"},
    }
    for kind, names in new.items():
        for found in some(await documents.scan(kind, experiment)):
            assert names <= found.body.keys()
            body = {k: v for k, v in found.body.items() if k not in names}
            await documents.replace(kind, found.key, found.revision, body)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0)
    await federation.admin.revoke_client(experiment, "client-00")
    await federation.admin.replace_enrolment_key(experiment, "rotate-once")
    assert len(await federation.admin.audit(experiment)) == 11


# The enrolment key


async def test_a_replaced_enrolment_key_stops_working_and_who_is_in_stays(federation):
    experiment, old = await federation.create()
    member = await federation.enrol(experiment, old, 0)
    shown = await federation.admin.enrolment_key(experiment)
    assert (shown.enrolment_key, shown.generation) == (old, 0)
    made = await federation.admin.replace_enrolment_key(experiment, "rotate-once")
    assert made.generation == 1
    new = made.enrolment_key
    assert new != old
    assert await federation.admin.enrolment_key(experiment) == made
    assert await refused_as("unauthenticated", federation.enrol(experiment, old, 1))
    assert await refused_as(
        "unauthenticated", federation.admin.using(old).download_model(experiment)
    )
    assert (await member.status()).action == "wait"
    again = await federation.enrol(experiment, new, 0)  # the same client, by the new key
    assert again.id == member.id
    await federation.enrol(experiment, new, 1)


async def test_a_repeated_replacement_makes_no_third_key(federation):
    experiment, _ = await federation.create()
    first = await federation.admin.replace_enrolment_key(experiment, "rotate-once")
    assert await federation.admin.replace_enrolment_key(experiment, "rotate-once") == first
    second = await federation.admin.replace_enrolment_key(experiment, "rotate-twice")
    assert (first.generation, second.generation) == (1, 2)
    with pytest.raises(StateConflict) as caught:
        await federation.admin.replace_enrolment_key(experiment, "rotate-once")
    assert caught.value.code == "idempotency-key-reused"


async def test_what_is_remembered_of_replacements_is_bounded(federation, monkeypatch):
    monkeypatch.setattr("app.service.experiments.access.MAX_ROTATIONS", 3)
    monkeypatch.setattr("app.service.experiments.access.MAX_TOKEN_CHANGES", 3)
    experiment, key = await federation.create()
    api = (await federation.enrol(experiment, key, 0)).api
    for n in range(5):
        await federation.admin.replace_enrolment_key(experiment, f"rotate-{n}")
        api = api.using((await api.replace_token(experiment, key_of(0))).token)
    repo = federation.app.state.coordinator.context.repo
    stored, client = await repo.experiment(experiment), await repo.client(experiment, 0)
    assert [r.generation for r in stored.rotations] == [3, 4, 5]
    assert (stored.enrol_generation, client.token_generation) == (5, 5)
    assert len(client.token_changes) == 3


# A client's token


async def test_a_client_replaces_its_token_and_the_thief_is_out(federation):
    experiment, key = await federation.create()
    member = await federation.enrol(experiment, key, 0)
    made = await member.api.replace_token(experiment, key_of(0))
    assert await refused_as("unauthenticated", member.status())
    mine = member.api.using(made.token)
    assert (await mine.status(experiment)).action == "wait"
    assert await member.api.replace_token(experiment, key_of(0)) == made  # a lost answer
    assert (
        await federation.enrol(experiment, key, 0)
    ).api.connection.key == made.token  # and so from now on
    second = await mine.replace_token(experiment, key_of(0))
    assert second.token not in (made.token, member.api.connection.key)
    assert await refused_as("unauthenticated", member.api.replace_token(experiment, key_of(0)))


@BOTH_STORES
async def test_copies_of_one_replacement_at_once_give_one_token(federation):
    experiment, key = await federation.create()
    member = await federation.enrol(experiment, key, 0)
    others = [federation.coordinator() for _ in range(6)]
    made = await asyncio.gather(
        *(c.access.replace_token(experiment, member.api.connection.key, key_of(0)) for c in others)
    )
    assert len({*made}) == 1
    await member.api.using(made[0]).status(experiment)


async def test_a_thief_without_the_client_key_cannot_replace_a_token(federation):
    experiment, key = await federation.create()
    member = await federation.enrol(experiment, key, 0)
    other = await federation.enrol(experiment, key, 1)
    for token, client_key in (
        (member.api.connection.key, "x" * 40),
        (member.api.connection.key, key_of(1)),
        (other.api.connection.key, key_of(0)),
        ("0.tok_guess", key_of(0)),
        (key, key_of(0)),
        (ADMIN_KEY, key_of(0)),
    ):
        assert await refused_as(
            "unauthenticated", member.api.using(token).replace_token(experiment, client_key)
        )
    assert (await member.status()).action == "wait"


# The admin key


async def test_while_the_admin_key_changes_both_work_and_old_enrolment_keys_go_on(federation):
    experiment, old = await federation.create()
    state = federation.app.state
    state.coordinator = Coordinator(state.coordinator.context, "the-new-admin-key-0001", ADMIN_KEY)
    new_admin = federation.admin.using("the-new-admin-key-0001")
    for api in (federation.admin, new_admin):
        assert (await api.enrolment_key(experiment)).enrolment_key == old
    await federation.enrol(experiment, old, 0)
    made = await new_admin.create_experiment("x", config(), "under-the-new-key")
    stored = await state.coordinator.context.repo.experiment(made.id)
    made_of = ("the-new-admin-key-0001", made.id, 0, stored.enrol_salt)
    assert made.enrolment_key == enrolment_key(*made_of)
    # The change is over: what was made under the old key works, but is not shown any more.
    state.coordinator = Coordinator(state.coordinator.context, "the-new-admin-key-0001")
    assert await refused_as("unauthenticated", federation.admin.stop_experiment(experiment))
    await federation.enrol(experiment, old, 1)
    with pytest.raises(StateConflict, match="FL_ADMIN_KEY_PREVIOUS"):
        await new_admin.enrolment_key(experiment)
    replaced = await new_admin.replace_enrolment_key(experiment, "rotate-away")
    assert (await new_admin.enrolment_key(experiment)) == replaced


async def test_an_enrolment_key_is_no_oracle_of_the_admin_key(federation):
    """Whoever holds one, and knows how it is derived, cannot tell the right admin key by it."""
    experiment, first = await federation.create()
    await federation.enrol(experiment, first, 0)
    second = (await federation.admin.replace_enrolment_key(experiment, "rotate-it")).enrolment_key
    assert first != enrolment_key(ADMIN_KEY, experiment)
    assert second != enrolment_key(ADMIN_KEY, experiment, 1)
    stored = await federation.coordinator().context.repo.experiment(experiment)
    assert len(stored.enrol_salt) == 64
    assert first != enrolment_key(ADMIN_KEY, experiment, 0, stored.enrol_salt)  # each its own
    assert second == enrolment_key(ADMIN_KEY, experiment, 1, stored.enrol_salt)
    path = f"/v1/experiments/{experiment}"
    for what in ("", "/clients", "/models", "/audit", "/enrolment-key"):
        headers = bearer(ADMIN_KEY)
        answer = await federation.http.get(path + what, headers=headers)
        assert answer.status_code == 200
        assert stored.enrol_salt not in answer.text  # it never leaves the store


async def test_an_enrolment_key_from_before_there_were_salts_goes_on(federation):
    experiment, _ = await federation.create()
    repo = federation.coordinator().context.repo
    old = enrolment_key(ADMIN_KEY, experiment)
    stored = await repo.experiment(experiment)
    before = replace(stored, enrol_salt="", enrol_key_hash=fingerprint(old))
    assert await repo.save_experiment(before)
    assert (await federation.admin.enrolment_key(experiment)).enrolment_key == old
    await federation.enrol(experiment, old, 0)
    assert (await federation.admin.replace_enrolment_key(experiment, "rotate-it")).generation == 1


def test_admin_keys_are_not_shown_by_accident_and_have_names():
    keys = AdminKeys("first-admin-key-000", "second-admin-key-00")
    assert "admin-key" not in repr(keys)
    assert keys.caller("first-admin-key-000") == "admin"
    assert keys.caller("second-admin-key-00") == "admin (previous key)"
    assert keys.caller(fingerprint("first-admin-key-000")) is None
    assert AdminKeys("first-admin-key-000").caller("") is None


# Caps


async def test_so_many_experiments_may_be_open_and_no_more(federation):
    federation.limits = replace(federation.limits, max_experiments=2)
    federation.app.state.coordinator = federation.coordinator()
    one = await federation.admin.create_experiment("x", config(), "number-one")
    await federation.admin.create_experiment("x", config(), "number-two")
    with pytest.raises(StateConflict) as caught:
        await federation.admin.create_experiment("x", config(), "number-three")
    assert caught.value.code == "too-many-experiments"
    assert await federation.admin.create_experiment("x", config(), "number-one") == one
    await federation.admin.stop_experiment(one.id)
    await federation.admin.create_experiment("x", config(), "number-three")


async def test_an_experiment_with_more_slots_than_allowed_is_refused(federation):
    federation.limits = replace(federation.limits, max_clients=3)
    federation.app.state.coordinator = federation.coordinator()
    with pytest.raises(RequestRefused) as caught:
        await federation.admin.create_experiment("x", config(), "too-many-slots")
    assert (caught.value.status, caught.value.code) == (422, "too-many-clients")


@BOTH_STORES
@pytest.mark.parametrize("crossing", ["another key", "a stop"])
async def test_the_initial_commit_is_not_lost_to_what_crosses_it(federation, crossing):
    made = await federation.admin.create_experiment("toy", config(), "crossed-commit")
    data = weights(0)
    sha256 = hashlib.sha256(data).hexdigest()
    other = federation.coordinator()
    await other.experiments.store_initial_part(made.id, 0, sha256, data)

    class Crossed:
        """Something else writes the experiment just before its first replacement here."""

        crossed = False

        def __getattr__(self, name):
            return getattr(federation.documents, name)

        async def replace(self, *arguments):
            if not self.crossed:
                self.crossed = True
                if crossing == "a stop":
                    await other.experiments.stop(made.id, "Enough.")
                else:
                    await other.access.replace_enrolment_key(made.id, None, "admin")
            return await federation.documents.replace(*arguments)

    commit = WeightsCommit(sha256=sha256, parts=[sha256])
    experiments = federation.coordinator(documents=Crossed()).experiments
    if crossing == "a stop":
        for _ in range(2):  # a retry is told the same
            with pytest.raises(Conflict, match="is stopped"):
                await experiments.commit_initial(made.id, commit)
    else:
        await experiments.commit_initial(made.id, commit)
        shown = await federation.admin.experiment(made.id)
        assert (shown.state, shown.model_version) == ("enrolling", 0)
