"""Changes who has access: revokes clients, replaces enrolment keys and tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from app.service.clients.credentials import (
    AdminKeys,
    client_token,
    enrolment_key,
    fingerprint,
    matches,
    new_salt,
    slot_of,
)
from app.service.clients.enrolment import Enrolled, require_certificate, require_not_revoked
from app.service.context import Context
from app.service.data.shards import examples_of
from app.service.rounds.machine import Rounds
from app.service.waking import addresses
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import Conflict, NotFound, Unauthenticated
from serverless_fl.domain.experiment import MAX_ROTATIONS, Experiment, Rotation
from serverless_fl.domain.records import MAX_TOKEN_CHANGES, Client, ClientCertificate, slot_named


@dataclass(frozen=True)
class EnrolmentKey:
    """The key that clients enrol with. `generation` counts its replacements."""

    key: str = field(repr=False)
    generation: int


class Access:
    """Revokes clients and replaces the enrolment key for the admin, and tokens for clients."""

    def __init__(self, context: Context, rounds: Rounds, keys: AdminKeys) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        self._keys = keys

    async def revoke(self, experiment_id: str, client_id: str, by: str) -> Enrolled:
        """Exclude a client for good. Its accepted updates stay. Raises NotFound.

        The first write ends the token; the second one keeps the client out of cohorts. After a
        crash between the two, the same call does the second.
        """
        await self.repo.experiment(experiment_id)
        slot = slot_named(client_id)
        while True:
            client = None if slot is None else await self.repo.client(experiment_id, slot)
            if client is None:
                raise NotFound(f"There is no client {client_id!r} in this experiment.")
            if client.revoked_at is not None:
                break
            now = self.context.clock()
            if await self.repo.save_client(replace(client, revoked_at=now, revoked_by=by)):
                log_event("client revoked", experiment=experiment_id, client=client.id, by=by)
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if client.slot in experiment.revoked:
                break
            revoked = tuple(sorted({*experiment.revoked, client.slot}))
            await self.repo.save_experiment(replace(experiment, revoked=revoked))
        await self.rounds.advance(experiment_id)  # the round may have waited for this client only
        rule = await addresses.rule_of(self.context, client)
        return Enrolled(client, examples_of(experiment, client), rule)

    async def enrolment_key(self, experiment_id: str) -> EnrolmentKey:
        """The key that enrols now. Raises NotFound, and Conflict if it cannot be shown."""
        return self._shown(await self.repo.experiment(experiment_id))

    async def replace_enrolment_key(
        self, experiment_id: str, idempotency_key: str | None, by: str
    ) -> EnrolmentKey:
        """Make another enrolment key; the present one stops working. Enrolled clients stay.

        Calls with the same Idempotency-Key make one key. Raises NotFound, Conflict.
        """
        unique = fingerprint(idempotency_key or secrets.token_hex(16))
        while True:
            experiment = await self.repo.experiment(experiment_id)
            made = next((r for r in experiment.rotations if r.unique == unique), None)
            if made is not None:
                if made.generation == experiment.enrol_generation:
                    return self._shown(experiment)
                raise Conflict(
                    f"This Idempotency-Key made enrolment key {made.generation}, and another has "
                    "replaced it since: use a new key for a new one.",
                    code="idempotency-key-reused",
                )
            await self._rotate(experiment, unique, by)

    async def _rotate(self, experiment: Experiment, unique: str, by: str) -> None:
        generation = experiment.enrol_generation + 1
        rotation = Rotation(
            generation=generation,
            unique=unique,
            rotated_at=self.context.clock(),
            rotated_by=by,
        )
        salt = new_salt()
        key = enrolment_key(self._keys.current, experiment.id, generation, salt)
        await self.repo.save_experiment(
            replace(
                experiment,
                enrol_generation=generation,
                enrol_key_hash=fingerprint(key),
                enrol_salt=salt,
                rotations=(*experiment.rotations, rotation)[-MAX_ROTATIONS:],
            )
        )

    def _shown(self, experiment: Experiment) -> EnrolmentKey:
        return EnrolmentKey(self._keys.enrolment_key(experiment), experiment.enrol_generation)

    async def replace_token(
        self,
        experiment_id: str,
        token: str,
        client_key: str,
        certificate: ClientCertificate | None = None,
    ) -> str:
        """Give the client that holds the key another token; `token` stops working.

        `token` is the client's present one, or the one that was just replaced, so a repeated call
        returns the same token. Raises Unauthenticated, Revoked, Forbidden, NotFound.
        """
        await self.repo.experiment(experiment_id)
        while True:
            client = await self.repo.client_by_key(experiment_id, fingerprint(client_key))
            if client is None or client.slot != slot_of(token):
                raise Unauthenticated("The token and the client key are not of one client.")
            require_not_revoked(client)
            require_certificate(client, certificate)
            present = client.token_generation
            if matches(token, client.token_hash):
                await self._renew(client, client_key)
            elif present and matches(token, fingerprint(_token(client, client_key, present - 1))):
                return _token(client, client_key, present)
            else:
                raise Unauthenticated("This is neither the client's token nor the one before it.")

    async def _renew(self, client: Client, client_key: str) -> None:
        generation = client.token_generation + 1
        changes = (*client.token_changes, self.context.clock())
        await self.repo.save_client(
            replace(
                client,
                token_generation=generation,
                token_hash=fingerprint(_token(client, client_key, generation)),
                token_changes=changes[-MAX_TOKEN_CHANGES:],
            )
        )


def _token(client: Client, client_key: str, generation: int) -> str:
    return client_token(client_key, client.experiment_id, client.slot, generation)
