"""A task of which only some tensors travel: a head that stays at home, FedBN, adapters.

PartlyShared(task, ["*", "!head.*"], folder)          personal heads (Arivazhagan et al. 2019)
PartlyShared(task, ["*", "!*norm*"], folder)          FedBN (Li et al., ICLR 2021)
PartlyShared(task, ["*lora*"], folder)                adapters alone (Hu et al., ICLR 2022)
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from client_sdk.errors import BadSettings, DataError
from client_sdk.task import weights_file
from client_sdk.task.answers import Answer
from client_sdk.task.durable_file import replace_durably
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result, Task, Weights

_BEFORE, _AFTER = "before/", "after/"
_TRAINING = "training"  # the metadata's key: which training gave what is kept


class PartlyShared(Task):
    """Wraps a task; tensors that no pattern selects stay with the client, in a file of `folder`.

    Patterns are as in a shell: the last one that matches a tensor's name decides, and one that
    begins with ! leaves it at home. A client that has trained keeps its own tensors, and measures
    with them; one that has not has those of the task's initial weights. A training that is repeated
    after an interruption starts from the same tensors as before.

    Raises BadSettings where no tensor is shared.
    """

    def __init__(self, task: Task, shared: Sequence[str], folder: Path | str) -> None:
        self.task, self.shared, self.folder = task, tuple(shared), Path(folder)
        self.name, self.takes = task.name, task.takes
        self._client = ""

    def for_client(self, client_id: str) -> Self:
        """The task with the tensors of one client."""
        own = copy.copy(self)
        own._client = client_id
        return own

    def meet(self, data: Any) -> None:
        self.task.meet(data)

    def prepare(self) -> str:
        return self.task.prepare()

    def terms(self) -> Mapping[str, str]:
        return {**self.task.terms(), "shared": " ".join(self.shared)}

    def initial(self, seed: int) -> Weights:
        found = self._split(self.task.initial(seed))[0]
        if not found:
            raise BadSettings(f"No tensor of {self.name} is shared by {' '.join(self.shared)}.")
        return found

    def train(self, weights: Weights, data: Any, training: TrainSettings, seed: int) -> Result:
        key = hashlib.sha256(weights_file.write(weights) + f"{seed}".encode()).hexdigest()
        before = self._kept(key)
        result = self.task.train({**before, **weights}, data, training, seed)
        travels, stays = self._split(result.weights)
        self._keep(before, stays, key)
        return replace(result, weights=travels)

    def evaluate(self, weights: Weights, data: Any) -> Mapping[str, float]:
        return self.task.evaluate({**self._kept(), **weights}, data)

    def model(self, weights: Weights) -> Any:
        return self.task.model({**self._kept(), **weights})

    def predict_file(self, weights: Weights, path: Path) -> Sequence[Answer]:
        return self.task.predict_file({**self._kept(), **weights}, path)

    def _is_shared(self, name: str) -> bool:
        decision = False
        for pattern in self.shared:
            if fnmatchcase(name, pattern.removeprefix("!")):
                decision = not pattern.startswith("!")
        return decision

    def _split(self, weights: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tensors that travel, and those that stay."""
        travels = {name: value for name, value in weights.items() if self._is_shared(name)}
        return travels, {name: value for name, value in weights.items() if name not in travels}

    @property
    def _file(self) -> Path:
        return self.folder / f"{self._client}.safetensors"

    def _kept(self, key: str = "") -> dict[str, Any]:
        """This client's own tensors; with `key`, those that this training starts from."""
        initial = self._split(self.task.initial(0))[1]
        if not initial or not self._client or not self._file.exists():
            return initial
        data = self._file.read_bytes()
        again = weights_file.read_layout(data, str(self._file)).metadata.get(_TRAINING) == key
        start = _BEFORE if again else _AFTER
        found = {
            name.removeprefix(start): value
            for name, value in weights_file.read(data, str(self._file)).items()
            if name.startswith(start)
        }
        if not found or weights_file.form(found) != weights_file.form(initial):
            raise DataError(f"The tensors in {self._file} are not those of {self.name}.")
        return found

    def _keep(self, before: Weights, after: Weights, key: str) -> None:
        """Write this client's own tensors, whole or not at all."""
        if not self._client or not after:
            return
        both = {f"{_BEFORE}{name}": value for name, value in before.items()}
        both |= {f"{_AFTER}{name}": value for name, value in after.items()}
        replace_durably(self._file, weights_file.write(both, {_TRAINING: key}))
