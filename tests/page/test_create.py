"""A new experiment from the page alone: presets, the parties' own data, settings that adapt."""

from __future__ import annotations

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect

from client_sdk.cli.arguments import make_parser
from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll, recipe
from tests.support.here import run_here
from tests.support.processes import wait_for


@pytest.fixture
def form(server, open_page):
    page = open_page().page
    page.goto(f"{server.url}/#/new")
    give_key(page)
    expect(page.get_by_label("what is learnt")).to_be_visible()
    return page


def shown_config(page):
    """The settings of the experiment that the page has just created."""
    expect(page.get_by_role("heading", name="Take part")).to_be_visible()
    return page.evaluate(
        "async () => (await fetch('v1/experiments/' + location.hash.split('/').at(-1))).json()"
    )["config"]


def test_the_default_experiment_needs_one_press_and_no_file(form):
    form.get_by_role("button", name="Create experiment").click()
    config = shown_config(form)
    assert (config["dataset"], config["dataset_size"], config["model"]) == (
        *("mnist", 60000, "mnist-cnn"),
    )
    assert (config["clients"], config["clients_per_round"]) == (20, 10)
    expect(form.get_by_role("status").first).to_contain_text("0 of 20 clients enrolled")


def test_no_command_is_shown_before_its_key(form):
    held = []
    form.route("**/enrolment-key", lambda route: held.append(route))  # noqa: PLW0108
    form.get_by_label("what is learnt").select_option("digits")
    form.get_by_role("button", name="Create experiment").click()
    expect(form.get_by_role("heading", name="Take part")).to_be_visible()
    expect(form.get_by_role("status").first).to_contain_text("0 of 20 clients enrolled")
    wait_for(lambda: form.wait_for_timeout(50) or held)
    assert form.locator(".command code").count() == 0
    held[0].continue_()
    expect(form.locator(".command code")).to_contain_text("FL_ENROL_KEY=enrol")


@pytest.mark.timeout(300)
def test_from_the_page_to_a_trained_model_without_any_file(form, server, tmp_path):
    form.get_by_label("what is learnt").select_option("digits")
    expect(form.get_by_label("dataset size")).to_have_value("1438")
    form.get_by_label("clients", exact=True).fill("1")
    form.get_by_label("local epochs").fill("1")
    form.get_by_label("rounds", exact=True).fill("2")
    form.get_by_role("button", name="Create experiment").click()
    key, words = recipe(form)
    to = [*words, "--key-file", str(tmp_path / "key")]
    with ThreadPoolExecutor(1) as beside:  # Playwright has the event loop of this thread
        done = beside.submit(run_here, *to, FL_ENROL_KEY=key).result(200)
    assert done.returncode == 0, done.stderr
    expect(form.locator(".sentence", has_text="Completed")).to_be_visible()
    with form.expect_download() as download:
        form.get_by_role("button", name="Download model 2").click()
    assert download.value.path().stat().st_size > 50_000


def test_fewer_clients_make_a_smaller_cohort_visibly(form):
    cohort = form.get_by_label("clients per round")
    form.get_by_label("clients", exact=True).fill("3")
    expect(cohort).to_have_value("3")
    expect(form.get_by_text("Now 3: there are 3 clients.")).to_be_visible()
    form.get_by_label("clients", exact=True).fill("40")
    expect(cohort).to_have_value("10")
    cohort.fill("8")
    form.get_by_label("clients", exact=True).fill("12")
    expect(cohort).to_have_value("8")  # somebody's own choice stays where it can
    form.get_by_label("clients", exact=True).fill("5")
    form.get_by_role("button", name="Create experiment").click()
    config = shown_config(form)
    assert (config["clients"], config["clients_per_round"]) == (5, 5)


def test_parties_with_data_of_their_own_get_the_whole_recipe(form, server, digits_model, tmp_path):
    form.get_by_label("what is learnt").select_option("own")
    expect(form.get_by_label("dataset size")).to_be_hidden()
    form.get_by_text("More settings").click()
    expect(form.get_by_label("max examples per client")).to_be_visible()
    form.get_by_label("name", exact=True).fill("St. Mary's and others")
    form.get_by_label("clients", exact=True).fill("3")
    form.get_by_label("strategy", exact=True).select_option("median")
    command = form.locator(".command code").inner_text()
    # The SDK takes the command as it stands.
    words = shlex.split(command.split(" .venv/bin/serverless-fl ")[1])
    arguments = make_parser().parse_args(words)
    assert (arguments.command, arguments.server) == ("create", server.url)
    assert arguments.name == "St. Mary's and others"
    settings = arguments.settings.values
    assert (settings["clients"], settings["clients_per_round"]) == (3, 3)
    assert axe(form) == []

    form.get_by_role("button", name="Create experiment").click()
    expect(form.get_by_text("Choose the file of the initial weights.")).to_be_visible()
    form.get_by_label("initial weights").set_input_files(digits_model[0])
    form.get_by_role("button", name="Create experiment").click()
    config = shown_config(form)
    assert (config["data"], config["dataset_size"], config["clients"]) == ("own", None, 3)
    # Nobody has touched these, so the coordinator chooses for parties that may die.
    assert config["selection"] == {"name": "responsive", "rest_rounds": 4}
    assert config["schedule"] == {"name": "synchronous", "grace_seconds": 300}
    expect(form.locator(".recipe code")).to_contain_text("pip install")
    expect(form.locator(".command code")).to_contain_text("--name NAME --data PATH")
    for name in ("Copy install line", "Copy command"):
        expect(form.get_by_role("button", name=name)).to_be_visible()
    form.get_by_label("The party’s name").fill("St. Mary's")
    form.get_by_label("Its own data").fill("wards 1 & 2.csv")
    with form.expect_download() as download:
        form.get_by_role("button", name="Save as a file").click()
    key, words = recipe(form)
    assert words[-4:] == ["--name", "St. Mary's", "--data", "wards 1 & 2.csv"]
    said = run_recipe(download.value.path().read_text(encoding="utf-8"), tmp_path)
    assert said == [key, "", *words]
    form.get_by_role("button", name="Show as a QR code").click()
    expect(form.get_by_role("img", name="QR code")).to_be_visible()
    expect(form.get_by_role("dialog")).to_contain_text("The enrolment key in it is a secret")
    assert axe(form) == []
    form.get_by_role("button", name="Close").click()


def run_recipe(script: str, folder: Path) -> list[str]:
    """What the recipe's command gets: the enrolment key, the certificate's file, the arguments."""
    tool = folder / ".venv/bin/serverless-fl"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$FL_ENROL_KEY" "$SSL_CERT_FILE" "$@"\n')
    tool.chmod(0o755)
    (folder / "join.sh").write_text(script, encoding="utf-8")
    settings = {"PATH": os.environ["PATH"]}
    said = subprocess.check_output(["sh", "-e", "join.sh"], cwd=folder, env=settings, text=True)
    (folder / "join.sh").unlink()
    return said.splitlines()


def test_a_recipe_brings_the_certificate_of_a_private_authority(modules, tmp_path):
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB$(touch here)`id`\n-----END CERTIFICATE-----"
    about = {"id": "e", "server": "https://fl.lan", "key": "k", "name": "", "data": None}
    script = modules(
        """async (load, about) =>
        (await load("recipe.js")).recipeOf({ ...about, notes: ["It’s $HOME."] }).script""",
        about | {"authority": certificate.replace("\n", "\r\n")},
    )
    said = run_recipe(script, tmp_path)
    words = ["join", "--server", "https://fl.lan", "--experiment", "e"]
    assert said == ["k", "authority.pem", *words]
    assert (tmp_path / "authority.pem").read_text() == f"{certificate}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".venv", "authority.pem"]


def test_a_file_of_ones_own_takes_the_place_of_a_preset(form, digits_model):
    form.get_by_label("initial weights").set_input_files(digits_model[0])
    expect(form.get_by_label("what is learnt")).to_have_value("file")
    expect(form.get_by_label("model", exact=True)).to_have_value("digits-cnn")
    expect(form.get_by_label("dataset size")).to_have_value("")
    form.get_by_label("data", exact=True).select_option("own")
    expect(form.get_by_label("dataset size")).to_be_hidden()


def test_the_form_fits_a_phone(server, open_page):
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/new")
    give_key(page)
    for kind in ("mnist", "own", "file"):
        page.get_by_label("what is learnt").select_option(kind)
        assert (axe(page), no_sideways_scroll(page)) == ([], True)
