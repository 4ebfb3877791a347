"""Parties that hold nothing but their own file or folder: create, then three joins."""

from __future__ import annotations

import json

import pytest

from client_sdk.task.own_data.table_task import TableTask
from tests.support.own_files import LABEL, hospitals, picture_sites
from tests.support.processes import KEY, Server, run, start


@pytest.fixture
def server(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "data")) as server:
        yield server


def create(server, *look: str) -> dict[str, str]:
    made = run(
        *("create", "--server", server.url, *look, "--clients", "3", "--json"),
        *("--rounds", "3", "--local-epochs", "3"),
        FL_ADMIN_KEY=KEY,
    )
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


def join_all(server, made, paths, *options: str) -> list[tuple[int, str]]:
    """Join with each path, all at the same time; gives exit codes and outputs."""
    parties = [
        start(
            *("join", "--server", server.url, "--experiment", made["id"], "--name", path.stem),
            *("--key-file", str(path.with_suffix(".key")), "--data", str(path), *options),
            FL_ENROL_KEY=made["enrolment_key"],
        )
        for path in paths
    ]
    outputs = [party.communicate(timeout=170)[0] for party in parties]
    return [(party.returncode, output) for party, output in zip(parties, outputs, strict=True)]


def seen(server, made):
    """The experiment, and its clients' examples by name."""
    with server.as_admin() as http:
        view = http.get(f"/experiments/{made['id']}").json()
        clients = http.get(f"/experiments/{made['id']}/clients").json()
    return view, {client["name"]: client["shard_size"] for client in clients}


def test_three_hospitals_with_a_csv_each(server, tmp_path):
    sizes = (300, 170, 60)
    paths = hospitals(tmp_path, sizes)
    look = ("--like", str(paths[2]), "--label", LABEL)
    made = create(server, *look, "--label-counts", "asked")
    assert f"--experiment {made['id']}" in made["join"]
    out = tmp_path / "model.safetensors"
    ended = join_all(server, made, paths, "--label", LABEL, "--out", str(out), "--share-labels")
    assert [code for code, _ in ended] == [0, 0, 0], ended
    view, examples = seen(server, made)
    assert view["state"] == "completed"
    assert examples == dict(zip(("hospital_a", "hospital_b", "hospital_c"), sizes, strict=True))
    last = view["history"][-1]
    assert last["num_examples"] == 270 + 153 + 54  # a tenth of each is held out
    assert last["metrics"]["accuracy_after"] > 0.9
    # The model's file has the scales that the hospitals' sums fixed, of all 530 rows.
    area = next(
        column
        for column in TableTask.read(out.read_bytes()).schema.columns
        if column.name == "mean area"
    )
    assert area.scale.mean == pytest.approx(655, rel=0.05)
    assert area.scale.deviation == pytest.approx(350, rel=0.1)
    with server.as_admin() as http:
        clients = http.get(f"/experiments/{made['id']}/clients").json()
    assert [sorted(client["labels"]) for client in clients] == [["benign", "malignant"]] * 3
    assert sum(sum(client["labels"].values()) for client in clients) == sum(sizes)


def test_three_sites_with_a_folder_of_pictures_each(server, tmp_path):
    sizes = (707, 417, 60)
    paths = picture_sites(tmp_path, sizes)
    made = create(server, "--like", str(paths[0]))
    ended = join_all(server, made, paths, "--kernel", "torch")
    assert [code for code, _ in ended] == [0, 0, 0], ended
    view, examples = seen(server, made)
    assert view["state"] == "completed"
    assert examples == {"site_0": 707, "site_1": 417, "site_2": 60}
    contributed = [update["num_examples"] for update in view["current_round"]["updates"]]
    assert sorted(contributed) == [54, 375, 636]  # nine tenths of each: the rest is held out


def test_a_task_and_data_that_a_party_wrote(server, tmp_path):
    made = create(server, "--task", "tests.support.toy:Line", "--learning-rate", "0.5")
    assert made["join"].endswith("--data MODULE:DATA --task tests.support.toy:Line")
    paths = [tmp_path / name for name in "abc"]  # where each party's key lies
    own = ("--task", "tests.support.toy:Line", "--data", "tests.support.toy:POINTS")
    ended = join_all(server, made, paths, *own)
    assert [code for code, _ in ended] == [0, 0, 0], ended
    view, examples = seen(server, made)
    assert view["state"] == "completed"
    assert examples == {"a": 40, "b": 40, "c": 40}
