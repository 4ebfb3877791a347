"""The engine on a Ray cluster: `make ray-test`, and without Ray what it says then."""

import asyncio
import os
import sys
import threading
import time

import numpy as np
import pytest

from client_sdk import simulate
from client_sdk.engines.on_ray import RETRIES, Ray
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task import weights_file
from tests.client_sdk.engines.test_engines import BASE, order
from tests.support import toy

SETTINGS = {"train": toy.POINTS, "clients": 6, "rounds": 3, "learning_rate": 0.1, "local_epochs": 1}


def test_without_the_package_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadSettings, match=r"pip install 'serverless-fl\[ray\]'"):
        Ray().start(toy.POINTS)


class Slow(toy.Line):
    """Says where it trains, in a file of its own, and takes a second."""

    def __init__(self, folder):
        self.folder = folder

    def train(self, weights, data, training, seed):
        node = os.environ.get("NODE", "")
        (self.folder / f"{node} {time.monotonic_ns()}").touch()
        time.sleep(1.0)
        return super().train(weights, data, training, seed)


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of a head without cores for jobs, and two machines of two cores."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.machines = [made.add_node(num_cpus=2, env_vars={"NODE": name}) for name in "ab"]
    made.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@pytest.mark.ray
def test_a_machine_that_dies_in_a_round_changes_no_model(cluster, tmp_path):
    engine = Ray()

    def kill_the_second():
        while not [file for file in tmp_path.iterdir() if file.name.startswith("b ")]:
            time.sleep(0.05)
        cluster.remove_node(cluster.machines[1], allow_graceful=False)
        killed.set()

    killed = threading.Event()
    killer = threading.Thread(target=kill_the_second, daemon=True)
    killer.start()
    on_ray = simulate(Slow(tmp_path), engine=engine, **SETTINGS)
    killer.join()
    assert killed.is_set()
    assert {row.updates for row in on_ray.rows} == {SETTINGS["clients"]}
    trainings = SETTINGS["clients"] * SETTINGS["rounds"]
    assert len(list(tmp_path.iterdir())) > trainings  # those of the lost machine were repeated
    here = simulate(toy.Line(), **SETTINGS)
    assert on_ray.metrics == here.metrics
    for name, tensor in here.weights.items():
        assert np.array_equal(on_ray.weights[name], tensor)


@pytest.mark.ray
def test_a_job_that_always_ends_its_worker_fails_in_words():
    with (
        LocalTrainer(toy.Failing(), toy.POINTS, Ray()) as trainer,
        pytest.raises(TrainingFailed, match=f"lost a client's training {RETRIES + 1} times"),
    ):
        asyncio.run(trainer.train("c-1", range(20), BASE, order()))


@pytest.mark.ray
def test_a_cluster_without_room_is_refused():
    engine = Ray(cpus=1, gpus=1000)
    with pytest.raises(BadSettings, match=r"A client needs 1 CPU, 1000 GPU, and the Ray cluster"):
        engine.start(toy.POINTS)
    engine.close()


@pytest.mark.ray
def test_an_address_without_a_cluster_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BadSettings, match=r"no Ray cluster at RAY_ADDRESS=127\.0\.0\.1:1"):
        Ray().start(toy.POINTS)


@pytest.mark.ray
def test_it_uses_a_cluster_that_is_connected_and_leaves_it_running():
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with LocalTrainer(toy.Line(), toy.POINTS, Ray(cpus=0.5)) as trainer:
            assert trainer.engine.workers == 4
            update = asyncio.run(trainer.train("c-1", range(20), BASE, order()))
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert set(weights_file.read(update.weights)) == {"line"}
