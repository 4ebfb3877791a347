"""What all parties of an attempt under secure aggregation agree on, out of the records."""

from __future__ import annotations

from app.service.records.repository import Repository
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.provenance import config_digest
from serverless_fl.domain.records import PhaseKeys
from serverless_fl.domain.round import Round
from serverless_fl.privacy.secure.context import AttemptContext, Member, Proof
from serverless_fl.privacy.secure.terms import Terms


async def attempt_context(
    repo: Repository, experiment: Experiment, round_: Round
) -> AttemptContext:
    """What all parties of an attempt agree on; it has no roster until the phase of keys is over."""
    base = await repo.model(experiment.id, round_.base_version)
    assert base is not None  # noqa: S101  (the round before was closed with it)
    roster = set(round_.roster)
    return AttemptContext(
        experiment=experiment.id,
        round=round_.number,
        attempt=round_.attempt,
        model_sha256=(base.compressed or base.blob).sha256,
        config_sha256=config_digest(experiment.config_of(round_.number)),
        terms=Terms.of(experiment.config),
        roster=tuple(
            member_of(found)
            for found in (await repo.phase_keys(round_) if roster else ())
            if found.slot in roster
        ),
    )


def member_of(found: PhaseKeys) -> Member:
    """The entry of the roster with the keys that a client has sent."""
    proof = None
    if found.identity:
        identity, signature = bytes.fromhex(found.identity), bytes.fromhex(found.signature)
        proof = Proof(identity, signature, found.certificate)
    keys = bytes.fromhex(found.box_key), bytes.fromhex(found.mask_key)
    return Member(found.slot, *keys, proof)
