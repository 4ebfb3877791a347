"""Recomputes what a coordinator recorded: the hashes, and each round's model bit by bit.

`recompute` computes the model and the strategy's state again. Here stands what is fetched for that,
and what is compared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import BadAnswer, CorruptDownload, NotAuthorised, NotThere
from client_sdk.tools.recompute import Contributed, Recomputed, difference, trained
from client_sdk.tools.unmask import masked_words, unmasked_mean
from serverless_fl.aggregation import strategy_of
from serverless_fl.aggregation.facts import round_facts, update_facts
from serverless_fl.aggregation.strategy import RoundFacts, UpdateFacts
from serverless_fl.domain import provenance
from serverless_fl.domain.agreement import SCALES, published
from serverless_fl.domain.derivation import secret_ticket
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import FEDERATED, WEIGHTS, Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.lineage import rounds_of
from serverless_fl.domain.round import RoundState
from serverless_fl.privacy import Taken, mechanism_of
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.weights import deltas
from serverless_fl.weights.header import Layout, layout_of
from serverless_fl.wire import masking, views
from serverless_fl.wire.schema import BlobInfo

WORDS_AT_ONCE = 1 << 20  # of a helper's, in one request


@dataclass(frozen=True)
class Finding:
    """One check of a model version. `good` is None where it could not be checked."""

    version: int
    good: bool | None
    message: str


async def verify(
    client: CoordinatorClient,
    experiment_id: str,
    rounds: Sequence[int] | None = None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Check the chain of all models, and recompute those of `rounds` (default: all that are kept).

    `on_finding` gets each finding at once. A round whose updates are no longer kept cannot be
    checked, and its finding says so; those of the last `keep_updates` rounds must be kept. So does
    the finding of a round that the caller is not shown because its cohort is secret.

    Raises RequestRefused (it needs the key of the admin or the owner), CoordinatorUnreachable.
    """
    check = _Check(client, await client.experiment(experiment_id), on_finding)
    models = await client.models(experiment_id)
    for parent, model in zip([None, *models[:-1]], models, strict=True):
        round_ = await check.round(model.version) if model.version else None
        check.chain(parent, model, round_)
        if round_ is not None:
            await check.cohort(round_)
        wanted = rounds is None or model.version in rounds
        if wanted and round_ is not None and parent is not None:
            await check.recompute(parent, model, round_, models[-1].version)
    return check.findings


class _Check:
    """Collects the findings of one experiment."""

    def __init__(
        self,
        client: CoordinatorClient,
        experiment: views.ExperimentView,
        on_finding: Callable[[Finding], None],
    ) -> None:
        self.findings: list[Finding] = []
        self._client, self._experiment, self._on_finding = client, experiment, on_finding
        self._config = experiment.config.to_config()
        self._strategy = strategy_of(self._config)
        self._mechanism = mechanism_of(self._config)
        self._secret: bytes | None = None
        self._taken: list[list[int]] = []  # the slots of each round so far
        self._slots: dict[int, views.ClientView] | None = None  # the clients, for secret cohorts

    async def round(self, number: int) -> views.RoundView | None:
        """A round's record; None, with a finding, if the caller is not shown it."""
        try:
            return await self._client.round(self._experiment.id, number)
        except NotAuthorised as error:
            if error.code != "secret-cohorts":
                raise
        self._note(
            number,
            None,
            "its cohort, updates, noise and ledger cannot be checked: the cohorts are secret, and "
            "this key shows neither them nor the secret",
        )
        return None

    async def cohort(self, round_: views.RoundView) -> None:
        """Check that those took part whom the secret draws, if the cohorts are secret."""
        if not self._config.secret_cohorts:
            return
        if self._secret is None:
            self._secret = await self._client.noise_secret(self._experiment.id)
        if self._slots is None:
            self._slots = await self._enrolled()
        rate = self._config.clients_per_round / self._config.clients
        own = self._secret, round_.number, round_.attempt
        drawn = {s for s in range(self._config.clients) if secret_ticket(*own, s) < rate}
        cohort = {_slot(client) for client in round_.cohort}
        there = {
            slot
            for slot, client in self._slots.items()
            if client.enrolled_at <= round_.opened_at and client.revoked_at is None
        }
        # Who else could be drawn then is on record by its number alone: some may be revoked now.
        known = len(there) == round_.clients
        faults = []
        if extra := sorted(cohort - drawn):
            faults.append(f"client {extra[0]} was asked, but the secret does not draw it")
        if known and (lacking := sorted(drawn & there - cohort)):
            faults.append(f"client {lacking[0]} was not asked, but the secret draws it")
        good = f"its cohort of {len(cohort)} clients is {'' if known else 'among '}the secret's"
        self._note(round_.number, not faults, "; ".join(faults) or good)

    async def _enrolled(self) -> dict[int, views.ClientView]:
        found: dict[int, views.ClientView] = {}
        while page := await self._client.clients(self._experiment.id, max(found, default=None)):
            found.update((_slot(client.id), client) for client in page)
        return found

    def _note(self, version: int, good: bool | None, message: str) -> None:
        self.findings.append(Finding(version, good, message))
        self._on_finding(self.findings[-1])

    def chain(
        self, parent: views.ModelView | None, model: views.ModelView, round_: views.RoundView | None
    ) -> None:
        """Check that the recorded hashes are those of the records."""
        faults = []
        if model.config_sha256 != provenance.config_digest(self._config_of(model.version)):
            faults.append("the settings are not those that it was made with")
        origin = self._experiment.origin
        if not model.version and origin is not None and origin.sha256 != model.sha256:
            faults.append(f"it is not model {origin.version} of {origin.experiment}, its origin")
        if model.parent_sha256 != (_digest(parent) if parent else None):
            faults.append("its parent is not the version before it")
        if model.version and model.state.keys() != self._strategy.state.keys():
            faults.append("the arrays of its state are not the strategy's")
        if round_ is not None:
            if round_.state is not RoundState.CLOSED:
                faults.append(f"its round is {round_.state}")
            updates = provenance.updates_digest(
                self._contribution(update) for group in _groups(round_) for update in group
            )
            if model.updates_sha256 != updates:
                faults.append("the updates on record are not those that it was made of")
            self._taken.append([_slot(update.client) for update in round_.updates])
        self._note(model.version, not faults, "; ".join(faults) or "hashes as recorded")

    def _config_of(self, version: int) -> Config:
        """The settings with which a model version is made: it may have had fewer rounds then."""
        rounds = rounds_of(version, self._config.rounds, self._experiment.extensions)
        return replace(self._config, rounds=rounds)

    async def recompute(
        self,
        parent: views.ModelView,
        model: views.ModelView,
        round_: views.RoundView,
        newest: int,
    ) -> None:
        """Check that the model and the state are what the updates give."""
        if gone := [str(m.version) for m in (parent, model) if not m.kept]:
            self._note(
                model.version,
                None,
                f"it cannot be recomputed: model {' and '.join(gone)} is not kept any more "
                f"(keep_models is {self._config.keep_models})",
            )
            return
        try:
            updates = await self._fetch(round_)
        except NotThere as error:
            # The settings promise that the updates of the last rounds are kept.
            promised = model.version > newest - self._config.keep_updates
            self._note(model.version, False if promised else None, error.detail)
            return
        except (CorruptDownload, BadAnswer) as error:
            self._note(model.version, False, str(error))
            return
        try:
            again = await self._again(parent, model, round_, updates)
            fault = again.weights_differ() or await self._difference(again, model)
            fault = fault or await self._ledger_differs(parent, model, round_)
        except (BadWeights, CorruptDownload, BadAnswer) as error:
            self._note(model.version, False, f"it cannot be recomputed: {error}")
            return
        kind = "masked updates, none of which it shows" if round_.masked else "updates"
        self._note(model.version, fault is None, fault or f"recomputed of {len(updates)} {kind}")

    async def _again(
        self,
        parent: views.ModelView,
        model: views.ModelView,
        round_: views.RoundView,
        files: dict[str, bytes],
    ) -> Recomputed:
        """The round, computed again of the updates' files. Raises BadWeights, CorruptDownload."""
        base = await self._model(parent)
        start, layout = self._start(parent, base), layout_of(base)
        state = {name: await self._state(parent, name) for name in parent.state}
        written = await self._written(layout, model)
        if round_.masked:
            facts, groups = await self._masked(round_, layout, start, files)
            return Recomputed(
                *(self._strategy, facts, base, start, state, groups, self._mechanism), None, written
            )
        encoding = self._config.update_encoding
        starts = await self._older_starts(round_)
        groups = [
            [
                Contributed(
                    _facts(u),
                    self._weight(u),
                    trained(
                        *(layout, start, files[u.client], encoding, u.scale),
                        self._strategy.companions,
                        None if u.base_version is None else starts[u.base_version],
                    ),
                )
                for u in group
            ]
            for group in _groups(round_)
        ]
        known = [update.facts for group in groups for update in group]
        config = self._config_of(round_.number)
        facts = round_facts(config, round_.number, round_.clients, known)
        noise = await self._noise(parent, round_)
        return Recomputed(
            *(self._strategy, facts, base, start, state, groups, self._mechanism, noise), written
        )

    async def _written(self, layout: Layout, model: views.ModelView) -> Layout:
        """The layout with which a model should have been written. Raises BadWeights.

        Where the parties' sums fix scales, its metadata have them; earlier releases left them out.
        """
        if self._config.normalisation != FEDERATED:
            return layout
        if SCALES not in layout_of(await self._model(model)).metadata:
            return layout
        agreed = await self._client.agreement(self._experiment.id)
        return layout.with_metadata(published(layout.metadata, agreed.scales))

    async def _masked(
        self, round_: views.RoundView, layout: Layout, start: bytes, files: dict[str, bytes]
    ) -> tuple[RoundFacts, list[list[Contributed]]]:
        """The facts of a masked round, and one contribution: the mean of its updates.

        Raises BadWeights.
        """
        view = await self._client.unmasking(self._experiment.id, round_.number)
        updates = [update for group in _groups(round_) for update in group]
        masked = [(_slot(u.client), files[u.client], u.counts) for u in updates]
        added = await self._helper_words(view, layout) if view.helper else None
        mean, counts = unmasked_mean(self._experiment.id, view, layout, start, masked, added)
        if counts.examples != round_.num_examples or dict(counts.metrics) != round_.metrics:
            raise BadWeights("the sum has other examples or metrics than the record.")
        config, known = self._config_of(round_.number), [_facts(update) for update in updates]
        facts = round_facts(config, round_.number, round_.clients, known)
        return facts, [[Contributed(_facts(updates[0]), 1, mean)]]

    async def _helper_words(self, view: masking.MaskingView, layout: Layout) -> bytes:
        """What the helper adds to the sum of a round's words. Raises BadAnswer."""
        left, found = masked_words(layout), list[bytes]()
        width, place = view.words // 8, 0
        while place < left:
            asked = self._experiment.id, view.round, place, min(left - place, WORDS_AT_ONCE)
            some = await self._client.helper_words(*asked)
            if not some or len(some) % width:
                raise BadAnswer("The coordinator gives no words of its helper.")
            found.append(some)
            place += len(some) // width
        return b"".join(found)

    async def _noise(self, parent: views.ModelView, round_: views.RoundView) -> Noise | None:
        """The noise of a round, of the experiment's secret."""
        if not self._mechanism.keeps_ledger:
            return None
        weights = [self._weight(update) for group in _groups(round_) for update in group]
        deviation = self._mechanism.deviation(_entry(parent), weights)
        less = [await self._key(number) for number in self._mechanism.replaced(round_.number)]
        return Noise(await self._key(round_.number), deviation, tuple(less))

    async def _key(self, number: int) -> bytes:
        if self._secret is None:
            self._secret = await self._client.noise_secret(self._experiment.id)
        return round_key(self._secret, number)

    async def _ledger_differs(
        self, parent: views.ModelView, model: views.ModelView, round_: views.RoundView
    ) -> str | None:
        """Say how the entry in the ledger differs from the updates'; None if it does not."""
        if not self._mechanism.keeps_ledger:
            return None
        updates = [update for group in _groups(round_) for update in group]
        key = await self._key(round_.number)
        assert self._secret is not None  # noqa: S101  (the key is made of it)
        ours = self._mechanism.entry(
            _entry(parent),
            Taken(
                weights=[self._weight(update) for update in updates],
                whole=[update.scale == 1.0 for update in updates],
            ),
            key,
            self._taken,
            hashlib.sha256(self._secret).hexdigest(),
        )
        found = _entry(model)
        if found is None:
            return "its entry in the ledger of privacy is missing"
        for name, value in asdict(ours).items():
            theirs = getattr(found, name)
            numbers = isinstance(value, (int, float)) and isinstance(theirs, (int, float))
            if not (math.isclose(value, theirs) if numbers else value == theirs):
                return f"{name} in the ledger of privacy is {theirs}, but the updates give {value}"
        return None

    async def _older_starts(self, round_: views.RoundView) -> dict[int, bytes]:
        """The weights that clients trained from, by version, where they are not the round's own."""
        wanted = {u.base_version for u in round_.updates if u.base_version is not None}
        models = await self._client.models(self._experiment.id) if wanted else []
        return {
            model.version: self._start(model, await self._model(model))
            for model in models
            if model.version in wanted
        }

    async def _difference(self, again: Recomputed, model: views.ModelView) -> str | None:
        """The first difference from the files on record. Raises CorruptDownload."""
        weights, state = again.files()
        if fault := difference(weights, await self._model(model)):
            return fault
        for name, data in state.items():
            if fault := difference(data, await self._state(model, name)):
                return f"state {name}: {fault}"
        return None

    def _weight(self, update: views.UpdateView) -> float:
        """An update's weight in the mean. Raises BadWeights if it is not on record."""
        if not self._strategy.reduction.weighs_all:
            return self._mechanism.weight(self._strategy.weight(_facts(update)))
        if update.weight is None:
            raise BadWeights(f"the weight of {update.client} is not on record.")
        return update.weight

    def _contribution(self, update: views.UpdateView) -> provenance.Contribution:
        weight: float | None = update.weight
        if not self._strategy.reduction.weighs_all:
            own = self._weight(update)
            weight = None if own == update.num_examples else own
        return provenance.Contribution(
            *(update.client, update.sha256, update.num_examples, update.scale, weight),
            update.base_version,
            update.counts,
            update.seal,
        )

    def _start(self, parent: views.ModelView, base: bytes) -> bytes:
        """The weights that clients trained from. Raises BadWeights, CorruptDownload."""
        encoding = self._config.download_encoding
        if encoding == WEIGHTS:
            return base
        compressed = deltas.compress_model(base, encoding)
        recorded = parent.encoded.sha256 if parent.encoded else "none"
        _on_record(compressed, recorded, f"the copy of model {parent.version}")
        return deltas.decompress_model(compressed)

    async def _fetch(self, round_: views.RoundView) -> dict[str, bytes]:
        """The updates of a round, by client. Raises NotThere, CorruptDownload."""
        found = {}
        for update in round_.updates:
            data = await self._client.download_update(
                self._experiment.id,
                round_.number,
                _slot(update.client),
                self._experiment.part_bytes,
            )
            found[update.client] = _on_record(data, update.sha256, f"the update of {update.client}")
        return found

    async def _model(self, model: views.ModelView) -> bytes:
        """A model as recorded. Raises CorruptDownload."""
        shown = self._experiment
        data = await self._client.download_model(
            shown.id,
            model.version,
            shown.part_bytes,
            direct=shown.direct,
            file=BlobInfo(sha256=model.sha256, size=model.size),
        )
        return _on_record(data, model.sha256, f"model {model.version}")

    async def _state(self, model: views.ModelView, name: str) -> bytes:
        """An array of the state as recorded. Raises CorruptDownload."""
        shown, file = self._experiment, model.state[name]
        data = await self._client.download_state(
            shown.id, model.version, name, shown.part_bytes, direct=shown.direct, file=file
        )
        return _on_record(data, file.sha256, f"state {name} of model {model.version}")


def _on_record(data: bytes, sha256: str, what: str) -> bytes:
    """A download is held against what came with it only; here it is held against the record."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CorruptDownload(f"{what} has the digest {found}, but {sha256} is on record")
    return data


def _slot(client: str) -> int:
    return int(client.rpartition("-")[2])


def _digest(model: views.ModelView) -> str:
    state = {name: file.sha256 for name, file in model.state.items()}
    return provenance.version_digest(model.sha256, state, _entry(model))


def _entry(model: views.ModelView) -> LedgerEntry | None:
    return None if model.ledger is None else LedgerEntry(**model.ledger.model_dump())


def _facts(update: views.UpdateView) -> UpdateFacts:
    return update_facts(
        _slot(update.client), update.num_examples, update.metrics, update.norm, update.scale
    )


def _groups(round_: views.RoundView) -> list[list[views.UpdateView]]:
    by_slot = {_slot(update.client): update for update in round_.updates}
    cohort = [_slot(client) for client in round_.cohort]
    size = round_.group_size or len(cohort)
    return [[by_slot[s] for s in group] for group in provenance.groups(cohort, by_slot, size)]
