"""The models of an experiment whose parties' sums fix scales carry these in their metadata."""

from __future__ import annotations

import json

import pytest

from app.service.coordinator import Limits
from client_sdk.tools.verify import verify
from serverless_fl.domain.agreement import NORMALISE, SCALES, scales_in
from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights.deltas import decompress_model
from serverless_fl.weights.header import layout_of
from tests.support.federation import Member, key_of, weights
from tests.support.own_data import FACTS, OWN, model, sums

FEDERATED = OWN | {"normalisation": "federated", "clients": 2, "clients_per_round": 2, "rounds": 2}


async def finished(federation, columns=("age", "height"), **settings):
    """Two rounds of two parties whose ages and heights have mean 4 and 30."""
    initial = model(*columns)
    experiment, key = await federation.create(initial, keep_updates=2, **FEDERATED | settings)
    for number, values in enumerate(((1.0, 3.0), (5.0, 7.0))):
        made = await federation.admin.using(key).subscribe(
            *(experiment, key_of(number), f"c{number}"),
            examples=10,
            facts=FACTS,
            sums=[sums("age", *values), sums("height", *(10 * v - 10 for v in values))],
        )
        party = Member(federation.admin.using(made.token), experiment, made.client_id)
        federation.parties = [*getattr(federation, "parties", []), party]
    for number in (1, 2):
        for party in federation.parties[-2:]:
            await party.upload(number, float(number))
    return experiment, initial


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "fedadam"}, {"download_encoding": "int8"}],
    ids=["mean", "with state", "compressed"],
)
async def test_every_model_but_the_first_has_the_fixed_scales_and_verify_agrees(
    federation, settings
):
    federation.limits = Limits(part_bytes=256)
    federation.app.state.coordinator = federation.coordinator()
    experiment, initial = await finished(federation, **settings)
    first = layout_of(await federation.admin.download_model(experiment, 0))
    assert first.header == layout_of(initial).header
    for version in (1, 2):
        found = layout_of(await federation.admin.download_model(experiment, version))
        assert scales_in(found.metadata) == {
            "age": pytest.approx((4, 5**0.5)),
            "height": pytest.approx((30, 10 * 5**0.5)),
        }
        assert {n: w for n, w in found.metadata.items() if n != SCALES} == first.metadata
        assert found.tensors == first.tensors
    findings = await verify(federation.admin, experiment)
    assert [(f.version, f.good) for f in findings] == [(n, True) for n in (0, 1, 1, 2, 2)]
    if "download_encoding" in settings:
        shown = await federation.admin.models(experiment)
        data = await federation.admin.download_model(
            experiment, 1, encoded=True, file=shown[1].encoded
        )
        assert scales_in(layout_of(decompress_model(data)).metadata)


async def test_verify_names_scales_that_were_not_agreed(federation):
    experiment, _ = await finished(federation)
    documents = federation.documents
    found = await documents.get("normalisations", f"{experiment}/0000000")
    body = json.loads(json.dumps(found.body))
    body["scales"][0]["mean"] = 5.0
    assert await documents.replace("normalisations", found.key, found.revision, body)
    faults = [f.message for f in await verify(federation.admin, experiment) if not f.good]
    assert faults == ["its header is not the initial model's, with the scales that were agreed"] * 2


@pytest.mark.parametrize("text", ["", "[[1, 2]]", "[[1, 2], [3]]", "[[1, 2], 3]", '["a", "b"]'])
def test_scales_that_are_no_numbers_for_each_column_are_refused(text):
    about = {NORMALISE: '["age", "height"]', SCALES: text}
    with pytest.raises(BadWeights, match="a mean and a deviation for each column"):
        scales_in(about)


async def test_models_of_other_experiments_keep_the_header_of_the_first(federation):
    experiment, members = await federation.start(initial=weights(0))
    for name in await federation.cohort(experiment):
        await members[name].upload(1, 1.0)
    data = await federation.admin.download_model(experiment, 1)
    assert layout_of(data).header == layout_of(weights(0)).header
