"""`python -m client_sdk delete`, against a coordinator of its own."""

from client_sdk import exit_codes
from client_sdk.cli import command_line
from tests.support.plain_http import create
from tests.support.processes import KEY


def delete(server, experiment, *more, key=KEY):
    return command_line.run(
        [*("delete", "--server", server.url, "--experiment", experiment), "--admin-key", key, *more]
    )


def test_it_deletes_what_has_ended_and_says_so(server, http, capsys):
    experiment, _ = create(http, "over")
    assert delete(server, experiment) == exit_codes.REFUSED
    assert "stop it first, or delete it with stop=true" in capsys.readouterr().err
    http.post(f"/experiments/{experiment}/stop").raise_for_status()
    assert delete(server, experiment) == 0
    assert "The experiment is deleted" in capsys.readouterr().out
    assert http.get(f"/experiments/{experiment}").status_code == 404
    assert delete(server, experiment) == 0  # again


def test_it_stops_it_first_where_it_is_told_to(server, http):
    experiment, _ = create(http, "goes on")
    assert delete(server, experiment, "--stop") == 0
    assert http.get(f"/experiments/{experiment}").json()["code"] == "deleted"


def test_it_needs_the_right_key_and_an_experiment(server, http, capsys):
    experiment, enrolment_key = create(http, "not yours")
    assert delete(server, experiment, "--stop", key=enrolment_key) == exit_codes.REFUSED
    assert delete(server, experiment, "--stop", key="") == exit_codes.USAGE
    assert "set FL_ADMIN_KEY" in capsys.readouterr().err
    assert http.get(f"/experiments/{experiment}").status_code == 200
    assert delete(server, "20200101-000000-abcdef") == exit_codes.REFUSED
    assert "There is no experiment" in capsys.readouterr().err
