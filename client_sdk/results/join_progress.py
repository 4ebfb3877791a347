"""The lines that `join` prints: one whenever its client's state changes."""

from __future__ import annotations

from collections.abc import Callable

from client_sdk.participant import Event


class JoinProgress:
    """Prints a participant's events. `rounds` is how many the experiment has."""

    def __init__(self, say: Callable[[str], None], rounds: int) -> None:
        self._say = say
        self._rounds = rounds
        self._last = ""
        self._accepted = 0
        self._refusal = ""
        self._late = 0

    def __call__(self, event: Event) -> None:
        if event.kind == "uploaded":
            self._accepted += 1
        if event.kind == "refused":
            self._refusal = event.message
        if event.kind == "late":
            self._late += 1
        line = self._line(event)
        if line != self._last:  # most polls get the answer of the poll before
            self._say(line)
        self._last = line

    def _line(self, event: Event) -> str:
        about = f"round {event.round} of {self._rounds}: " if event.round else ""
        if event.kind == "waiting":
            return f"{event.client_id}: {about}waiting. {event.message}"
        end = f" ({event.message})" if event.message else ""
        return f"{event.client_id}: {about}{event.kind}{end}"

    @property
    def left_out(self) -> str:
        """A sentence where updates came when their round was closed, else empty."""
        if not self._late:
            return ""
        return (
            f"{self._late} of {self._late + self._accepted} updates of this client came when their "
            "round was closed, and are not in the model: a longer --deadline or --grace-seconds of "
            "the experiment would have waited for them."
        )

    @property
    def ignored(self) -> str:
        """A sentence where the coordinator has refused every update until now, else empty."""
        if self._accepted or not self._refusal:
            return ""
        return (
            "Every update of this client was refused, so that nothing of its data is in the model. "
            f"The last time: {self._refusal}"
        )
