"""Settings by flags and files: what wins, what is written, and what an error calls them."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from client_sdk.cli import config_file, settings
from client_sdk.cli.arguments import make_parser
from client_sdk.cli.settings import help_text
from client_sdk.errors import UsageError
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import settings_of
from tests.support.choices import WithToys


def parse(*words):
    return make_parser().parse_args(["run", *map(str, words)])


def effective(*words, size=1000):
    given = parse(*words).settings
    return settings.effective(given, dataset="d", dataset_size=size, model="m")


@pytest.fixture
def refused(capsys):
    """Parses words that are refused; gives the sentence."""

    def run(*words):
        with pytest.raises(SystemExit) as end:
            make_parser().parse_args([str(word) for word in words])
        assert end.value.code == 2
        told = capsys.readouterr().err
        assert len(told.splitlines()) == 1
        return told.removeprefix("error: ").partition(" (see ")[0]

    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.toml"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults_are_the_classic_run():
    config = effective(size=60000)
    assert (config.clients, config.clients_per_round, config.rounds) == (20, 10, 10)
    assert (config.local_epochs, config.batch_size, config.learning_rate) == (10, 50, 0.05)


def test_help_keeps_the_capitals_of_names():
    declared = settings_of(ExperimentConfig).values()
    assert {word for s in declared if (word := help_text(s).split()[0])[0].isupper()} == {
        "FedProx:",
        "L2",
    }


def test_what_the_data_decide():
    assert effective("--clients", 4).clients_per_round == 4
    assert effective("--clients", 20, size=20 * 199).batch_size == 10
    assert effective("--clients", 20, size=20 * 200).batch_size == 50
    assert effective("--clients", 20, "--batch-size", 7, size=100).batch_size == 7


def test_a_flag_wins_over_the_file_wherever_it_stands(file):
    path = file('[schedule]\nrounds = 3\nquorum = 2\n[run]\nname = "file"\nkernel = "torch"\n')
    for words in (["--config", path, *FLAGS], [*FLAGS, "--config", path]):
        arguments = parse(*words)
        assert arguments.settings.values == {"rounds": 4, "quorum": None}
        assert (arguments.name, arguments.kernel) == ("flag", "torch")


FLAGS = ("--rounds", "4", "--name", "flag", "--quorum", "none")


def test_what_a_run_writes_makes_the_same_run(tmp_path):
    words = ["--clients", 4, "--learning-rate", 1e-05, "--target-accuracy", 1, "--fit", "crop"]
    arguments = parse(*words, "--name", 'a "name"\t\\ ü \x7f 🦊', "--update-encoding", "delta-int8")
    first = settings.effective(arguments.settings, dataset="mnist", dataset_size=9, model="m-cnn")
    config_file.write(tmp_path, first, arguments, "mnist")
    again = parse("--config", tmp_path / config_file.NAME)
    second = settings.effective(again.settings, dataset="mnist", dataset_size=9, model="m-cnn")
    assert second == first
    assert (again.dataset, again.model) == ("mnist", "m-cnn")
    assert {k: getattr(again, k) for k in ("name", "fit", "kernel", "data_dir", "image_size")} == {
        k: getattr(arguments, k) for k in ("name", "fit", "kernel", "data_dir", "image_size")
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--clients", "0"], "argument --clients: must be a whole number, 1 to 100,000, not 0"),
        (["--deadline", "-1"], "argument --deadline: must be a number, above 0, at most 2,592,000"),
        (["--momentum", "inf"], "argument --momentum: must be a number, at least 0, below 1"),
        (["--norm-action", "clap"], "must be one of clip, reject, not 'clap'; did you mean clip?"),
        (["--kernel", "natve"], "must be one of auto, native, torch, not 'natve'; did you mean"),
        (["--cleints", "5"], "there is no option --cleints; did you mean --clients?"),
        (["--round=5", "--cleints=5"], "there is no option --cleints; did you mean --clients?"),
        (["-rounds", "5"], "there is no option -rounds; did you mean --rounds?"),
        (["--zzz"], "there is no option --zzz"),
        (["--rounds", "5", "extra"], "'extra' belongs to no option"),
        (["-r", "5"], "'-r' belongs to no option"),
        (["--split", "dirichlet"], "not 'dirichlet'; did you mean dirichlet-"),
        (["--alpa", "1"], "there is no option --alpa; did you mean --alpha?"),
        (["--alpha", "0"], "argument --alpha: must be a number, 0.001 to 1,000,000, not 0"),
        (["--split", "label-shards", "--alpha", "1"], "; the split is label-shards"),
        (["--schedule", "buffered", "--grace-seconds", "3"], "; the schedule is buffered"),
        (["--selection", "by_loss"], "not 'by_loss'; did you mean by-loss?"),
        (["--strategy", "fedadm"], "did you mean fedadam?"),
        (["--target-metric", "f1!"], "--target-metric: must be 1 to 64 letters, digits and signs"),
        (["--image-size", "big"], "--image-size: must be a width and height such as 64 or 64x48"),
        (["--dataset", ""], "argument --dataset: must not be empty"),
        (["--model", " "], "argument --model: must not be empty"),
        (["--config", ""], "argument --config: must not be empty"),
        (["--out", ""], "argument --out: must not be empty"),
        (["--rounds", ""], "argument --rounds: must be a whole number, 1 to 1,000,000, not ''"),
    ],
)
def test_an_error_names_the_flag_and_its_bounds(refused, words, says):
    assert says in refused("run", *words)


def test_misspelt_words_of_other_commands(refused):
    assert "did you mean predict?" in refused("run", "predcit", "x.png")
    assert "did you mean --server?" in refused("join", "--sever", "http://localhost")
    assert "did you mean onnx?" in refused("export", "--format", "onxx", "--out", "x")
    told = refused("create", "--server", "http://x", "--walrus", "3")
    assert told == "there is no option --walrus"  # nothing is like it


def test_create_says_what_it_does_without_a_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        make_parser().parse_args(["create", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in ("batch (1 to 1,000,000; default: 10)", "(1 to 100,000; default: none)"):
        assert default in text
    assert "(default: federated for tables, else given)" in text
    created = settings.effective(
        make_parser().parse_args(["create", "--server", "http://x", "--clients", "3"]).settings,
        **{"dataset": "d", "dataset_size": None, "model": "m"},
    )
    assert created.batch_size == 10


def test_parties_with_data_of_their_own_may_have_secure_aggregation_without_more():
    """What is usual for them otherwise reads single updates."""
    words = ["create", "--server", "http://x", "--clients", "3", "--secure-aggregation", "pairs"]
    given = replace(make_parser().parse_args(words).settings, own_data=True)
    created = settings.effective(given, dataset="d", dataset_size=None, model="m")
    assert created.selection.name == "uniform"
    assert created.schedule.grace_seconds == 300
    assert created.to_config().secure


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[schedule]\nrounds = 0", "schedule.rounds must be a whole number, 1 to 1,000,000, not 0"),
        ("[schedule]\nrounds = true", "schedule.rounds must be a whole number"),
        ('[schedule]\nrounds = "3"', "schedule.rounds must be a whole number"),
        ("[training]\nlearning_rate = nan", "training.learning_rate must be a number"),
        ("[schedule]\nround = 3", "there is no key schedule.round; did you mean rounds?"),
        ("[training]\nrounds = 3", "no key training.rounds; it belongs into [schedule]"),
        ("rounds = 3", "the key rounds stands in no table; it belongs into [schedule]"),
        ("[shedule]\nrounds = 3", "there is no table [shedule]; did you mean schedule?"),
        ("[data]\ndataset_size = 3", "there is no key data.dataset_size"),
        ("[data]\ndataset = 3", "data.dataset must be text"),
        ('[run]\nkernel = "natve"', ": run.kernel must be one of auto, native, torch, not 'natve'"),
        ('[data]\nimage_size = "big"', ": data.image_size must be a width and height such as 64"),
        ('[data]\ndataset = ""', ": data.dataset must not be empty"),
        ('[data]\nsplit = "equals"', "data.split must be one of equal, dirichlet-classes, "),
        ('[schedule]\nselection = "uniforn"', "not 'uniforn'; did you mean uniform?"),
        ('[strategy]\nstrategy = ["fedavg"]', "strategy.strategy must be one of fedavg"),
        ("[schedule\n", "is no TOML"),
        ("[schedule]\nrounds = " + 5000 * "9", "is no TOML"),
        ("[schedule]\nrounds = " + 5000 * "[", "is no TOML"),
        ("[schedule]\nrounds = [1, 2]", "schedule.rounds must be a whole number"),
        ("[schedule]\nrounds = 2026-01-01", "schedule.rounds must be a whole number"),
        ('[schedule]\n"a\\u001b[2J\\nb" = 1', "there is no key schedule.a"),
        ("#" * 1_000_001, "is no file of settings"),
    ],
)
def test_an_error_names_the_file_and_the_key(refused, file, text, says):
    path = file(text)
    told = refused("run", "--config", path)
    assert told.startswith(str(path))
    assert says in told
    assert not told.endswith(("?.", "."))


def test_a_file_that_is_none(refused, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "is no TOML" in refused("run", "--config", tmp_path / "binary")
    assert "cannot be read" in refused("run", "--config", tmp_path / "nowhere")
    assert refused("run", "--config", tmp_path).endswith("is a folder, and no file of settings")
    (tmp_path / config_file.NAME).touch()
    told = refused("run", "--config", tmp_path)
    assert told.endswith(f"no file of settings: give {tmp_path / config_file.NAME}")


def test_a_contradiction_is_told_in_the_words_of_who_gave_it(file):
    with pytest.raises(UsageError, match=r"^--clients-per-round \(30\) is more than --clients"):
        effective("--clients-per-round", 30)
    path = file("[schedule]\nclients_per_round = 30\n")
    with pytest.raises(UsageError, match=r"^clients_per_round in .*my.toml \(30\) is more than --"):
        effective("--config", path)
    with pytest.raises(UsageError, match="among 5000 clients: each"):
        effective("--clients", 5000)


def test_each_option_of_run_is_explained():
    run = next(iter(make_parser()._subparsers._group_actions)).choices["run"]
    assert [a.option_strings for a in run._actions if not a.help] == []
    assert isinstance(run, argparse.ArgumentParser)


def with_toys(*words):
    arguments = make_parser(WithToys).parse_args(["run", *map(str, words)])
    config = settings.effective(arguments.settings, dataset="d", dataset_size=100, model="m")
    return config, arguments


@pytest.fixture
def told_toys(capsys):
    """Parses words that are refused, where the toy strategies are known; gives the sentence."""

    def run(*words):
        with pytest.raises(SystemExit):
            make_parser(WithToys).parse_args(["run", *map(str, words)])
        told = capsys.readouterr().err
        assert len(told.splitlines()) == 1
        return told.removeprefix("error: ").partition(" (see ")[0]

    return run


@pytest.mark.parametrize(
    ("text", "words", "strategy"),
    [
        ("", [], "fedavg"),
        ("", ["--strategy", "toy"], "toy"),
        ("", ["--toy-rate", 2, "--strategy", "toy"], {"name": "toy", "toy_rate": 2.0}),
        ('strategy = "toy"\n', ["--toy-steps", 3], {"name": "toy", "toy_steps": 3}),
        ('name = "toy"\ntoy_rate = 2\n', [], {"name": "toy", "toy_rate": 2.0}),
        ('name = "toy"\ntoy_rate = 2\n', ["--toy-rate", 3], {"name": "toy", "toy_rate": 3.0}),
        # A flag that chooses another alternative leaves the file's settings of its own out.
        ('name = "toy"\ntoy_rate = 2\n', ["--strategy", "other"], "other"),
        ('name = "toy"\ntoy_steps = 2\n', ["--strategy", "fedavg"], "fedavg"),
        # The file chooses none, so its settings are those of the flag's alternative.
        ("toy_rate = 2\n", ["--strategy", "other"], {"name": "other", "toy_rate": 2.0}),
        (
            'name = "other"\ntoy_word = "a"\n',
            ["--toy-word", "none", "--toy-rate", 1],
            {"name": "other", "toy_rate": 1.0},
        ),
    ],
)
def test_a_choice_and_its_settings(file, tmp_path, text, words, strategy):
    given = ["--config", file(f"[strategy]\n{text}")] if text else []
    config, arguments = with_toys(*given, *words)
    assert config.model_dump()["strategy"] == strategy
    config_file.write(tmp_path, config, arguments, "d")
    assert with_toys("--config", tmp_path / config_file.NAME)[0] == config


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--strategy", "tyo"], "must be one of fedavg, toy, other, not 'tyo'; did you mean toy?"),
        (["--toy-rate", 1], "--toy-rate is a setting of toy and other; the strategy is fedavg"),
        (
            ["--strategy", "other", "--toy-steps", 2],
            "--toy-steps is a setting of toy; the strategy is other",
        ),
        (
            ["--strategy", "toy", "--toy-rate", 11],
            "--toy-rate: must be a number, above 0, at most 10",
        ),
        (["--toy-rte", 1], "there is no option --toy-rte; did you mean --toy-rate?"),
    ],
)
def test_an_error_of_a_choice_names_the_flag(told_toys, words, says):
    assert says in told_toys(*words)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("toy_rate = 1", "toy_rate in {} is a setting of toy and other; the strategy is fedavg"),
        ('name = "other"\ntoy_steps = 1', "toy_steps in {} is a setting of toy; the strategy is"),
        ('name = "tyo"', "{}: strategy.name must be one of fedavg, toy, other, not 'tyo'; did you"),
        ('strategy = "tyo"', "{}: strategy.strategy must be one of fedavg, toy, other, not 'tyo'"),
        ('strategy = "toy"\nname = "toy"', "{}: strategy.name and strategy.strategy are one"),
        ('strategy = {name = "toy"}', "{}: strategy.strategy must be one of fedavg, toy, other"),
        ("name = 3", "{}: strategy.name must be one of fedavg, toy, other, not 3"),
        ('name = "toy"\ntoy_rate = "1"', "{}: strategy.toy_rate must be a number, above 0"),
        ('name = "toy"\ntoy_rte = 1', "there is no key strategy.toy_rte; did you mean toy_rate?"),
        ('[encoding]\nname = "x"', "there is no key encoding.name; it belongs into [run]"),
    ],
)
def test_an_error_of_a_choice_names_the_key(told_toys, file, text, says):
    path = file(f"[strategy]\n{text}\n")
    assert says.format(path) in told_toys("--config", path)


def test_the_settings_of_a_schedule_and_a_selection_are_flags_and_keys(tmp_path):
    words = ["--over-selection", 2, "--grace-seconds", 30, "--selection", "responsive"]
    arguments = parse(*words, "--prompt-share", 0.25)
    of_data = {"dataset": "d", "dataset_size": 1000, "model": "m"}
    config = settings.effective(arguments.settings, **of_data)
    wanted = {"name": "synchronous", "over_selection": 2, "grace_seconds": 30.0}
    assert config.model_dump()["schedule"] == wanted
    assert config.model_dump()["selection"] == {"name": "responsive", "prompt_share": 0.25}
    config_file.write(tmp_path, config, arguments, "d")
    again = parse("--config", tmp_path / config_file.NAME)
    assert settings.effective(again.settings, **of_data) == config


def test_more_over_selection_than_clients_is_refused_by_the_flags():
    with pytest.raises(UsageError, match=r"--clients-per-round \(10\) and --over-selection \(90\)"):
        effective("--clients-per-round", 10, "--over-selection", 90)
