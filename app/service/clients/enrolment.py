"""Enrols clients: checks keys and tokens, gives each client a slot, a token and a shard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from app.service.clients.credentials import client_token, fingerprint, matches, slot_of
from app.service.context import Context
from app.service.data.declarations import (
    Declaration,
    Terms,
    check_declaration,
    require_same_examples,
    sums_are_due,
    terms,
)
from app.service.data.shards import (
    Shard,
    ShardRule,
    draw_shard,
    examples_of,
    require_shards,
    rule_of,
)
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_sample
from app.service.waking import addresses
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import (
    Conflict,
    ExperimentFull,
    Forbidden,
    NotAToken,
    OutOfTurn,
    Revoked,
    Unauthenticated,
)
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client, ClientCertificate, client_id
from serverless_fl.privacy.secure.context import Proof, Refused

LISTED_AT_ONCE = 50_000  # indices that a subscription lists: 400 kB, which every platform carries
LISTED = 2_000_000  # indices that any answer lists: 16 MB


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """A party that wants to become a client.

    `told`: another program tells it when to ask, as in a simulation. `shard`: list the shard's
    indices in the answer. `certificate` is shown by the proxy. `declared` is about its own data.
    `wake_address` is where it wants to be woken up, and `wake_key` signs that.
    """

    client_key: str = field(repr=False)
    name: str = ""
    told: bool = False
    shard: bool = False
    certificate: ClientCertificate | None = None
    declared: Declaration = field(default_factory=Declaration)
    proof: Proof | None = None  # of a party that has an identity
    wake_address: str = field(default="", repr=False)
    wake_key: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a client gets when it enrols.

    `shard` is None unless it was asked for and is short. `rule` is None if there are no shards.
    """

    client_id: str
    token: str = field(repr=False)
    examples: int
    shard: Shard | None
    rule: ShardRule | None


@dataclass(frozen=True)
class Enrolled:
    """A client, how many examples it has, and the rule that allows its wake-up address."""

    client: Client
    examples: int
    woken_by: str = ""


class Enrolment:
    """Makes clients of parties, and recognises them by their tokens."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        # Without the lock, the claims of one process would try the same slot, and all but one fail.
        self._claiming = asyncio.Lock()

    async def require_enrolment_key(self, experiment_id: str, key: str) -> Experiment:
        """The experiment that this key enrols for.

        Raises Unauthenticated, and NotFound: the ids of experiments are no secret.
        """
        experiment = await self.repo.experiment(experiment_id)
        if not matches(key, experiment.enrol_key_hash):
            raise Unauthenticated("This is not the experiment's enrolment key.")
        return experiment

    async def client_of(self, experiment_id: str, token: str) -> Client:
        """The client whose token this is.

        Raises Unauthenticated, Revoked, and NotFound if the experiment was deleted: the records of
        its clients are gone.
        """
        slot = slot_of(token)
        client = None if slot is None else await self.repo.client(experiment_id, slot)
        if client is None and await self.repo.tombstone(experiment_id) is not None:
            await self.repo.experiment(experiment_id)  # raises NotFound, code "deleted"
        if client is None or not matches(token, client.token_hash):
            raise NotAToken
        require_not_revoked(client)
        return client

    @staticmethod
    def is_token(secret: str) -> bool:
        """Whether a secret has the form of a client's token; nothing is looked up."""
        return slot_of(secret) is not None

    async def require_client_of(self, experiment_id: str, token: str) -> None:
        """Raise Unauthenticated unless the token names a client that is enrolled, or NotFound.

        The token may be an earlier one of that client.
        """
        slot = slot_of(token)
        await self.repo.experiment(experiment_id)
        if slot is None or await self.repo.client(experiment_id, slot) is None:
            raise NotAToken

    async def subscribe(self, experiment_id: str, key: str, request: Subscriber) -> Subscription:
        """Claim a free slot; the same client key always has the same slot and token.

        Raises Unauthenticated, Revoked, OutOfTurn, ExperimentFull, and BadEnrolment or Conflict if
        the experiment does not take this party's data.
        """
        experiment = await self.require_enrolment_key(experiment_id, key)
        if request.shard:
            require_shards(experiment)
        _require_proof(experiment_id, request)
        addresses.require_allowed(self.context, request.wake_address)
        unique = fingerprint(request.client_key)
        # Count first: if a copy of this request takes the last slot in between, its key is found.
        enrolled = await self.repo.count_clients(experiment_id)
        client = await self.repo.client_by_key(experiment_id, unique)
        if client is None:
            _require_open(experiment, enrolled)
        else:
            require_not_revoked(client)
            client = await self._with_certificate(client, request.certificate)
        await check_declaration(self.context, experiment, request.declared, known=client)
        if client is None:
            async with self._claiming:
                client = await self._claim(experiment_id, key, request, unique)
            require_not_revoked(client)
            require_certificate(client, request.certificate)
        require_same_examples(client, request.declared)
        client = await self._with_identity(client, request)
        await addresses.register(self.context, client, request.wake_address, request.wake_key)
        # The last client to enrol opens the first round.
        await self.rounds.advance(experiment_id, check_sample)
        size = examples_of(experiment, client)
        listed = size <= LISTED_AT_ONCE
        return Subscription(
            client_id=client.id,
            token=client_token(
                request.client_key, experiment_id, client.slot, client.token_generation
            ),
            examples=size,
            shard=await draw_shard(experiment, client) if request.shard and listed else None,
            rule=rule_of(experiment, client) if client.examples is None else None,
        )

    async def _with_identity(self, client: Client, request: Subscriber) -> Client:
        """The client with the identity that it shows now: it may have got one since it enrolled."""
        identity = _identity_of(request)
        if not identity or client.identity == identity:
            return client
        changed = replace(client, identity=identity)
        await self.repo.save_client(changed)  # else another call has changed it: the next one does
        return changed

    async def _claim(
        self, experiment_id: str, key: str, request: Subscriber, unique: str
    ) -> Client:
        """Claim the next slot, or return the one that a copy of this request has claimed."""
        # Slots are claimed in ascending order, each only after the one before is known to be taken;
        # `count_clients` relies on it. A call that loses a slot to another call tries the next one.
        while True:
            slot = await self.repo.count_clients(experiment_id)
            own = await self.repo.client_by_key(experiment_id, unique)
            if own is not None:
                return own
            # Meanwhile the experiment may have ended, or the key may have been replaced.
            experiment = await self.require_enrolment_key(experiment_id, key)
            _require_open(experiment, slot)
            declared = request.declared
            client = Client(
                experiment_id=experiment_id,
                slot=slot,
                name=request.name,
                token_hash=fingerprint(client_token(request.client_key, experiment_id, slot)),
                enrolled_at=self.context.clock(),
                told=request.told,
                identity=_identity_of(request),
                examples=declared.examples,
                sums=tuple(declared.sums) if sums_are_due(experiment) else (),
                certificate=request.certificate,
            )
            if await self.repo.add_client(client, unique):
                log_event("client enrolled", experiment=experiment_id, client=client.id)
                return client

    async def _with_certificate(self, client: Client, shown: ClientCertificate | None) -> Client:
        """Bind a client that enrolled without a certificate to the one that it shows now.

        Raises Forbidden if it is bound to another one.
        """
        while client.certificate is None and shown is not None:
            if await self.repo.save_client(replace(client, certificate=shown)):
                log_event("client certificate", experiment=client.experiment_id, client=client.id)
            client = await self.repo.client_again(client)
        require_certificate(client, shown)
        return client

    async def terms(self, experiment_id: str) -> Terms:
        """The terms for parties with data of their own. Raises NotFound, Conflict."""
        return await terms(self.context, await self.repo.experiment(experiment_id))

    async def shard(self, client: Client) -> Shard:
        """The client's part of the data set, as indices. Raises Conflict if they are too many.

        The SDK computes a long shard by the rule of its subscription; other clients may ask here.
        """
        experiment = await self.repo.experiment(client.experiment_id)
        require_shards(experiment)
        size = examples_of(experiment, client)
        if size > LISTED:
            raise Conflict(
                f"The shard's {size} indices are more than the {LISTED} that are listed: compute "
                "them by the rule that the subscription gives, as the SDK does.",
                code="shard-too-long",
            )
        return await draw_shard(experiment, client)


def _identity_of(request: Subscriber) -> str:
    return "" if request.proof is None else request.proof.identity.hex()


def _require_proof(experiment_id: str, request: Subscriber) -> None:
    """Raise Conflict for an identity that has not signed the enrolment."""
    if request.proof is None:
        return
    # Imported here: few parties have an identity, and it needs the package of ciphers.
    from serverless_fl.privacy.secure.identity import require_enrolment

    try:
        require_enrolment(request.proof, experiment_id, request.client_key)
    except Refused as refused:
        raise Conflict(str(refused), code="not-signed") from refused


def _require_open(experiment: Experiment, enrolled: int) -> None:
    """Raises OutOfTurn, ExperimentFull."""
    if experiment.state is ExperimentState.AWAITING_MODEL:
        raise OutOfTurn(
            f"The experiment is {experiment.state}: its initial model has not been uploaded yet, "
            "try again."
        )
    if experiment.ended:
        raise OutOfTurn(f"The experiment is {experiment.state}: nobody can join any more.")
    if enrolled >= experiment.config.clients:
        raise ExperimentFull(f"All {experiment.config.clients} slots of this experiment are taken.")


def require_not_revoked(client: Client) -> None:
    """Raises Revoked."""
    if client.revoked_at is not None:
        raise _revoked(client.slot)


def require_certificate(
    client: Client, shown: ClientCertificate | None, *, required: bool = False
) -> None:
    """Raise Forbidden unless the caller shows the certificate that the client is bound to.

    `required`: every client has to be bound to one.
    """
    known = client.certificate
    if known is None and required:
        raise Forbidden(
            f"{client.id} enrolled without a certificate, and clients need one now: start `join` "
            "again, which enrols the same client with it.",
            code="certificate-missing",
        )
    if known is not None and shown is None:
        raise Forbidden(
            f"{client.id} enrolled with a client certificate, and the coordinator sees none now: "
            "give `join` --client-certificate and --client-key.",
            code="certificate-missing",
        )
    if known is not None and shown != known:
        raise Forbidden(
            f"{client.id} enrolled with the certificate of another subject or issuer.",
            code="certificate-differs",
        )


def require_part(experiment: Experiment, slot: int) -> None:
    """Raises Revoked if the client in this slot was revoked.

    Its token was checked when its request began; its upload or report is stored only now.
    """
    if slot in experiment.revoked:
        raise _revoked(slot)


def _revoked(slot: int) -> Revoked:
    return Revoked(
        f"{client_id(slot)} was revoked by the admin: it takes part no more. Ask them if that is "
        "a mistake."
    )
