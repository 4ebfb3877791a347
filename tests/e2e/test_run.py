"""The main job for real: processes, TCP, SQLite and MongoDB, SIGKILL and Ctrl-C."""

from __future__ import annotations

import json

import httpx
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from client_sdk.data import datasets
from client_sdk.engines.processes import Processes
from tests.support.digits import create_digits_experiment
from tests.support.here import SlowTraining, TrainingHere, run_here
from tests.support.processes import KEY, QUICK, SMALL, Server, join, model_of


def test_a_run_leaves_a_report_a_model_and_a_plot(quiet_run):
    out, done = quiet_run
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == report
    assert report["state"] == "completed"
    assert [row["round"] for row in report["rounds"]] == [1, 2, 3]
    for row in report["rounds"]:
        assert row["updates"] == 4
        assert row["bytes_up"] > 4 * 50_000
        assert 0 <= row["accuracy"] <= 1
        assert {"accuracy_before", "accuracy_after", "train_loss"} <= set(row["federated"])
    assert report["totals"]["final_accuracy"] == report["rounds"][-1]["accuracy"] > 0.5
    assert report["config"]["clients"] == 6
    for number, found in enumerate(report["models"]):
        after = report["rounds"][number : number + 1]  # whose cohort was given this version
        metrics = after[0]["federated"] if after else found["clients"]["metrics"]
        key = "accuracy_before" if after else "accuracy"
        assert found["federated"]["accuracy"] == metrics[key]
    assert [m["central"] and m["central"]["accuracy"] for m in report["models"]] == [
        None,
        *(row["accuracy"] for row in report["rounds"]),
    ]
    assert report["models"][-1]["clients"]["clients"] == 6  # all, not a cohort of 4
    evaluation = report["evaluation"]
    assert sum(map(sum, evaluation["confusion"])) == evaluation["examples"] == 359
    assert evaluation["accuracy"] == pytest.approx(report["totals"]["final_accuracy"])
    assert report["versions"]["torch"].startswith("2.")
    for name in ("accuracy.png", "evaluation.png"):
        with Image.open(out / name) as plot:
            assert plot.format == "PNG"
            assert plot.width > 600
    assert (out / "run.json").stat().st_mode & 0o777 == 0o600
    assert "round 3/3: accuracy" in done.stderr
    assert "final accuracy" in done.stderr
    assert "worst class: " in done.stderr
    # At least: twelve updates of four calls each, and six clients that enrol and end.
    assert report["cost"]["requests"] > 12 * 4 + 6 * 4
    assert 0 < report["cost"]["total"] < 0.01
    assert "would have cost about" in done.stderr
    derived = report["cost"]["coordinator"]  # from records, by clients that ask as advised
    assert report["cost"]["requests"] / 3 < derived["requests"] < 3 * report["cost"]["requests"]
    assert derived["bytes_up"] == pytest.approx(report["cost"]["bytes_in"], rel=0.05)
    assert derived["bytes_down"] == pytest.approx(report["cost"]["bytes_out"], rel=0.3)
    assert "on the clients' own held-out data" in done.stderr


def test_the_same_seed_gives_the_same_bytes(quick_run, tmp_path):
    two = ("--workers", "2", "--out", str(tmp_path / "again"))
    again = run_here(*QUICK, *two, training=Processes)
    assert again.returncode == 0, again.stderr
    assert model_of(tmp_path / "again") == model_of(quick_run[0])
    other = tmp_path / "other"
    done = run_here(*QUICK, "--seed", "1", "--out", str(other), "--track", "tensorboard", "--json")
    assert done.returncode == 0, done.stderr
    assert model_of(other) != model_of(quick_run[0])
    told = EventAccumulator(str(other / "tensorboard")).Reload()
    rounds = json.loads(done.stdout)["rounds"]
    assert [e.value for e in told.Scalars("test/loss")] == pytest.approx(
        [row["loss"] for row in rounds]
    )
    assert [e.step for e in told.Scalars("federated/accuracy")] == [1, 2, 3]
    assert set(told.Tags()["images"]) == {"accuracy", "evaluation"}


def test_a_spent_budget_ends_the_run_and_a_higher_one_resumes_it(quiet_run, tmp_path):
    out = tmp_path / "out"
    done = run_here(*SMALL, "--budget-usd", "0.00001", "--out", str(out))
    assert done.returncode == 8, done.stderr
    assert "has reached the budget of" in done.stdout
    assert "with --resume" in done.stdout
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["state"] == "paused"
    assert report["cost"]["coordinator"]["usd"] >= 0.00001
    assert 1 <= len(report["rounds"]) < 3
    done = run_here(*SMALL, "--out", str(out), "--resume")
    assert (done.returncode, "a higher --budget-usd" in done.stderr) == (8, True)
    done = run_here(*SMALL, "--budget-usd", "10", "--out", str(out), "--resume")
    assert done.returncode == 0, done.stderr
    assert model_of(out) == model_of(quiet_run[0])  # a pause changes nothing of what is learnt
    done = run_here(*SMALL, "--out", str(tmp_path / "other"), FL_PRICES="/no/such/table.json")
    assert (done.returncode, "/no/such/table.json" in done.stderr) == (2, True)


def test_on_mongodb_with_four_workers_the_bytes_are_the_same(quick_run, tmp_path, mongodb_url):
    settings = {"MONGODB_URL": mongodb_url, "FL_MONGODB_DATABASE": "e2e_bytes"}
    with Server("--workers", "4", **settings) as server:
        done = run_here(*QUICK, "--server", server.url, "--out", str(tmp_path), FL_ADMIN_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert model_of(tmp_path) == model_of(quick_run[0])


@pytest.mark.parametrize("store", ["sqlite", "mongo"])
def test_forty_clients_and_four_workers_close_every_round_once(tmp_path, request, store):
    settings = {"FL_DATA_DIR": str(tmp_path / "data")}
    if store == "mongo":
        settings = {
            "MONGODB_URL": request.getfixturevalue("mongodb_url"),
            "FL_MONGODB_DATABASE": "e2e_forty",
        }
    with Server("--workers", "4", **settings) as server:
        done = run_here(
            *("--dataset", "digits", "--clients", "40", "--clients-per-round", "20"),
            *("--rounds", "3", "--local-epochs", "1", "--server", server.url),
            *("--out", str(tmp_path / "out"), "--json"),
            FL_ADMIN_KEY=KEY,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        path = f"{server.url}/v1/experiments/{report['experiment']}"
        rounds = [httpx.get(f"{path}/rounds/{n}", trust_env=False).json() for n in range(1, 4)]
        models = httpx.get(f"{path}/models", trust_env=False).json()
        clients = httpx.get(f"{path}/clients", trust_env=False).json()
    assert [m["version"] for m in models] == [0, 1, 2, 3]
    assert [m["parent_sha256"] for m in models[1:]] == [m["sha256"] for m in models[:-1]]
    assert len({c["id"] for c in clients}) == 40
    for round_ in rounds:
        assert (round_["state"], round_["attempt"]) == ("closed", 1)
        assert sorted(u["client"] for u in round_["updates"]) == round_["cohort"]
        assert len(round_["cohort"]) == 20
        assert round_["num_examples"] == sum(u["num_examples"] for u in round_["updates"])


def test_weights_through_s3_give_the_same_bytes(quick_run, bucket, tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "data"), FL_S3_BUCKET=bucket) as server:
        done = run_here(
            *(*QUICK, "--server", server.url, "--out", str(tmp_path / "out")), FL_ADMIN_KEY=KEY
        )
        assert done.returncode == 0, done.stderr
    assert model_of(tmp_path / "out") == model_of(quick_run[0])
    import boto3

    kept = boto3.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    folders = [found["Key"].split("/")[0] for found in kept]
    assert folders == [*["models"] * 4, "store"]  # the last says whose store it is


def test_a_finished_experiment_is_verified_from_the_command_line(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "data")) as server:
        small = ("--dataset", "digits", "--clients", "3", "--rounds", "2", "--local-epochs", "1")
        done = run_here(
            *(*small, "--keep-updates", "1", "--max-update-norm", "0.5"),
            *("--server", server.url, "--out", str(tmp_path / "out"), "--json"),
            FL_ADMIN_KEY=KEY,
        )
        assert done.returncode == 0, done.stderr
        at = ("--server", server.url, "--experiment", json.loads(done.stdout)["experiment"])
        checked = run_here("verify", *at, FL_ADMIN_KEY=KEY)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "model 2: recomputed of 3 updates" in checked.stdout
        assert "model 1: There is no update" in checked.stdout
        assert "as recorded" in checked.stdout.splitlines()[-1]
        gone = run_here("verify", *at, "--round", "1", FL_ADMIN_KEY=KEY)
        assert gone.returncode == 10, gone.stdout + gone.stderr
        assert "round 1 are no longer kept" in gone.stdout
        assert run_here("verify", *at, FL_ADMIN_KEY="not-the-admins-key").returncode == 4


def test_one_participant_joins_and_its_model_predicts(tmp_path):
    """A second machine's view: `join` beside a simulation that leaves one slot free."""
    with (
        Server(FL_DATA_DIR=str(tmp_path / "data")) as server,
        server.as_admin() as http,
    ):
        experiment, key = create_digits_experiment(http, clients=2)
        first = join(server.url, experiment, key, "site 0", tmp_path / "0.key")
        second = run_here(
            *("join", "--server", server.url, "--experiment", experiment, "--name", "site 1"),
            *("--key-file", str(tmp_path / "1.key")),
            FL_ENROL_KEY=key,
        )
        output, _ = first.communicate(timeout=120)
        assert (first.returncode, second.returncode) == (0, 0), output + second.stderr
        for told in (output, second.stdout):
            assert "round 2 of 2: uploaded (accuracy " in told
        assert (tmp_path / "0.key").stat().st_mode & 0o777 == 0o600
        shown = http.get(f"/experiments/{experiment}").json()
        assert shown["state"] == "completed"
        clients = http.get(f"/experiments/{experiment}/clients").json()
        assert {c["name"] for c in clients} == {"site 0", "site 1"}
        late = run_here(
            *("join", "--server", server.url, "--experiment", experiment),
            *("--key-file", str(tmp_path / "late.key")),
            FL_ENROL_KEY=key,
        )
        assert late.returncode == 4
        assert "nobody can join any more" in late.stderr
        again = run_here(
            *("join", "--server", server.url, "--experiment", experiment),
            *("--key-file", str(tmp_path / "0.key")),
            FL_ENROL_KEY=key,
        )
        assert again.returncode == 0, again.stderr
        model = http.get(f"/experiments/{experiment}/models/latest").content
    (tmp_path / "model.safetensors").write_bytes(model)
    digits = datasets.load("digits", tmp_path)
    Image.fromarray(digits.test_x[0, 0].numpy()).save(tmp_path / "digit.png")
    files = (str(tmp_path / "digit.png"), "--model", str(tmp_path / "model.safetensors"))
    told = run_here("predict", *files)
    assert told.returncode == 0, told.stderr


def test_a_client_that_never_uploads_fails_the_run_with_its_reason(tmp_path):
    # The deadline is shorter than any training: no round can get its quorum.
    done = run_here(
        *(*SMALL, "--deadline", "0.5", "--max-attempts", "2", "--out", str(tmp_path), "--json"),
        training=SlowTraining,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["state"] == "failed"
    assert "in 2 attempts. Missing: client-0" in report["reason"]
    assert model_of(tmp_path)  # the initial one


class NoTraining(TrainingHere):
    def start(self, data):
        pytest.fail("the training processes were started")


def test_a_wrong_admin_key_is_refused_before_anything_is_started(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "data")) as server:
        done = run_here(
            *(*SMALL, "--server", server.url, "--out", str(tmp_path / "out")),
            training=NoTraining,
            FL_ADMIN_KEY="not-the-admins-key",
        )
    assert done.returncode == 4
    assert "admin key" in done.stderr
