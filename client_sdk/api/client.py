"""A typed async client of the coordinator's API, over httpx."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Mapping, Sequence
from typing import Self, TypeVar, Unpack

import httpx
from pydantic import BaseModel, TypeAdapter

from client_sdk import errors
from client_sdk.api.answers import parse
from client_sdk.api.connection import Connection, ConnectionOptions
from client_sdk.api.download import download
from client_sdk.api.parts import TRIES
from client_sdk.api.traffic import Traffic
from client_sdk.api.upload import Upload
from serverless_fl.domain.agreement import ColumnSums
from serverless_fl.domain.wake_ups import wake_key
from serverless_fl.privacy.secure.context import Proof
from serverless_fl.wire import agreement, identity, masking, schema, turns, views
from serverless_fl.wire.agreement import AgreementView
from serverless_fl.wire.bounds import Listed
from serverless_fl.wire.config import ExperimentConfig

MAX_HELD = 32  # connections that wait for answers which the coordinator holds back
STATUS_BYTES = 64 * 1024  # of an answer that says what to do
_STATUS: TypeAdapter[turns.Train | turns.Wait | turns.Phase | turns.Done] = TypeAdapter(
    turns.RoundStatus
)
_MODELS: TypeAdapter[list[views.ModelView]] = TypeAdapter(Listed[views.ModelView])
_CLIENTS: TypeAdapter[list[views.ClientView]] = TypeAdapter(Listed[views.ClientView])
_EXPERIMENTS: TypeAdapter[list[views.ExperimentSummary]] = TypeAdapter(
    Listed[views.ExperimentSummary]
)
_EXPERIMENT: TypeAdapter[views.ExperimentView] = TypeAdapter(views.ExperimentView)
_AUDIT: TypeAdapter[list[views.AuditEvent]] = TypeAdapter(Listed[views.AuditEvent])
_RECEIPT: TypeAdapter[schema.UpdateReceipt] = TypeAdapter(schema.UpdateReceipt)
M = TypeVar("M", bound=BaseModel)


class CoordinatorClient:
    """One caller of one coordinator. Use it as an async context manager.

    `key` is the admin key, an enrolment key or a client's token; `using(key)` gives another
    caller over the same connections. `options` are those of a `Connection`. Every call raises
    RequestRefused, CoordinatorUnreachable or BadAnswer. Raises BadSettings as Connection does.
    """

    def __init__(
        self, base_url: str, key: str | None = None, **options: Unpack[ConnectionOptions]
    ) -> None:
        self.connection = Connection(base_url, key, **options)
        self._most_initial_bytes: dict[str, int | None] = {}  # by experiment, as it was created
        # An answer that is held back occupies a connection, and other calls must find a free one.
        self._holding = asyncio.Semaphore(MAX_HELD)

    def using(self, key: str) -> Self:
        """Give another caller over the same connections; closing the first closes both."""
        other = copy.copy(self)
        other.connection = self.connection.using(key)
        return other

    @property
    def traffic(self) -> Traffic:
        """What this caller and all others over the same connections have moved."""
        return self.connection.traffic

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.__aexit__()

    # The admin's calls

    async def create_experiment(
        self,
        name: str,
        config: ExperimentConfig,
        idempotency_key: str,
        origin: schema.ModelOrigin | None = None,
    ) -> schema.CreatedExperiment:
        """Create an experiment; the same key gives the same one again.

        If it begins from the model of another one, `origin` names it. Raises RequestRefused.
        """
        created = await self.connection.call(
            schema.CreatedExperiment,
            "POST",
            "/experiments",
            body=schema.CreateExperiment(name=name, config=config, origin=origin),
            headers={"Idempotency-Key": idempotency_key},
        )
        self._most_initial_bytes[created.id] = created.max_model_bytes
        return created

    async def upload_initial_model(
        self,
        experiment_id: str,
        weights: bytes,
        part_bytes: int,
        *,
        direct: bool = False,
    ) -> views.ModelView:
        """Upload the initial weights (safetensors) and open the enrolment.

        `part_bytes` and `direct` come from the created experiment. A model of more bytes than the
        coordinator takes is not sent: RequestRefused.
        """
        _require_size(len(weights), self._most_initial_bytes.get(experiment_id), "model")
        path = f"/experiments/{experiment_id}/initial-model"
        upload = Upload(self.connection, path, weights, part_bytes, direct=direct)
        commit = schema.WeightsCommit(sha256=upload.sha256, parts=upload.parts)
        return await self._send_and_commit(upload, views.ModelView, path, commit)

    async def stop_experiment(self, experiment_id: str) -> views.ExperimentView:
        return await self.connection.call(
            views.ExperimentView, "POST", f"/experiments/{experiment_id}/stop"
        )

    async def delete_experiment(self, experiment_id: str, *, stop: bool = False) -> None:
        """Delete an experiment that has ended, or `stop` it first: models, clients and records.

        Raises StateConflict (`not-ended`), NotThere.
        """
        query = "?stop=true" if stop else ""
        await self.connection.request("DELETE", f"/experiments/{experiment_id}{query}")

    async def change_experiment(
        self, experiment_id: str, **changes: str | int | None
    ) -> views.ExperimentView:
        """Give an experiment another `name`, or other `keep_days` (None: it stays for good).

        What is left out stays as it is. Raises NotThere.
        """
        body = schema.ChangeExperiment.model_validate(changes).model_dump_json(exclude_unset=True)
        path, headers = f"/experiments/{experiment_id}", {"Content-Type": "application/json"}
        answer = await self.connection.request(
            "PATCH", path, content=body.encode(), headers=headers
        )
        return parse(_EXPERIMENT, answer)

    async def pause_experiment(self, experiment_id: str) -> views.ExperimentView:
        """Open no further round once the present one is closed. Raises StateConflict."""
        return await self.connection.call(
            views.ExperimentView, "POST", f"/experiments/{experiment_id}/pause"
        )

    async def resume_experiment(
        self,
        experiment_id: str,
        budget_usd: float | None = None,
        rounds: int | None = None,
        budget_epsilon: float | None = None,
    ) -> views.ExperimentView:
        """Let a paused experiment go on, with other budgets or more rounds where they are given.

        With more rounds, one whose rounds are all closed runs again. Raises StateConflict; its code
        is `budget-reached` where a budget leaves no room for another round, `not-extendable` where
        the experiment can get no more rounds.
        """
        body = schema.Resume(budget_usd=budget_usd, rounds=rounds, budget_epsilon=budget_epsilon)
        path = f"/experiments/{experiment_id}/resume"
        return await self.connection.call(views.ExperimentView, "POST", path, body=body)

    async def revoke_client(self, experiment_id: str, client_id: str) -> views.ClientView:
        """End a client's part; its token stops working. Its accepted updates stand."""
        path = f"/experiments/{experiment_id}/clients/{client_id}/revoke"
        return await self.connection.call(views.ClientView, "POST", path)

    async def enrolment_key(self, experiment_id: str) -> schema.EnrolmentKey:
        path = f"/experiments/{experiment_id}/enrolment-key"
        return await self.connection.call(schema.EnrolmentKey, "GET", path)

    async def replace_enrolment_key(
        self, experiment_id: str, idempotency_key: str
    ) -> schema.EnrolmentKey:
        """Make another enrolment key; the old one stops working. A retry makes no third."""
        return await self.connection.call(
            schema.EnrolmentKey,
            "POST",
            f"/experiments/{experiment_id}/enrolment-key",
            headers={"Idempotency-Key": idempotency_key},
        )

    async def audit(
        self, experiment_id: str, after: str = "", limit: int = 100
    ) -> list[views.AuditEvent]:
        """A page of the audit trail, oldest first; `after` is the cursor of the event before."""
        path = f"/experiments/{experiment_id}/audit"
        response = await self.connection.request(
            "GET", path, params={"after": after, "limit": str(limit)}
        )
        return parse(_AUDIT, response)

    # Everybody's calls

    async def experiments(self, after: str = "", limit: int = 100) -> list[views.ExperimentSummary]:
        """A page of the experiments, oldest first; `after` is the id of the last one before."""
        response = await self.connection.request(
            "GET", "/experiments", params={"after": after, "limit": str(limit)}
        )
        return parse(_EXPERIMENTS, response)

    async def experiment(self, experiment_id: str, after_round: int = 0) -> views.ExperimentView:
        """The experiment, with the history of the rounds above `after_round`."""
        query = f"?after_round={after_round}" if after_round else ""
        return await self.connection.call(
            views.ExperimentView, "GET", f"/experiments/{experiment_id}{query}"
        )

    async def round(self, experiment_id: str, number: int) -> views.RoundView:
        path = f"/experiments/{experiment_id}/rounds/{number}"
        return await self.connection.call(views.RoundView, "GET", path)

    async def unmasking(self, experiment_id: str, number: int) -> masking.MaskingView:
        """What a masked round was unmasked with; for the admin. Raises NotThere."""
        path = f"/experiments/{experiment_id}/rounds/{number}/unmasking"
        return await self.connection.call(masking.MaskingView, "GET", path)

    async def models(self, experiment_id: str, after: int = -1) -> list[views.ModelView]:
        """The versions above `after`."""
        query = f"?after={after}" if after >= 0 else ""
        return parse(
            _MODELS,
            await self.connection.request("GET", f"/experiments/{experiment_id}/models{query}"),
        )

    async def clients(self, experiment_id: str, after: int | None = None) -> list[views.ClientView]:
        """The first thousand clients that have enrolled, by slot; of those after slot `after`."""
        query = "" if after is None else f"?after={after}"
        path = f"/experiments/{experiment_id}/clients{query}"
        return parse(_CLIENTS, await self.connection.request("GET", path))

    async def download_model(
        self,
        experiment_id: str,
        version: int | str = "latest",
        part_bytes: int = 4 * 1024**2,
        *,
        direct: bool = False,
        held: bytes | None = None,
        encoded: bool = False,
        file: schema.BlobInfo | None = None,
    ) -> bytes:
        """A model's safetensors bytes, verified.

        They come in ranges of `part_bytes` or, with `direct`, from the coordinator's blob store;
        an experiment's view has both. `held` is a model from before: the coordinator does not send
        the same one again. `encoded` asks for the compressed model that clients train from;
        `serverless_fl.weights.deltas.decompress_model` makes weights of it. `file` is what the
        coordinator has announced, if it has; other bytes are an error.

        Raises CorruptDownload, NotThere, NotAuthorised, BadAnswer.
        """
        path = f"/experiments/{experiment_id}/models/{version}"
        if version == "latest" and direct:
            newest = (await self.experiment(experiment_id)).model_version
            path = f"/experiments/{experiment_id}/models/{newest or 0}"
        path += "/encoded" if encoded else ""
        return await download(
            self.connection, path, part_bytes, direct=direct, held=held, file=file
        )

    async def download_state(
        self,
        experiment_id: str,
        version: int,
        name: str,
        part_bytes: int = 4 * 1024**2,
        *,
        direct: bool = False,
        file: schema.BlobInfo | None = None,
    ) -> bytes:
        """An array of the strategy's state: a safetensors file like the model's, verified.

        Version 0 has none: there the strategy's initial values hold. The arguments and the errors
        are those of `download_model`.
        """
        path = f"/experiments/{experiment_id}/models/{version}/state/{name}"
        return await download(self.connection, path, part_bytes, direct=direct, file=file)

    async def download_update(
        self, experiment_id: str, number: int, slot: int, part_bytes: int = 4 * 1024**2
    ) -> bytes:
        """A kept update, verified; for the admin. Raises NotThere, CorruptDownload."""
        path = f"/experiments/{experiment_id}/rounds/{number}/updates/{slot}"
        return await download(self.connection, path, part_bytes, direct=False)

    async def noise_secret(self, experiment_id: str) -> bytes:
        """The secret of which the noise of models is drawn; for the admin. Raises StateConflict."""
        path = f"/experiments/{experiment_id}/noise-secret"
        return bytes.fromhex((await self.connection.call(views.NoiseSecret, "GET", path)).secret)

    async def report_evaluation(
        self, experiment_id: str, version: int, num_examples: int, metrics: Mapping[str, float]
    ) -> views.EvaluationView:
        return await self.connection.call(
            views.EvaluationView,
            "POST",
            f"/experiments/{experiment_id}/models/{version}/evaluations",
            body=schema.EvaluationReport(num_examples=num_examples, metrics=dict(metrics)),
        )

    # A client's calls

    async def subscribe(
        self,
        experiment_id: str,
        client_key: str,
        name: str = "",
        *,
        told: bool = False,
        shard: bool = False,
        examples: int | None = None,
        facts: Mapping[str, str] | None = None,
        sums: Sequence[ColumnSums] = (),
        proof: Proof | None = None,
        wake_address: str = "",
    ) -> schema.Subscription:
        """Claim a slot, with the enrolment key as this caller's key.

        `told` says that somebody else tells this client when to ask; `shard` asks for the shard in
        the same answer. A party with data of its own says how many `examples` it has, gives the
        `facts` of the `agreement`, and `sums` if they are due. `proof` is the signature of its
        identity under the enrolment, if it has one. The coordinator calls `wake_address` when a
        round waits for this client, with a signature (`serverless_fl.domain.wake_ups.wake_key`).
        """
        return await self.connection.call(
            schema.Subscription,
            "POST",
            f"/experiments/{experiment_id}/clients",
            body=schema.Subscribe(
                client_key=client_key,
                name=name,
                told=told,
                shard=shard,
                examples=examples,
                facts=dict(facts or {}),
                sums=[agreement.ColumnSums(**vars(found)) for found in sums],
                proof=None if proof is None else identity.Proof.of(proof),
                wake_address=wake_address,
                wake_key=wake_key(client_key, experiment_id).hex() if wake_address else "",
            ),
        )

    async def agreement(self, experiment_id: str) -> AgreementView:
        """The terms for parties with data of their own, with any key or token of the experiment."""
        return await self.connection.call(
            AgreementView, "GET", f"/experiments/{experiment_id}/agreement"
        )

    async def share_labels(self, experiment_id: str, counts: Mapping[str, int]) -> None:
        """Say how many of this client's examples have each label; everybody may see it.

        Raises StateConflict where the experiment does not ask for it.
        """
        await self.connection.request(
            "PUT",
            f"/experiments/{experiment_id}/label-counts",
            headers={"Content-Type": "application/json"},
            content=schema.LabelCounts(counts=dict(counts)).model_dump_json(),
        )

    async def replace_token(self, experiment_id: str, client_key: str) -> schema.ReplacedToken:
        """Replace this caller's key, a client's token, by another token."""
        return await self.connection.call(
            schema.ReplacedToken,
            "POST",
            f"/experiments/{experiment_id}/token",
            body=schema.ReplaceToken(client_key=client_key),
        )

    async def shard(self, experiment_id: str) -> schema.Shard:
        return await self.connection.call(
            schema.Shard, "GET", f"/experiments/{experiment_id}/shard"
        )

    # A client's calls under secure aggregation

    async def masked_round(self, experiment_id: str, number: int) -> masking.MaskingView:
        """What a client needs of the round's attempt."""
        path = f"/experiments/{experiment_id}/rounds/{number}/masking"
        return await self.connection.call(masking.MaskingView, "GET", path)

    async def helper_words(self, experiment_id: str, number: int, first: int, count: int) -> bytes:
        """What the helper adds to the masked words of a round; for the admin.

        At most `count` words from the place `first` on. Raises NotThere.
        """
        path = f"/experiments/{experiment_id}/rounds/{number}/helper-words"
        response = await self.connection.request(
            "GET", f"{path}?first={first}&count={count}", most=4 * count
        )
        return response.content

    async def send_keys(
        self, experiment_id: str, number: int, keys: masking.PhaseKeys
    ) -> masking.PhaseReceipt:
        return await self._send_phase(experiment_id, number, "keys", keys)

    async def send_boxes(
        self, experiment_id: str, number: int, boxes: masking.PhaseBoxes
    ) -> masking.PhaseReceipt:
        return await self._send_phase(experiment_id, number, "boxes", boxes)

    async def send_confirmation(
        self, experiment_id: str, number: int, sent: masking.PhaseConfirmation
    ) -> masking.PhaseReceipt:
        return await self._send_phase(experiment_id, number, "confirmation", sent)

    async def send_answer(
        self, experiment_id: str, number: int, answer: masking.PhaseAnswer
    ) -> masking.PhaseReceipt:
        return await self._send_phase(experiment_id, number, "answer", answer)

    async def _send_phase(
        self, experiment_id: str, number: int, what: str, body: BaseModel
    ) -> masking.PhaseReceipt:
        path = f"/experiments/{experiment_id}/rounds/{number}/masking/{what}"
        return await self.connection.call(masking.PhaseReceipt, "POST", path, body=body)

    async def status(
        self, experiment_id: str, *, hold: float = 0.0, known: int | None = None
    ) -> turns.Train | turns.Wait | turns.Phase | turns.Done:
        """What to do now.

        With `hold`, the coordinator may take so many seconds for the answer, until there is
        something else to do than to wait in the round `known`.
        """
        path = f"/experiments/{experiment_id}/status"
        if hold < 1 or known is None:
            return parse(_STATUS, await self.connection.request("GET", path, most=STATUS_BYTES))
        seconds = int(min(hold, turns.MAX_HOLD))
        response = await self.connection.request(
            "GET",
            f"{path}?wait={seconds}&round={known}",
            timeout=httpx.Timeout(self.connection.timeout + seconds),
            held=True,
            most=STATUS_BYTES,
        )
        return parse(_STATUS, response)

    async def next_status(
        self, experiment_id: str, last: turns.Wait
    ) -> turns.Train | turns.Wait | turns.Phase | turns.Done:
        """What to do after `last`: the coordinator holds the answer back until it changes, or this
        client pauses and asks again.
        """
        asked = time.monotonic()
        if last.hold < 1 or self._holding.locked():  # too many wait already over these connections
            await asyncio.sleep(last.retry_after)
            return await self.status(experiment_id)
        async with self._holding:
            found = await self.status(experiment_id, hold=last.hold, known=last.round)
        if isinstance(found, turns.Wait) and found.round == last.round:
            # The coordinator did not hold it, for whatever reason: the pause is due all the same.
            await asyncio.sleep(max(0.0, last.retry_after - (time.monotonic() - asked)))
        return found

    async def upload_update(
        self,
        experiment_id: str,
        round_number: int,
        weights: bytes,
        num_examples: int,
        metrics: Mapping[str, float],
        part_bytes: int,
        *,
        direct: bool = False,
        gzip: bool = False,
        at_once: bool = False,
        most: int | None = None,
        masked: tuple[int, str] | None = None,
        seal: str = "",
    ) -> schema.UpdateReceipt:
        """Upload an update and commit it.

        With `at_once`, an update of one part is uploaded and committed in one request. With `gzip`
        its parts are compressed on the way. An update of more than `most` bytes is not sent.
        `masked` are the attempt and the masked counts of a masked update; `seal` is its seal if
        there is a helper.

        Raises StateConflict where it is late, RequestRefused where the coordinator refuses its
        content.
        """
        _require_size(len(weights), most, "update")
        path = f"/experiments/{experiment_id}/rounds/{round_number}/update"
        upload = Upload(self.connection, path, weights, part_bytes, direct=direct, gzip=gzip)
        if at_once and len(upload.parts) == 1:
            encoded = json.dumps(dict(metrics), allow_nan=False, separators=(",", ":"))
            facts = {"num_examples": str(num_examples), "metrics": encoded}
            if masked is not None:
                facts |= {"attempt": str(masked[0]), "counts": masked[1]}
                facts |= {"seal": seal} if seal else {}
            return parse(_RECEIPT, await upload.send_with_commit(facts))
        commit = schema.UpdateCommit(
            sha256=upload.sha256,
            parts=upload.parts,
            num_examples=num_examples,
            metrics=dict(metrics),
            attempt=masked[0] if masked else None,
            counts=masked[1] if masked else "",
            seal=seal,
        )
        return await self._send_and_commit(upload, schema.UpdateReceipt, path, commit)

    async def _send_and_commit(
        self, upload: Upload, answer: type[M], path: str, commit: BaseModel
    ) -> M:
        """Send the parts and commit them; send those again that the coordinator has lost."""
        for _ in range(TRIES):
            await upload.send()
            try:
                return await self.connection.call(answer, "POST", path, body=commit)
            except errors.StateConflict as error:
                if error.code != "parts-missing":
                    raise
                fault = error
        raise fault


def _require_size(size: int, most: int | None, what: str) -> None:
    """Raise RequestRefused for a file that the coordinator would refuse after the upload."""
    if most is not None and size > most:
        raise errors.RequestRefused(
            413,
            "too-large",
            f"The {what} has {size} bytes, and the coordinator takes no more than {most}.",
        )
