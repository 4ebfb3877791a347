"""What tests/support/warm.py gives to a command beside its files and folder."""

import signal
import sys

import pytest

from client_sdk import interrupts
from tests.support import warm

BLOCKED = "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))"


@pytest.mark.skipif(not warm.AVAILABLE, reason="commands start anew on this system")
def test_a_command_blocks_the_signals_that_its_starter_blocks():
    """The warm process may be made by a simulation, which blocks Ctrl-C for its coordinator."""

    def blocked():
        return [int(word) for word in warm.run([sys.executable, "-c", BLOCKED]).stdout.split()]

    with interrupts.kept_from_children():
        assert blocked() == [signal.SIGINT]
    assert blocked() == []
