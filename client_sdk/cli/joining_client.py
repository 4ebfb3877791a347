"""The client of `join`, whatever its data and its task: it enrols, takes part and ends."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client_sdk import exit_codes
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli.client_memory import memory_of
from client_sdk.participant import Participant, Trainer
from client_sdk.results.console import Output
from client_sdk.results.join_progress import JoinProgress
from serverless_fl.domain.agreement import ColumnSums
from serverless_fl.domain.experiment import OWN
from serverless_fl.wire.turns import Done
from serverless_fl.wire.views import ExperimentView

if TYPE_CHECKING:
    from serverless_fl.privacy.secure.identity import Identity, Pins


@dataclass(frozen=True)
class JoiningClient:
    """What `join` knows before it reads the party's data.

    `key` is the client's secret, and `initial` the experiment's model 0 (safetensors). `identity`
    and `pins` are as `Participant` takes them.
    """

    arguments: argparse.Namespace
    console: Output
    client: CoordinatorClient
    key: str
    experiment: ExperimentView
    initial: bytes
    progress: JoinProgress
    identity: Identity | None = None
    pins: Pins | None = None

    def participant(
        self,
        trainer: Trainer,
        *,
        examples: int | None = None,
        own: Sequence[int] | None = None,
        facts: Mapping[str, str] | None = None,
        sums: Sequence[ColumnSums] = (),
        labels: Callable[[Sequence[int]], Mapping[str, int]] | None = None,
    ) -> Participant:
        """Make the participant. What is given here is as `Participant` takes it."""
        return Participant(
            self.client,
            self.arguments.experiment,
            self.key,
            trainer,
            name=self.arguments.name,
            on_event=self.progress,
            held=self.initial,
            examples=examples,
            own=own,
            facts=facts,
            sums=sums,
            memory=memory_of(self.arguments, self.experiment),
            min_participants=self.arguments.min_participants,
            require_secure=self.arguments.require_secure,
            max_epsilon=self.arguments.max_epsilon,
            identity=self.identity,
            pins=self.pins,
            agreed=self.experiment.config.to_config(),
            wake_address=self.arguments.wake_url or "",
            labels=labels if self.arguments.share_labels else None,
        )

    async def take_part(self, participant: Participant) -> Done | None:
        """Enrol, and take part until the experiment ends; with --once, for one turn.

        None: the experiment goes on.
        """
        await participant.enrol(self.arguments.enrol_key)
        if not self.arguments.once:
            return await participant.run()
        turn = await participant.turn()
        if turn.done is None:
            self.console.say(f"The next turn is worth while in {turn.seconds:.0f} s.")
        return turn.done

    def exit_code(self, done: Done | None) -> int:
        """Say what was refused, and give the exit code of this end; 0 where there is none yet."""
        if done is None:
            return 0
        ignored = self.progress.ignored
        if ignored:
            self.console.say(ignored)
        if self.progress.left_out and self.experiment.config.data == OWN:
            self.console.say(self.progress.left_out)
        return exit_codes.of_end(done.state, ignored=bool(ignored))
