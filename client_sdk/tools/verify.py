"""Recomputes what a coordinator recorded: the hashes, and each round's model bit by bit.

The sums, means and roundings here share no code with the coordinator's, so that an error there
shows. They are plain, with the whole model in memory. Both sides follow
`serverless_fl.domain.provenance`, the order of the updates and how their sum is bracketed, and
`serverless_fl.weights`, the form of the files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import BadAnswer, CorruptDownload, NotThere
from serverless_fl.domain import provenance
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.domain.round import RoundState
from serverless_fl.weights import codec, deltas, encodings, spans
from serverless_fl.weights.header import Layout, layout_of
from serverless_fl.wire import views
from serverless_fl.wire.schema import BlobInfo

Arrays = dict[str, np.ndarray]


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
    checked, and its finding says so; those of the last `keep_updates` rounds must be kept.

    Raises RequestRefused (it needs the admin key), CoordinatorUnreachable.
    """
    check = _Check(client, await client.experiment(experiment_id), on_finding)
    models = await client.models(experiment_id)
    for parent, model in zip([None, *models[:-1]], models, strict=True):
        round_ = await client.round(experiment_id, model.version) if model.version else None
        check.chain(parent, model, round_)
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

    def _note(self, version: int, good: bool | None, message: str) -> None:
        self.findings.append(Finding(version, good, message))
        self._on_finding(self.findings[-1])

    def chain(
        self, parent: views.ModelView | None, model: views.ModelView, round_: views.RoundView | None
    ) -> None:
        """Check that the recorded hashes are those of the records."""
        faults = []
        if model.config_sha256 != provenance.config_digest(self._config):
            faults.append("the settings are not those that it was made with")
        if model.parent_sha256 != (parent.sha256 if parent else None):
            faults.append("its parent is not the version before it")
        if round_ is not None:
            if round_.state is not RoundState.CLOSED:
                faults.append(f"its round is {round_.state}")
            updates = provenance.updates_digest(
                _contribution(update) for group in _groups(round_) for update in group
            )
            if model.updates_sha256 != updates:
                faults.append("the updates on record are not those that it was made of")
        self._note(model.version, not faults, "; ".join(faults) or "hashes as recorded")

    async def recompute(
        self,
        parent: views.ModelView,
        model: views.ModelView,
        round_: views.RoundView,
        newest: int,
    ) -> None:
        """Check that the model is the mean of the updates."""
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
            base, found = await self._model(parent), await self._model(model)
            groups = [[(u, updates[u.client]) for u in g] for g in _groups(round_)]
            mean = _mean(base, self._start(parent, base), groups, self._config.update_encoding)
            fault = _difference(mean, found)
        except (BadWeights, CorruptDownload, BadAnswer) as error:
            self._note(model.version, False, f"it cannot be recomputed: {error}")
            return
        self._note(model.version, fault is None, fault or f"recomputed of {len(updates)} updates")

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


def _on_record(data: bytes, sha256: str, what: str) -> bytes:
    """A download is held against what came with it only; here it is held against the record."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CorruptDownload(f"{what} has the digest {found}, but {sha256} is on record")
    return data


def _slot(client: str) -> int:
    return int(client.rpartition("-")[2])


def _contribution(update: views.UpdateView) -> provenance.Contribution:
    return provenance.Contribution(update.client, update.sha256, update.num_examples, update.scale)


def _groups(round_: views.RoundView) -> list[list[views.UpdateView]]:
    by_slot = {_slot(update.client): update for update in round_.updates}
    cohort = [_slot(client) for client in round_.cohort]
    size = round_.group_size or len(cohort)
    return [[by_slot[s] for s in group] for group in provenance.groups(cohort, by_slot, size)]


def _mean(
    base: bytes,
    start: bytes,
    groups: list[list[tuple[views.UpdateView, bytes]]],
    encoding: str,
) -> bytes:
    """FedAvg of the updates, trained from `start`, as a file with the base model's header.

    Raises BadWeights.
    """
    total = sum(update.num_examples for group in groups for update, _ in group)
    if total < 1:
        raise BadWeights("there are no updates with examples on record.")
    layout = layout_of(base)
    trained_from = dict(codec.arrays(layout_of(start), start))
    partial = []
    for group in groups:
        sums: Arrays = {}
        for update, data in group:
            values = _weights(layout, trained_from, data, encoding)
            for name, before in trained_from.items():
                own = values[name].astype(np.float64)
                if update.scale != 1.0 and before.dtype.kind == "f":
                    wide = before.astype(np.float64)
                    own = wide + update.scale * (own - wide)
                sums[name] = sums.get(name, np.zeros(own.size)) + own * update.num_examples
        partial.append(sums)
    means: Arrays = {}
    for name in trained_from:
        added = partial[0][name]
        for sums in partial[1:]:
            added = added + sums[name]
        means[name] = added / total
    whole_numbers = {
        name: _nearest(means[name], before.dtype)
        for name, before in trained_from.items()
        if before.dtype.kind != "f"
    }
    return layout.header + bytes(codec.pack(spans.whole(layout), means | whole_numbers))


def _nearest(means: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The whole number next to each mean, ties to even, within the type's range.

    Of a type of 64 bits the largest is the largest float64 in its range, because a mean is one.
    """
    if dtype.kind == "b":
        return np.array([round(mean) == 1 for mean in means.tolist()])
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if int(float(high)) > high:
        high = int(math.nextafter(high, 0))
    return np.array([min(max(round(mean), low), high) for mean in means.tolist()], dtype)


def _weights(layout: Layout, base: Arrays, data: bytes, encoding: str) -> Arrays:
    """An update's weights, decoded. Raises BadWeights."""
    own_layout = layout_of(data)
    encodings.require_same_form(encodings.encoded_layout(layout, encoding), own_layout)
    values = dict(codec.arrays(own_layout, data))
    if encoding == WEIGHTS:
        return values
    names = encodings.float_names(layout)
    scales = values.pop(encodings.SCALES, np.ones(len(names)))
    dtypes = {tensor.name: tensor.dtype for tensor in layout.tensors}
    for name, scale in zip(names, scales, strict=True):
        added = base[name].astype(np.float64) + values[name].astype(np.float64) * float(scale)
        values[name] = np.clip(added, -deltas.LARGEST[dtypes[name]], deltas.LARGEST[dtypes[name]])
    return values


def _difference(ours: bytes, theirs: bytes) -> str | None:
    """The first difference of two files in words; None where they are the same bytes."""
    if ours == theirs:
        return None
    mine, found = layout_of(ours), layout_of(theirs)
    if mine.header != found.header:
        return "its header is not the initial model's"
    for (name, a), (_, b) in zip(
        codec.arrays(mine, ours), codec.arrays(found, theirs), strict=True
    ):
        wrong = np.flatnonzero(a.view(np.uint8) != b.view(np.uint8)) // a.itemsize
        if len(wrong):
            at = int(wrong[0])
            return (
                f"tensor {name!r} differs in {len(set(wrong.tolist()))} of {a.size} values, first "
                f"at {at}: {b[at]!r}, but the updates give {a[at]!r}"
            )
    return "the files differ"
