"""What all parties of an attempt under secure aggregation agree on, out of the records."""

from __future__ import annotations

from dataclasses import replace

from app.service.records.repository import Repository
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.provenance import config_digest
from serverless_fl.domain.records import PhaseKeys
from serverless_fl.domain.round import Round
from serverless_fl.privacy.secure.context import AttemptContext, Member, Proof
from serverless_fl.privacy.secure.terms import Terms

ATTEMPTS = 8  # a process remembers so many


async def attempt_context(
    repo: Repository, experiment: Experiment, round_: Round
) -> AttemptContext:
    """What all parties of an attempt agree on; it has no roster until the phase of keys is over.

    A process remembers it: each call of an attempt needs it, and it is as long as the roster, whose
    keys never change.
    """
    base = await repo.model(experiment.id, round_.base_version)
    assert base is not None  # noqa: S101  (the round before was closed with it)
    facts = AttemptContext(
        experiment=experiment.id,
        round=round_.number,
        attempt=round_.attempt,
        model_sha256=(base.compressed or base.blob).sha256,
        config_sha256=config_digest(experiment.config_of(round_.number)),
        terms=Terms.of(experiment.config),
        roster=(),
    )
    if not round_.roster:
        return facts
    name = facts.digest, round_.roster
    known = repo.attempts.get(name)
    if known is None:
        roster = set(round_.roster)
        keys = await repo.phase_keys(round_)
        members = tuple(member_of(found) for found in keys if found.slot in roster)
        known = replace(facts, roster=members)
        if len(repo.attempts) >= ATTEMPTS:
            repo.attempts.clear()
        repo.attempts[name] = known
    return known


def member_of(found: PhaseKeys) -> Member:
    """The entry of the roster with the keys that a client has sent."""
    proof = None
    if found.identity:
        identity, signature = bytes.fromhex(found.identity), bytes.fromhex(found.signature)
        proof = Proof(identity, signature, found.certificate)
    keys = bytes.fromhex(found.box_key), bytes.fromhex(found.mask_key)
    return Member(found.slot, *keys, proof)
