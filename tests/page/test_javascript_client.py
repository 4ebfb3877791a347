"""The JavaScript client: its files and its training are ours, and it takes part beside Python's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from playwright.sync_api import expect

from client_sdk import CoordinatorClient, InLine, LocalTrainer, Participant, TorchTask, load
from client_sdk.data.data import Arrays
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from tests.support.federation import config
from tests.support.local_server import QuietHandler, serving
from tests.support.plain_http import create
from tests.support.processes import KEY, Server

FOLDER = Path(__file__).parents[2] / "examples" / "javascript"
NODE = shutil.which("node") or shutil.which("nodejs")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not there (apt-get install nodejs)")
ROUNDS = 4


class Linear(torch.nn.Module):
    """Softmax regression on the 64 pixels of a digit."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.out(x)


@pytest.fixture(scope="module")
def digits():
    data = load("digits", Path("nowhere"))
    return [
        Arrays(np.asarray(part.x).reshape(-1, 64).astype(np.float32), np.asarray(part.y))
        for part in (data.train, data.test)
    ]


@pytest.fixture(scope="module")
def data_file(digits, tmp_path_factory):
    train = digits[0]
    path = tmp_path_factory.mktemp("digits") / "digits.json"
    found = {"features": 64, "inputs": train.x.ravel().tolist(), "labels": train.y.tolist()}
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def in_node(script: str, *arguments: str) -> str:
    client = (FOLDER / "client.mjs").as_uri()
    text = f"""
      import * as fl from "{client}";
      import {{ readFileSync as read, writeFileSync as write }} from "node:fs";
    """
    words = [NODE, "--input-type=module", "-", *arguments]
    return subprocess.run(
        words, input=text + script, capture_output=True, text=True, check=True
    ).stdout


@needs_node
def test_it_trains_as_pytorch_does(digits, tmp_path):
    """Of one batch with all examples, whose order does not matter; with momentum and decay."""
    train = digits[0].subset(range(200))
    task = TorchTask(Linear)
    start = task.initial(3)
    settings = TrainSettings(3, 1000, 0.1, momentum=0.9, weight_decay=0.01)
    expected = task.train(start, train, settings, 5)
    (tmp_path / "model").write_bytes(safetensors.numpy.save(start, {"task": "ours"}))
    np.ascontiguousarray(train.x).tofile(tmp_path / "x")
    script = f"""
      const [folder] = process.argv.slice(2);
      const floats = new Float32Array(new Uint8Array(read(folder + "/x")).buffer);
      const model = new fl.SoftmaxRegression(floats, {json.dumps(train.y.tolist())}, 64);
      const {{ tensors, metadata }} = fl.readWeights(read(folder + "/model"));
      const rates = {{ learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01 }};
      const training = {{ local_epochs: 3, batch_size: 1000, ...rates }};
      const result = model.train(tensors, training, 1);
      write(folder + "/trained", fl.writeWeights(result.tensors, metadata));
      console.log(JSON.stringify([result.metrics, model.accuracy(result.tensors)]));
    """
    metrics, accuracy = json.loads(in_node(script, str(tmp_path)))
    trained = (tmp_path / "trained").read_bytes()
    assert weights_file.read_layout(trained, "").metadata == {"task": "ours"}
    found = safetensors.numpy.load(trained)
    assert found.keys() == start.keys()
    for name, array in expected.weights.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-6)
    assert metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], rel=1e-4)
    right = task.evaluate(found, train)["accuracy"]
    assert accuracy == pytest.approx(right)


@needs_node
def test_files_that_it_cannot_take_are_errors(tmp_path):
    whole = safetensors.numpy.save({"w": np.ones((2, 3), np.float32)})
    files = {
        "the tensor w is of f64": safetensors.numpy.save({"w": np.ones(2)}),
        "the tensor w is cut off": whole[:-1],
        "no safetensors file": b"\xff" * 16,
    }
    for number, data in enumerate(files.values()):
        (tmp_path / str(number)).write_bytes(data)
    script = """
      for (const path of process.argv.slice(2)) {
        try {
          fl.readWeights(read(path));
          console.log("taken");
        } catch (error) {
          console.log(error.message);
        }
      }
    """
    told = in_node(script, *[str(tmp_path / str(n)) for n in range(3)]).lower().splitlines()
    assert all(words in line for words, line in zip(files, told, strict=True))


class Files(QuietHandler, SimpleHTTPRequestHandler):
    """As `python -m http.server`."""


@pytest.fixture
def site():
    """The folder with the page, as `python -m http.server` serves it."""
    with serving(partial(Files, directory=str(FOLDER))) as server:
        yield server.url


def python_client(server: str, experiment: str, key: str, number: int, data: Arrays) -> str:
    async def take_part():
        async with CoordinatorClient(server, key) as client:
            with LocalTrainer(TorchTask(Linear), data, InLine()) as trainer:
                party = Participant(client, experiment, f"python-{number}" * 5, trainer)
                await party.enrol(key)
                return (await party.run()).state

    return asyncio.run(take_part())


def in_node_too(server: str, experiment: str, key: str, data: Path) -> str:
    return subprocess.run(
        [NODE, str(FOLDER / "join.mjs"), server, experiment, str(data)],
        env=os.environ | {"FL_ENROL_KEY": key, "FL_CLIENT_KEY": "node" * 10},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def in_browser(page, site: str, server: str, experiment: str, key: str, data: Path) -> None:
    page.goto(f"{site}/index.html")
    page.get_by_label("Coordinator").fill(server)
    page.get_by_label("Experiment").fill(experiment)
    page.get_by_label("Enrolment key").fill(key)
    page.get_by_label("Data").set_input_files(data)
    page.get_by_role("button", name="Take part").click()


@needs_node
def test_it_takes_part_in_node_and_in_chromium_beside_python(
    site, open_page, digits, data_file, tmp_path
):
    train, test = digits
    settings = {"FL_DATA_DIR": str(tmp_path / "db"), "FL_CORS_ORIGINS": site}
    initial = safetensors.numpy.save(TorchTask(Linear).initial(0))
    with Server(**settings) as server, server.as_admin() as admin, ThreadPoolExecutor(3) as pool:
        experiment, key = create(
            *(admin, "four clients", initial),
            **{"dataset": "digits", "dataset_size": len(train), "model": "linear"},
            **{"clients": 4, "clients_per_round": 4, "rounds": ROUNDS, "local_epochs": 3},
            learning_rate=0.1,
        )
        where, at = (server.url, experiment, key), f"/experiments/{experiment}"
        try:
            parties = [pool.submit(python_client, *where, number, train) for number in range(2)]
            node = pool.submit(in_node_too, *where, data_file)
            page = open_page().page
            in_browser(page, site, *where, data_file)
            said = page.get_by_role("status")
            expect(said).to_contain_text("The experiment is", timeout=120_000)
            seen = said.inner_text()
        finally:
            admin.post(f"{at}/stop", json={"reason": "The test is over."})
        assert [party.result() for party in parties] == ["completed"] * 2
        told = node.result()
        clients = admin.get(f"{at}/clients").json()
        rounds = [admin.get(f"{at}/rounds/{number + 1}").json() for number in range(ROUNDS)]
        model = admin.get(f"{at}/models/latest").content
    assert {"node", "browser"} < {client["name"] for client in clients}
    assert [len(found["reported"]) for found in rounds] == [4] * ROUNDS
    assert told.count("uploaded") == seen.count("loss") == ROUNDS
    assert not re.search("refused|error", told + seen, re.I)
    assert told.endswith("done completed\n")
    assert seen.endswith("The experiment is completed.")
    accuracy = TorchTask(Linear).evaluate(safetensors.numpy.load(model), test)["accuracy"]
    assert accuracy > 0.9


async def created(server, settings, initial):
    async with CoordinatorClient(server, KEY) as admin:
        made = await admin.create_experiment("one client", settings, "k" * 32)
        file = safetensors.numpy.save(initial)
        await admin.upload_initial_model(made.id, file, made.part_bytes, direct=made.direct)
        return made.id, made.enrolment_key


@needs_node
def test_models_and_updates_go_through_a_bucket(bucket, tmp_path):
    """In two parts, by signed URLs; the coordinator passes on no byte of them."""
    import boto3

    draw = np.random.default_rng(0)
    x = draw.normal(size=(20, 2048)).astype(np.float32)
    data = {"features": 2048, "inputs": x.ravel().tolist(), "labels": [0, 9] * 10}
    (tmp_path / "data.json").write_text(json.dumps(data), encoding="utf-8")
    initial = {"w": np.zeros((10, 2048), np.float32), "b": np.zeros(10, np.float32)}
    variables = {"FL_DATA_DIR": str(tmp_path), "FL_S3_BUCKET": bucket, "FL_PART_BYTES": "65536"}
    with Server(**variables) as server, server.as_admin() as admin, ThreadPoolExecutor(1) as pool:
        settings = config(dataset_size=20, clients=1, clients_per_round=1, local_epochs=3)
        # In a thread, because Playwright's loop runs in this one.
        experiment, key = pool.submit(
            lambda: asyncio.run(created(server.url, settings, initial))
        ).result()
        told = in_node_too(server.url, experiment, key, tmp_path / "data.json")
        asked = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
        parts = admin.get(f"/experiments/{experiment}/models/2/parts").json()
        learnt = safetensors.numpy.load(
            b"".join(httpx.get(part["url"], trust_env=False).content for part in parts)
        )
    assert told.count("uploaded") == 2
    assert told.endswith("done completed\n")
    assert (learnt["b"][[0, 9]] != 0).all()
    assert len(parts) == 2
    routes = {
        route for line in asked for route in re.findall(r'method="PUT",route="([^"]*)"', line)
    }
    assert {route.rpartition("/rounds/")[2] for route in routes if "/rounds/" in route} == set()
    kept = boto3.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert any(found["Key"].startswith("models/") for found in kept)


@needs_node
@pytest.mark.parametrize(
    ("base", "url", "followed"),
    [
        ("https://c.example", "https://b.example/x?X-Amz-Signature=1", True),
        ("https://c.example", "http://b.example/x", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9000/x", True),
        ("http://127.0.0.1:8000", "http://169.254.169.254/latest/meta-data", False),
        ("http://127.0.0.1:8000", "http://2852039166/latest", False),
        ("http://127.0.0.1:8000", "http://[::ffff:169.254.169.254]/", False),
        ("http://127.0.0.1:8000", "http://[fe80::1]/", False),
        ("https://c.example", "https://user@b.example/x", False),
        ("https://c.example", "file:///etc/passwd", False),
    ],
)
def test_it_follows_no_address_to_a_machines_own_link(base, url, followed):
    script = f"""
      try {{
        fl.requireFollowed({json.dumps(url)}, {json.dumps(base)});
        console.log("followed");
      }} catch (error) {{
        console.log(error.message);
      }}
    """
    said = in_node(script)
    assert said.startswith("followed" if followed else "The coordinator leads to "), said
