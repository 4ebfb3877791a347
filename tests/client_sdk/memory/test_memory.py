"""What a client keeps: in files that are whole, durable and its own, or in its process."""

import sys

import pytest

from client_sdk.errors import DataError
from client_sdk.memory.memory import Memory, Proposal

PROPOSAL = Proposal(3, "ab" * 32)


@pytest.mark.parametrize("is_file", [True, False])
def test_a_proposal_takes_the_place_of_what_is_kept_once_it_is_accepted(tmp_path, is_file):
    path = tmp_path / "deep" / "memory" if is_file else None
    memory = Memory(path)
    assert memory.kept() is None and memory.proposal() is None
    memory.propose(PROPOSAL, b"one\ntwo")
    assert memory.kept() is None
    assert (Memory(path) if path else memory).proposal() == (PROPOSAL, b"one\ntwo")
    memory.accept()
    assert memory.kept() == b"one\ntwo" and memory.proposal() is None
    memory.accept()  # nothing is proposed
    memory.propose(PROPOSAL, b"three")
    memory.discard()
    assert memory.kept() == b"one\ntwo" and memory.proposal() is None
    memory.discard()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no modes of files")
def test_only_its_owner_reads_it(tmp_path):
    """It says what the gradients of the client's data are like."""
    memory = Memory(tmp_path / "memory")
    memory.propose(PROPOSAL, b"one")
    memory.accept()
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["memory"]


def test_a_draft_of_a_process_that_died_is_no_hindrance(tmp_path):
    memory = Memory(tmp_path / "memory")
    (tmp_path / "memory.proposed.draft").write_bytes(b"half")
    memory.propose(PROPOSAL, b"one")
    assert memory.proposal() == (PROPOSAL, b"one")


def test_a_damaged_proposal_is_named(tmp_path):
    (tmp_path / "memory.proposed").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"memory.proposed is damaged: delete it"):
        Memory(tmp_path / "memory").proposal()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"Cannot keep in .* what this client must remember"):
        Memory(tmp_path / "file" / "memory").propose(PROPOSAL, b"one")
