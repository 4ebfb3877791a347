"""What trackers are told, and TensorBoard's record read back with its own reader."""

import asyncio
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from client_sdk.cli import command_line
from client_sdk.results.trackers import Tracking
from tests.support.tracked import CONFIG, FIRST, a_run, files_of


def test_tensorboard_reads_back_what_it_was_told(tmp_path):
    files = files_of(tmp_path / "files")
    said = []
    a_run(Tracking(["tensorboard"], tmp_path, said.append), [], rows=[FIRST])  # interrupted
    a_run(Tracking(["tensorboard"], tmp_path, said.append), files)  # and resumed
    assert said == []
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()

    def scalars(name):
        return [(event.step, event.value) for event in found.Scalars(name)]

    assert scalars("test/accuracy") == [(1, 0.5), (2, 0.75)]
    assert scalars("test/loss") == [(1, 1.5), (2, 0.75)]
    assert scalars("round/seconds") == [(1, 2.0), (2, 2.0)]
    assert scalars("round/bytes_up") == [(1, 1000.0), (2, 1000.0)]
    assert scalars("cohort/train_loss") == [(1, 2.0), (2, 2.0)]
    assert scalars("federated/accuracy") == [(1, 0.25)]
    assert found.Tags()["images"] == ["evaluation"]
    assert (found.Images("evaluation")[0].width, found.Images("evaluation")[0].height) == (8, 6)
    assert set(found.Tags()["tensors"]) == {"report/text_summary", "files/text_summary"}
    assert set(hparams_of(found)) == {"experiment", *CONFIG}
    assert hparams_of(found)["learning_rate"] == 0.05


def hparams_of(found):
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    return {
        name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()
    }


def test_a_tool_that_fails_is_said_so_and_left_out(tmp_path, monkeypatch):
    said = []
    tracking = Tracking(["tensorboard"], tmp_path, said.append)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(tracking._trackers["tensorboard"], "metrics", fail)
    a_run(tracking, [])
    assert said == ["tensorboard records no more of this run: the disk is full"]


async def test_a_slow_tool_holds_up_no_round(tmp_path, monkeypatch):
    import threading

    free = threading.Event()
    tracking = Tracking(["tensorboard"], tmp_path, print)
    monkeypatch.setattr(tracking._trackers["tensorboard"], "begin", lambda *_: free.wait(60))
    with tracking:
        tracking.begin("experiment-1", CONFIG)
        tracking.row(FIRST)
        await asyncio.sleep(0)  # here the loop goes on
        assert not free.is_set()
        free.set()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert found.Scalars("test/accuracy")[0].step == 1


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_before_anything_starts(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "out"
    assert command_line.run(["--dataset", "digits", "--track", name, "--out", str(out)]) == 2
    assert f"pip install 'serverless-fl[{name}]'" in capsys.readouterr().err
    assert not Path(out).exists()
