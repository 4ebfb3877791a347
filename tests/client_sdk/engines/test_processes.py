"""Training processes that die, and what cannot be sent to them."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from client_sdk.data.data import Arrays, Items
from client_sdk.engines import fork_server, processes
from client_sdk.engines.in_line import InLine
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task import weights_file
from serverless_fl.wire.turns import Train, Training
from tests.support import toy
from tests.support.processes import alive, descendants, wait_for

BASE = weights_file.write({"line": np.array([1.0, 2.0])})


def one_update(task, engine, data=toy.POINTS, indices=range(20)):
    training = Training(local_epochs=1, batch_size=10, learning_rate=0.1, momentum=0, seed=11)
    order = Train.model_construct(round=3, training=training)
    with LocalTrainer(task, data, engine) as trainer:
        return asyncio.run(trainer.train("c-1", indices, BASE, order))


def test_a_process_that_dies_is_an_error_in_words():
    with pytest.raises(TrainingFailed, match="A training process died"):
        one_update(toy.Failing(), Processes(1))


def stop_in_the_middle_of_the_answer(task, data, seconds):
    def send(self, content):
        os.write(self.fileno(), bytes(content)[: len(content) // 2])
        time.sleep(seconds)
        os._exit(1)

    Connection._send = send  # of this worker


@contextmanager
def a_worker_that_stops_in_the_middle_of_its_answer(seconds):
    with LocalTrainer(toy.Line(), toy.POINTS, Processes(1)) as trainer:
        yield trainer.engine.run(stop_in_the_middle_of_the_answer, seconds)


def test_a_process_that_dies_in_the_middle_of_its_answer_is_an_error_in_words():
    async def wait_for_it():
        with a_worker_that_stops_in_the_middle_of_its_answer(0) as job:
            await asyncio.wait_for(job, 60)

    with pytest.raises(TrainingFailed, match="A training process died"):
        asyncio.run(wait_for_it())


def test_the_end_in_the_middle_of_an_answer_leaves_no_thread_for_which_an_exit_waits():
    before = set(threading.enumerate())

    async def leave():
        with a_worker_that_stops_in_the_middle_of_its_answer(600) as job:
            running = asyncio.ensure_future(job)
            await asyncio.sleep(1)
        running.cancel()

    asyncio.run(leave())
    wait_for(lambda: not {t for t in set(threading.enumerate()) - before if "Executor" in repr(t)})


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="only Linux forks training processes")
def test_nobody_waits_for_ever_for_a_server_that_stands_still(monkeypatch):
    fork_server.start(())
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(processes, "START_SECONDS", 0.2)
    with pytest.raises(TrainingFailed, match="did not start"):
        one_update(toy.Line(), Processes(1))
    monkeypatch.undo()
    assert one_update(toy.Line(), Processes(1)).num_examples == 18


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="only Linux forks training processes")
def test_ctrl_c_does_not_reach_the_server_while_it_imports():
    fork_server.start(())
    status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
    blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    assert int(blocked, 16) & 1 << signal.SIGINT - 1


class Unpicklable(toy.Line):
    def __init__(self):
        self.loss = lambda x: x


def test_what_cannot_be_pickled_is_refused_by_name_and_trains_in_line():
    with pytest.raises(BadSettings, match=r"task cannot be sent.*<lambda>.*engine=InLine\(\)"):
        one_update(Unpicklable(), Processes(1))
    unpicklable = Items([lambda: 1])
    with pytest.raises(BadSettings, match="data set cannot be sent"):
        one_update(toy.Line(), Processes(1), unpicklable, range(1))
    assert one_update(Unpicklable(), InLine()).num_examples == 18


SCRIPT = """
import numpy as np
from client_sdk import BadSettings, InLine, LocalTrainer, Processes
from tests.support import toy
class Own(toy.Line): pass
try:
    LocalTrainer(Own(), toy.POINTS, Processes(1)).prepare()
except BadSettings as error:
    print(error)
print("torch" in __import__("sys").modules)
"""


def test_a_class_of_a_notebook_is_refused_and_numpy_alone_does_without_pytorch():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refusal, has_torch = done.stdout.splitlines()
    assert "a class or function of a notebook" in refusal
    assert "engine=InLine()" in refusal
    assert has_torch == "False"


def fill(task, data):
    data.x.fill_(7)
    return os.getpid(), os.getppid(), torch.get_num_threads()


def test_a_tensor_lies_in_memory_that_all_processes_share():
    data = Arrays(torch.zeros(3), torch.zeros(3))
    with LocalTrainer(toy.Line(), data, Processes(1)) as trainer:
        pid, parent, threads = asyncio.run(trainer.engine.run(fill))
    assert data.x.tolist() == [7, 7, 7]
    assert threads == 1
    assert pid != os.getpid()
    assert (parent == os.getpid()) is not fork_server.AVAILABLE


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="only Linux forks training processes")
def test_engines_after_each_other_have_processes_of_one_server():
    parents = set()
    for _ in range(2):
        data = Arrays(torch.zeros(3), torch.zeros(3))
        with LocalTrainer(toy.Line(), data, Processes(1)) as trainer:
            parents.add(asyncio.run(trainer.engine.run(fill))[1])
    assert len(parents) == 1


def test_the_server_changes_no_variable_of_this_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = dict(os.environ)
    fork_server.start(())
    assert dict(os.environ) == before


KILLED = """
import asyncio, time
from client_sdk import LocalTrainer, Processes
from tests.client_sdk.engines.test_processes import ids
from tests.support import toy
if __name__ == "__main__":
    with LocalTrainer(toy.Line(), toy.POINTS, Processes(1)) as trainer:
        print(*asyncio.run(trainer.engine.run(ids)), flush=True)
        time.sleep(600)
"""


def ids(task, data):
    return os.getpid(), os.getppid()


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_no_process_outlives_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    worker, its_parent = map(int, parent.stdout.readline().split())
    family = descendants(parent.pid)
    assert {worker, its_parent} - {parent.pid} <= family
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(family))


def test_two_threads_may_end_the_processes_at_the_same_time():
    """The one that closes, and the one that has seen a death: a file is closed once."""
    failures = []

    def end(answers, barrier):
        barrier.wait()
        try:
            processes._kill({}, answers)
        except OSError as error:
            failures.append(error)

    for _ in range(300):
        answers, barrier = multiprocessing.SimpleQueue(), threading.Barrier(4)
        ends = [threading.Thread(target=end, args=(answers, barrier)) for _ in range(4)]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
    assert failures == []
