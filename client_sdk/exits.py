"""The exit codes of `python -m client_sdk`."""

from app.domain.experiment import ExperimentState

FAILED, USAGE, UNREACHABLE, REFUSED, STOPPED, TRAINING, DIFFERS, PAUSED = range(1, 9)
INTERRUPTED = 130
TEXT = """exit codes:
  0    the experiment completed
  1    it failed (no quorum in any attempt); the last good model is kept
  2    bad arguments, data or settings
  3    the coordinator did not answer, or not as one does
  4    the coordinator refused (wrong key, experiment full, ...)
  5    the experiment was stopped by its admin
  6    a training process died on this machine
  7    verify: a model is not what the records say
  8    it is paused (its budget is reached, or by its admin); --resume goes on
  130  interrupted; the same command with --resume goes on
"""
PAUSED_TEXT = (
    "Paused: {reason} Nothing is lost. The same command with --resume --out {out} goes on; where "
    "the budget is reached, with a higher --budget-usd."
)


class UsageError(Exception):
    """The arguments make no sense together; the message says what to do."""


def of_state(state: ExperimentState) -> int:
    """The code for how an experiment ended."""
    return {
        ExperimentState.COMPLETED: 0,
        ExperimentState.FAILED: FAILED,
        ExperimentState.PAUSED: PAUSED,
    }.get(state, STOPPED)
