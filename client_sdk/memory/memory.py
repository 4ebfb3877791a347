"""The array that a client keeps between rounds, in a file that survives any death.

A proposal is stored before its update is sent, and takes the place of what is kept once the
coordinator has accepted the update. A client that died in between finds the proposal, and asks
whether that update counts (`client_sdk.memory.half`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client_sdk.errors import DataError
from client_sdk.task.durable_file import replace_durably


@dataclass(frozen=True)
class Proposal:
    """What a client keeps if the coordinator accepts its update, whose file has this SHA-256."""

    round: int
    sha256: str


class Memory:
    """Keeps one file and one proposal for it: at `path`, or in this process without a path.

    Files are written whole and made durable, and only their owner can read them. Raises DataError
    where a file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._held: dict[str, bytes] = {}  # without a path

    def kept(self) -> bytes | None:
        """The file that is kept; None where there is none, at first or because it was lost."""
        return self._read("")

    def proposal(self) -> tuple[Proposal, bytes] | None:
        """The proposal that is neither accepted nor discarded."""
        found = self._read(".proposed")
        if found is None:
            return None
        first, _, data = found.partition(b"\n")
        try:
            number, sha256 = first.decode().split()
            return Proposal(int(number), sha256), data
        except ValueError as error:
            raise DataError(f"{self.path}.proposed is damaged: delete it.") from error

    def propose(self, proposal: Proposal, data: bytes) -> None:
        """Store a proposal in place of an earlier one."""
        self._write(".proposed", f"{proposal.round} {proposal.sha256}\n".encode() + data)

    def accept(self) -> None:
        """Keep what was proposed. After a death in the middle this may be done again."""
        found = self.proposal()
        if found is not None:
            self._write("", found[1])
            self.discard()

    def discard(self) -> None:
        """Forget what was proposed."""
        self._held.pop(".proposed", None)
        if self.path is not None:
            with self._faults():
                self._file(".proposed").unlink(missing_ok=True)

    def secrets(self) -> bytes | None:
        """What the client keeps of its newest attempt under secure aggregation."""
        return self._read(".masks")

    def keep_secrets(self, data: bytes) -> None:
        """Store it in place of what was kept; on return it survives a loss of power."""
        self._write(".masks", data)

    def ledger(self) -> bytes | None:
        """What the client's own examples have spent of privacy (`example_ledger`)."""
        return self._read(".ledger")

    def keep_ledger(self, data: bytes) -> None:
        """Store it in place of what was kept; on return it survives a loss of power."""
        self._write(".ledger", data)

    def _file(self, suffix: str) -> Path:
        assert self.path is not None  # noqa: S101
        return self.path.with_name(self.path.name + suffix)

    def _read(self, suffix: str) -> bytes | None:
        if self.path is None:
            return self._held.get(suffix)
        with self._faults(), contextlib.suppress(FileNotFoundError):
            return self._file(suffix).read_bytes()
        return None

    def _write(self, suffix: str, data: bytes) -> None:
        if self.path is None:
            self._held[suffix] = data
            return
        with self._faults():
            replace_durably(self._file(suffix), data)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DataError(
                f"Cannot keep in {self.path} what this client must remember: "
                f"{error.strerror or error}."
            ) from error
