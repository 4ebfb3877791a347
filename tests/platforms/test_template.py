"""template.yaml: what CloudFormation would refuse, found here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint(path):
    command = [str(Path(sys.executable).parent / "cfn-lint"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_template_is_clean():
    done = lint(ROOT / "template.yaml")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_have_told(tmp_path):
    text = (ROOT / "template.yaml").read_text()
    for name, (right, wrong) in enumerate(
        [("MemorySize:", "MemorySizes:"), ("!Ref Logs", "!Ref Blogs"), ("Sum", "Total")]
    ):
        bad = tmp_path / f"{name}.yaml"
        bad.write_text(text.replace(right, wrong))
        assert lint(bad).returncode != 0, wrong


def test_the_function_may_read_its_secret_and_nothing_else():
    text = (ROOT / "template.yaml").read_text()
    policies = text[text.index("      Policies:") : text.index("      Events:")]
    assert policies.split("Action:")[1:] == [
        " secretsmanager:GetSecretValue\n              Resource: !Ref SecretArn\n"
    ]
