"""A client's half of a strategy: what it adds to its gradients, and what it keeps afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import BadAnswer, DataError, NotThere, TrainingFailed
from client_sdk.memory.memory import Memory, Proposal
from client_sdk.task import weights_file
from client_sdk.task.task import LocalUpdate
from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights import codec
from serverless_fl.weights.deltas import add_companions
from serverless_fl.weights.encodings import state_layout
from serverless_fl.weights.header import FLOATS, MAX_HEADER_BYTES, TensorSpec
from serverless_fl.wire.turns import Train

Arrays = dict[str, np.ndarray]
MOST_ROUNDS = 100  # in which a client looks for an update of an earlier process


class PlainTrainer(Protocol):
    """The part of `client_sdk.participant.Trainer` that trains."""

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate: ...


@runtime_checkable
class CorrectingTrainer(Protocol):
    """A trainer whose training adds an offset to each gradient."""

    async def train_corrected(
        self,
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        task: Train,
        offset: Mapping[str, np.ndarray],
    ) -> LocalUpdate:
        """Train as `Trainer.train`; `offset` has an array for each floating-point tensor."""
        ...


class Half(Protocol):
    """A client's half of one round."""

    async def train(
        self, trainer: PlainTrainer, client_id: str, indices: Sequence[int], weights: bytes
    ) -> LocalUpdate:
        """Train as the round's turn says."""
        ...

    def propose(self, update: LocalUpdate, base: bytes, sent: bytes) -> bytes:
        """Store what the client keeps if the coordinator accepts its update.

        `sent` is the update's file, encoded from `base`. Gives the file to send.
        """
        ...

    def accept(self) -> None:
        """The coordinator has accepted the update."""
        ...

    def discard(self) -> None:
        """The coordinator has refused the update."""
        ...


class NoHalf(Half):
    """The half of a strategy that keeps nothing at clients."""

    def __init__(self, task: Train) -> None:
        self._task = task

    async def train(
        self, trainer: PlainTrainer, client_id: str, indices: Sequence[int], weights: bytes
    ) -> LocalUpdate:
        return await trainer.train(client_id, indices, weights, self._task)

    def propose(self, update: LocalUpdate, base: bytes, sent: bytes) -> bytes:
        return sent

    def accept(self) -> None:
        pass

    def discard(self) -> None:
        pass


class KeptHalf(Half):
    """The half of a strategy that `remembers`."""

    @classmethod
    async def begin(
        cls,
        client: CoordinatorClient,
        experiment_id: str,
        client_id: str,
        task: Train,
        weights: bytes,
        memory: Memory,
    ) -> KeptHalf:
        """Settle what an earlier process proposed, and get the strategy's state.

        Raises DataError where the memory's file is damaged, BadAnswer for a state that is not of
        the model's form, and the errors of `CoordinatorClient`.
        """
        await _settle(client, experiment_id, client_id, task, memory)
        files = {}
        wanted = task.strategy.broadcast if task.strategy else ()
        for name in [name for name in wanted if name in task.state]:
            file = task.state[name]
            # The state of a model of 16 bits is float32.
            if file.size > 2 * len(weights) + MAX_HEADER_BYTES:
                raise BadAnswer(f"The state {name} is announced with {file.size} bytes.")
            files[name] = await client.download_state(
                experiment_id,
                task.base_version,
                name,
                task.part_bytes,
                direct=task.direct,
                file=file,
            )
        return cls(task, weights, files, memory)

    def __init__(
        self, task: Train, weights: bytes, state: Mapping[str, bytes], memory: Memory
    ) -> None:
        assert task.strategy is not None  # noqa: S101
        self._task, self._strategy, self._memory = task, task.strategy, memory
        self._layout = weights_file.read_layout(weights, "The model")
        self._tensors = [t for t in self._layout.tensors if t.dtype in FLOATS]
        self._base = self._arrays(weights)
        self._own = self._kept()
        self._state = self._received(state)

    async def train(
        self, trainer: PlainTrainer, client_id: str, indices: Sequence[int], weights: bytes
    ) -> LocalUpdate:
        """Train with corrected gradients. Raises TrainingFailed for a trainer that cannot."""
        if not isinstance(trainer, CorrectingTrainer):
            raise TrainingFailed(
                "This trainer does not correct gradients, which the strategy "
                f"{self._strategy.name} asks for: give it a method train_corrected."
            )
        offset = {
            t.name: self._strategy.offset(self._own[t.name], self._of(t.name)).astype(_type(t))
            for t in self._tensors
        }
        return await trainer.train_corrected(client_id, indices, weights, self._task, offset)

    def propose(self, update: LocalUpdate, base: bytes, sent: bytes) -> bytes:
        """Store what the client keeps if its update is accepted, and add the companions to it.

        Raises TrainingFailed where the task has not counted its steps, and DataError.
        """
        strategy, rate = self._strategy, self._task.training.learning_rate
        if not update.effective_steps:
            raise TrainingFailed(
                f"The task does not count its steps, which the strategy {strategy.name} needs: "
                "give Result its effective_steps."
            )
        trained, fresh = self._arrays(update.weights), Arrays()
        carried: dict[str, Arrays] = {name: {} for name in strategy.companions}
        for tensor in self._tensors:
            name = tensor.name
            own, change = self._own[name], trained[name] - self._base[name]
            kept = strategy.remember(own, self._of(name), change, update.effective_steps, rate)
            fresh[name] = kept.astype(_type(tensor))
            for companion, values in strategy.carried(own, kept).items():
                carried[companion][name] = values
        if carried:
            sent = add_companions(base, sent, self._task.update_encoding, carried)
        digest = hashlib.sha256(sent).hexdigest()
        self._memory.propose(Proposal(self._task.round, digest), weights_file.write(fresh))
        return sent

    def accept(self) -> None:
        self._memory.accept()

    def discard(self) -> None:
        self._memory.discard()

    def _of(self, name: str) -> Arrays:
        """The state's arrays over a tensor."""
        return {array: tensors[name] for array, tensors in self._state.items()}

    def _arrays(self, data: bytes) -> Arrays:
        """The floating-point tensors of a file, float64."""
        values = dict(codec.arrays(weights_file.read_layout(data), data))
        return {t.name: values[t.name].astype(np.float64).reshape(t.shape) for t in self._tensors}

    def _kept(self) -> Arrays:
        """What the client has kept; 0 where it has kept nothing. Raises DataError."""
        data = self._memory.kept()
        if data is None:
            return {t.name: np.zeros(t.shape) for t in self._tensors}
        try:
            found = weights_file.read(data)
            form = {name: (array.shape, array.dtype) for name, array in found.items()}
            if form != {t.name: (t.shape, _type(t)) for t in self._tensors}:
                raise DataError("It is of another model.")
        except DataError as error:
            raise DataError(
                f"{self._memory.path} is not what this client has kept: {error} Delete it, and "
                "the client begins again with 0."
            ) from error
        return {name: array.astype(np.float64) for name, array in found.items()}

    def _received(self, state: Mapping[str, bytes]) -> dict[str, Arrays]:
        """The state's arrays by name. Raises BadAnswer."""
        found = {}
        for name in self._strategy.broadcast:
            if name not in state:
                initial = self._strategy.state[name]
                found[name] = {t.name: np.full(t.shape, initial) for t in self._tensors}
                continue
            try:
                theirs = weights_file.read_layout(state[name], f"The state {name}")
                state_layout(self._layout).require_same_tensors(theirs)
            except (DataError, BadWeights) as error:
                raise BadAnswer(f"The state {name} is not of the model's form: {error}") from error
            found[name] = self._arrays(state[name])
        return found


async def _settle(
    client: CoordinatorClient, experiment_id: str, client_id: str, task: Train, memory: Memory
) -> None:
    """Keep what an earlier process proposed if its update counts, and forget it if not.

    An update may count in a later round than the one that it was trained for, if rounds are
    buffered.
    """
    found = memory.proposal()
    if found is None:
        return
    proposal, _ = found
    last = min(task.round, proposal.round + MOST_ROUNDS)
    for number in range(proposal.round, last + 1):
        if await _counts(client, experiment_id, client_id, number, proposal.sha256):
            memory.accept()
            return
    memory.discard()


async def _counts(
    client: CoordinatorClient, experiment_id: str, client_id: str, number: int, sha256: str
) -> bool:
    try:
        round_ = await client.round(experiment_id, number)
    except NotThere:
        return False
    return any(u.client == client_id and u.sha256 == sha256 for u in round_.updates)


def _type(tensor: TensorSpec) -> np.dtype:
    """The type in which an array over this tensor is kept: no narrower than float32."""
    return np.dtype(np.float64 if tensor.dtype == "F64" else np.float32)
