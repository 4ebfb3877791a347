"""What trainings with DP-SGD have cost a client's own examples, in a file that survives any death.

The client writes an entry before the update leaves it. A client that dies in between pays for an
update that nobody got, and never the other way round.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from client_sdk.errors import DataError
from client_sdk.memory.memory import Memory
from serverless_fl.privacy.examples import ExampleNoise, NoisySteps, epsilon_of_steps, steps_of
from serverless_fl.wire.turns import Training


class ExampleLedger:
    """The ledger of one client in one experiment: all its trainings, also those that came to
    nothing.

    Epsilon is that of an example of the client, with the delta of the experiment's noise. Methods
    raise DataError where the file cannot be read or written.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @property
    def spent(self) -> list[NoisySteps]:
        """All steps so far, those of the same chance and noise together."""
        data = self._memory.ledger()
        if data is None:
            return []
        try:
            return [NoisySteps(**one) for one in json.loads(data)["spent"]]
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{self._memory.path}.ledger is damaged, so this client no longer knows what its "
                "examples have spent of privacy: bring the file back from a copy, or take part "
                "no more."
            ) from error

    def charge(self, steps: NoisySteps) -> None:
        """Add steps; on return the entry survives a loss of power."""
        total = Counter({(one.rate, one.noise_multiplier): one.steps for one in self.spent})
        total[steps.rate, steps.noise_multiplier] += steps.steps
        spent = [
            asdict(NoisySteps(rate=rate, noise_multiplier=noise, steps=count))
            for (rate, noise), count in total.items()
        ]
        self._memory.keep_ledger(json.dumps({"spent": spent}, indent=2).encode())

    def epsilon(self, noise: ExampleNoise, coming: NoisySteps | None = None) -> float:
        """What an example has cost, or will have after the steps that are coming."""
        more = [] if coming is None else [coming]
        return epsilon_of_steps([*self.spent, *more], noise.delta)

    def fault(
        self, noise: ExampleNoise, training: Training, examples: int, most: float | None
    ) -> str | None:
        """Say why a client that trains on so many examples must not train; None if it may.

        `most` is the largest epsilon that it spends.
        """
        if noise.delta * examples >= 1:
            return (
                f"delta ({noise.delta:g}) must be below 1/{examples}, one by the number of "
                "this client's examples for training: else a whole example may be published."
            )
        if most is None:
            return None
        try:
            coming = steps_of(*(noise, examples, training.batch_size, training.local_epochs))
        except ValueError:
            return None  # the training says it
        epsilon = self.epsilon(noise, coming)
        if epsilon <= most:
            return None
        return (
            f"Another round would raise the epsilon of this client's examples from "
            f"{self.epsilon(noise):.4g} to {epsilon:.4g} (delta {noise.delta:g}), more "
            f"than the {most:g} that this client spends at most (max_epsilon)."
        )
