"""template-client.yaml and its image. tests/platforms/test_template.py has the linter's verdict."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from client_sdk.cli.arguments import make_parser
from client_sdk.entry import function
from tests.platforms.test_template import ROOT, read

DOCKERFILE = ROOT / "docker" / "client.Dockerfile"
SCHEDULED = (ROOT / "docs" / "scheduled-client.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client():
    return read("template-client.yaml")["Resources"]["Client"]


def test_the_function_gets_the_settings_that_it_reads(client):
    variables = client["Properties"]["Environment"]["Variables"]
    assert variables.keys() == {"FL_JOIN", "FL_SECRET_ID", "FL_WAKE_URL", "FL_STATE_DIR"}
    assert all(name in function.__doc__ for name in variables)


def test_one_container_is_the_client_and_a_turn_is_not_repeated(client):
    own = client["Properties"]
    assert own["ReservedConcurrentExecutions"] == 1
    assert own["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
    assert own["Events"]["Turn"]["Properties"]["RetryPolicy"]["MaximumRetryAttempts"] == 0


def test_the_coordinators_role_alone_may_wake_it_by_its_topic():
    resources = read("template-client.yaml")["Resources"]
    own = {name: found for name, found in resources.items() if found.get("Condition") == "HasWaker"}
    assert {found["Type"] for found in own.values()} == {
        *("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SNS::Subscription"),
        "AWS::Lambda::Permission",
    }
    (allowed,) = own["WakerMayPublish"]["Properties"]["PolicyDocument"]["Statement"]
    assert (allowed["Principal"], allowed["Action"]) == ({"AWS": {"!Ref": "Waker"}}, "sns:Publish")
    assert own["TopicMayInvoke"]["Properties"]["SourceArn"] == {"!Ref": "Topic"}


def test_the_function_reads_its_own_bucket_and_changes_nothing_there(client):
    secret, bucket, files = client["Properties"]["Policies"]
    assert secret["Statement"][0]["Resource"] == {"!Ref": "SecretArn"}
    allowed = [statement["Action"] for statement in bucket["!If"][1]["Statement"]]
    assert allowed == ["s3:GetObject", "s3:ListBucket"]
    assert "Condition" in files["!If"][1]["Statement"][0]


def test_the_image_has_the_handler_and_the_files_that_it_copies(client):
    assert (ROOT / client["Metadata"]["Dockerfile"]) == DOCKERFILE
    text = DOCKERFILE.read_text(encoding="utf-8")
    module, _, name = re.search(r'CMD \["(.+)"\]', text)[1].rpartition(".")
    assert (module, name) == (function.__name__, function.handler.__name__)
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [path for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for path in line.split()]
    assert {"client_sdk", "serverless_fl"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in kept


def test_the_joins_of_the_documents_are_arguments_that_there_are():
    lines = re.findall(r"client_sdk (join .*--once.*?)(?: >>.*)?$", SCHEDULED, re.M)
    lines += [f"join {words} --once" for words in re.findall(r"^ +Join='(.+)'", SCHEDULED, re.M)]
    (job,) = map(yaml.safe_load, re.findall(r"^```yaml\n(.+?)^```", SCHEDULED, re.M | re.S))
    (turn,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    commands = [*map(shlex.split, lines), turn["command"][3:]]
    assert len(commands) == 4
    for words in commands:
        arguments = make_parser().parse_args([word.replace("URL", "https://x") for word in words])
        assert arguments.once
        assert arguments.experiment == "ID"
