"""`python -m client_sdk split`, and runs whose data are split otherwise than equally."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.cli.arguments import make_parser
from client_sdk.cli.run_settings import RunSettings, draw_split, experiment_of, settle
from client_sdk.data.splits.split import Examples
from client_sdk.errors import UsageError
from tests.support.here import run_here
from tests.support.sites import SIZES, write_sites

DIGITS = ("--dataset", "digits")
EXAMPLES = Examples(1438)


def split(tmp_path, *words, out="s.png"):
    return command_line.run(["split", *map(str, words), "--out", str(tmp_path / out)])


def cells(text):
    """The rows of the printed table, by their first cell."""
    lines = [line.split("│") for line in text.replace("┃", "│").splitlines() if "│" in line]
    return {found[1].strip(): [cell.strip() for cell in found[2:-1]] for found in lines}


def test_a_table_and_a_figure_show_who_has_what(tmp_path, capsys):
    words = (*DIGITS, "--clients", 4, "--split", "label-shards", "--seed", 5)
    assert split(tmp_path, *words) == 0
    printed = capsys.readouterr().out
    rows = cells(printed)
    assert rows["all"][0] == "1438"
    counts = [int(rows[f"client-{n:02d}"][0]) for n in range(4)]
    assert sum(counts) == 1438
    assert max(counts) - min(counts) <= 1
    assert sum(cell == "." for cell in rows["client-00"]) >= 6
    assert "a client's classes differ from those of all data by" in printed
    with Image.open(tmp_path / "s.png") as figure:
        assert figure.size[0] > 1000


def test_a_figure_may_be_an_svg_and_the_counts_json(tmp_path, capsys):
    words = (*DIGITS, "--clients", 3, "--split", "dirichlet-clients", "--alpha", 0.2, "--json")
    assert split(tmp_path, *words, out="s.svg") == 0
    found = json.loads(capsys.readouterr().out)
    assert [sum(row) for row in found["counts"]] == found["examples"] == [480, 479, 479]
    assert found["classes"] == list("0123456789")
    assert 0 < found["distance"] < 1
    assert "<svg" in (tmp_path / "s.svg").read_text()[:500]


def test_many_classes_are_counted_and_many_clients_too(tmp_path, capsys):
    for n in range(15):
        folder = tmp_path / "own" / "train" / f"c{n:02d}"
        folder.mkdir(parents=True)
        for m in range(6):
            Image.new("L", (9, 9), 10 * n + m).save(folder / f"{m}.png")
    words = ("--dataset", tmp_path / "own", "--clients", 70)
    assert split(tmp_path, *words) == 0
    rows = cells(capsys.readouterr().out)
    assert rows["client"][1:] == ["classes", "largest class"]
    assert any(name.startswith("...") for name in rows)
    assert rows["all"][1] == "15"


MISTAKES = {
    "a figure": ((*DIGITS, "--out", "s.pdf"), "--out ends in .png or .svg"),
    "a split": ((*DIGITS, "--split", "dirichlet"), "did you mean dirichlet-c"),
    "a setting of another": (
        (*DIGITS, "--alpha", "1"),
        "--alpha is a setting of dirichlet-classes and dirichlet-clients; the split is equal",
    ),
    "a value": (
        (*DIGITS, "--split", "quantity", "--sigma", "-1"),
        "--sigma: must be a number, 0 to",
    ),
    "no sites": ((*DIGITS, "--split", "by-column"), "The data have no column 'site'"),
}


@pytest.mark.parametrize(("words", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    try:
        code = command_line.run(["split", *words])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr().err
    assert code == exit_codes.USAGE
    assert says in printed
    assert printed.count("\n") == 1


def settled(*words, examples=EXAMPLES):
    given = make_parser().parse_args(["run", *words]).settings
    return settle(given, examples, dataset="digits", model="digits-cnn")


def test_an_equal_split_is_the_coordinators():
    settings = settled("--clients", "5")
    experiment = experiment_of(settings, None)
    assert (experiment.data, experiment.dataset_size) == ("common", 1438)
    assert "split" not in experiment.model_dump()


def test_any_other_split_is_an_experiment_with_own_data():
    words = ("--clients", "40", "--clients-per-round", "40", "--quorum", "40")
    settings = settled(*words, "--split", "quantity", "--sigma", "4")
    drawn = draw_split(settings, EXAMPLES)
    experiment = experiment_of(settings, drawn)
    clients = len(drawn.parts)
    assert clients < 40
    assert (experiment.data, experiment.dataset_size) == ("own", None)
    assert (experiment.clients, experiment.clients_per_round, experiment.quorum) == (clients,) * 3
    assert experiment.dataset == "digits, quantity, sigma 4.0"
    experiment.to_config()
    assert settings.clients == 40  # as in config.toml, so that the same split is drawn again


def test_the_sites_say_how_many_clients_there_are():
    columns = {"site": np.array(["a", "b", "c"] * 10)}
    examples = Examples(30, None, columns)
    assert settled("--split", "by-column", examples=examples).clients == 3
    with pytest.raises(UsageError, match=r"--clients \(4\) is not the number of sites, which is 3"):
        settled("--split", "by-column", "--clients", "4", examples=examples)


RUN = (
    *("run", *DIGITS, "--clients", "5", "--clients-per-round", "3", "--rounds", "2"),
    *("--local-epochs", "1", "--split", "dirichlet-classes", "--alpha", "0.3", "--seed", "3"),
)


def test_a_run_is_the_same_again_from_its_own_settings(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    done = run_here(*RUN, "--out", str(first))
    assert done.returncode == 0, done.stderr
    assert "accuracy by client, on the held-out data of 5: mean" in done.stdout
    repeated = run_here("run", "--config", str(first / "config.toml"), "--out", str(again))
    assert repeated.returncode == 0, repeated.stderr
    models = [(folder / "global.safetensors").read_bytes() for folder in (first, again)]
    assert hashlib.sha256(models[0]).digest() == hashlib.sha256(models[1]).digest()
    report = json.loads((first / "report.json").read_text())
    assert report["config"]["dataset"] == "digits, dirichlet-classes, alpha 0.3"
    sites = report["sites"]
    assert sum(site["examples"] for site in sites["sites"]) == 1438
    values = [site["value"] for site in sites["sites"]]
    assert sites["worst"] == min(values)
    assert sites["mean"] == pytest.approx(sum(values) / 5)
    other = RunSettings(
        **{**report["config"], "split": {"name": "dirichlet-classes", "alpha": 0.3}}
    )
    assert other.split.alpha == 0.3


def test_a_folder_for_each_site_is_a_client_for_each(tmp_path, capsys):
    root = write_sites(tmp_path / "own")
    words = ("--dataset", str(root), "--split", "by-column", "--site-column", "folder")
    assert split(tmp_path, *words) == 0
    rows = cells(capsys.readouterr().out)
    assert {name: int(rows[name][0]) for name in SIZES} == SIZES
    few = ("--rounds", "1", "--local-epochs", "1")
    done = run_here("run", *words, *few, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = {site["site"]: site["examples"] for site in report["sites"]["sites"]}
    assert found == SIZES
    assert report["sites"]["worst_site"] in SIZES
    assert report["evaluation"]["examples"] == 18
    tested = {site["site"]: site["held_out"] for site in report["test_sites"]["sites"]}
    assert tested == dict.fromkeys(SIZES, 6)
