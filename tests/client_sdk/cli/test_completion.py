"""`completion`: the script that a shell reads."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.cli.completion_command import script
from client_sdk.cli.parser import COMMANDS

TYPE = """
source "$1"
function=$(complete -p serverless-fl | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
$function serverless-fl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    path = tmp_path_factory.mktemp("completion") / "serverless-fl"
    path.write_text(script("bash"), encoding="utf-8")

    def complete(*words):
        shell = ["bash", "-c", TYPE, "bash", str(path), "serverless-fl", *words]
        done = subprocess.run(shell, capture_output=True, text=True, cwd=path.parent, check=True)
        return done.stdout.split()

    return complete


def test_bash_completes_commands_options_and_their_values(bash):
    assert set(bash("")) >= set(COMMANDS)
    assert bash("comp") == ["compare", "completion"]
    assert bash("run", "--local-ep") == ["--local-epochs"]
    assert bash("create", "--lik") == ["--like"]
    assert bash("run", "--engine", "b") == ["batched"]
    assert bash("run", "--strategy", "fedad") == ["fedadagrad", "fedadam"]
    assert bash("completion", "z") == ["zsh"]


def test_bash_completes_a_file(bash):
    assert bash("compare", "serv") == ["serverless-fl"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_of_the_same_command(shell, capsys):
    assert command_line.run(["completion", shell]) == 0
    written = capsys.readouterr().out
    assert "serverless-fl" in written
    assert "local-epochs" in written
    assert "client_sdk" not in written.split("_arguments")[0]


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.run(["completion", "cmd"])
    assert ended.value.code == exit_codes.USAGE
    assert "bash" in capsys.readouterr().err


def test_without_shtab_a_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert command_line.run(["completion", "bash"]) == exit_codes.USAGE
    assert "serverless-fl[completion]" in capsys.readouterr().err
