"""An experiment may begin from a model of an earlier one, and everybody can see from which."""

import hashlib

import pytest

from client_sdk.errors import RequestRefused, StateConflict
from client_sdk.tools.verify import verify
from serverless_fl.wire.schema import ModelOrigin
from tests.support.federation import config, weights

FILE = weights(3.0)
SHA256 = hashlib.sha256(FILE).hexdigest()
ORIGIN = ModelOrigin(experiment="an-earlier-one", version=7, sha256=SHA256)


async def create(federation, origin=ORIGIN, **changes):
    return await federation.admin.create_experiment("x", config(**changes), "k" * 20, origin)


async def upload(federation, made, data):
    return await federation.admin.upload_initial_model(made.id, data, made.part_bytes)


async def test_the_origin_is_shown_and_is_in_the_audit_log(federation):
    made = await create(federation)
    assert (await create(federation)).id == made.id  # a retry
    model = await upload(federation, made, FILE)
    shown = await federation.admin.experiment(made.id)
    assert shown.origin is not None
    assert shown.origin.model_dump() == ORIGIN.model_dump()
    assert model.sha256 == SHA256
    first = (await federation.admin.audit(made.id))[0]
    assert first.detail == f"x, from model 7 of an-earlier-one, SHA-256 {SHA256}"
    assert all(finding.good for finding in await verify(federation.admin, made.id))


async def test_other_weights_are_not_taken(federation):
    made = await create(federation)
    with pytest.raises(RequestRefused, match="begins from model 7 of an-earlier-one") as caught:
        await upload(federation, made, weights(4.0))
    assert caught.value.code == "not-the-origin"
    await upload(federation, made, FILE)


async def test_the_same_key_with_another_origin_is_refused(federation):
    made = await create(federation)
    for other in (None, ModelOrigin(experiment="an-earlier-one", version=8, sha256=SHA256)):
        with pytest.raises(StateConflict, match=f"{made.id} with other initial weights"):
            await create(federation, other)


async def test_verify_finds_an_origin_that_is_not_the_initial_model(federation):
    made = await create(federation)
    await upload(federation, made, FILE)
    documents = federation.coordinator().context.repo.documents
    stored = await documents.get("experiments", made.id)
    stored.body["origin"]["sha256"] = "0" * 64
    await documents.replace("experiments", made.id, stored.revision, stored.body)
    found = await verify(federation.admin, made.id)
    assert [f.message for f in found] == ["it is not model 7 of an-earlier-one, its origin"]


async def test_an_experiment_without_an_origin_has_none(federation):
    experiment, _ = await federation.create()
    assert (await federation.admin.experiment(experiment)).origin is None


async def test_a_deleted_experiment_says_nothing_of_its_origin(federation):
    made = await create(federation)
    await upload(federation, made, FILE)
    await federation.admin.delete_experiment(made.id, stop=True)
    left = await federation.coordinator().context.repo.tombstone(made.id)
    assert (left.origin, left.extensions) == (None, ())
