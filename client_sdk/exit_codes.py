"""The exit codes of `python -m client_sdk`."""

from serverless_fl.domain.experiment import ExperimentState

FAILED, USAGE, UNREACHABLE, REFUSED, STOPPED, TRAINING, DIFFERS, PAUSED = range(1, 9)
IGNORED, NOT_KEPT, UNFORESEEN = range(9, 12)
TEXT = """exit codes:
  0    the experiment completed; with join --once it may also go on
  1    it failed (no quorum in any attempt); the last good model is kept
  2    bad arguments, data or settings, or a machine that lacks something (room on a disk, say)
  3    the coordinator did not answer, or its answer was not a coordinator's
  4    the coordinator refused (wrong key, experiment full, ...)
  5    the experiment was stopped by its admin
  6    a training process died on this machine
  7    verify: a model differs from the records
  8    it is paused (its budget is reached, or by its admin); --resume goes on
  9    it ended, but every update of a client was refused: nothing of its data is in the model
  10   verify: the updates of a round in --round are no longer kept; nothing else differs
  11   an unexpected error; the traceback is in the file that the message names
  130  interrupted; the same command (run: with --resume) goes on
"""


def of_end(state: ExperimentState, *, ignored: bool) -> int:
    """The code for an ended experiment; `ignored`: every update of some client was refused."""
    return {
        ExperimentState.COMPLETED: IGNORED if ignored else 0,
        ExperimentState.FAILED: FAILED,
        ExperimentState.PAUSED: PAUSED,
    }.get(state, STOPPED)
