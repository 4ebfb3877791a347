"""template.yaml: what CloudFormation would refuse, found here, and what the stack must hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.config import Settings

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv-sam" / "bin" / "sam"


class Loader(yaml.SafeLoader):
    """`!Ref X` becomes {"!Ref": "X"}, and so on."""


def _intrinsic(loader, tag, node):
    build = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda n: loader.construct_sequence(n, deep=True),
    }[type(node)]
    return {f"!{tag}": build(node)}


Loader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="module")
def template():
    return yaml.load((ROOT / "template.yaml").read_text(), Loader)


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


def validate(path):
    environment = os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-1"}
    return subprocess.run(
        [str(SAM), "validate", "--lint", "--template", str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.skipif(not SAM.exists(), reason="the SAM CLI is not there: make sam-validate")
def test_the_sam_cli_accepts_it(tmp_path):
    done = validate(ROOT / "template.yaml")
    assert done.returncode == 0, done.stderr
    assert "is a valid SAM Template" in done.stdout
    bad = tmp_path / "template.yaml"
    bad.write_text((ROOT / "template.yaml").read_text().replace("!Ref Logs", "!Ref Blogs"))
    assert validate(bad).returncode != 0


def test_the_function_may_do_what_it_needs_and_nothing_else(template):
    policies = template["Resources"]["Coordinator"]["Properties"]["Policies"]
    secret, bucket = policies
    (allowed,) = secret["Statement"]
    assert allowed["Action"] == "secretsmanager:GetSecretValue"
    assert allowed["Resource"] == {"!Ref": "SecretArn"}
    condition, with_bucket, without = bucket["!If"]
    assert (condition, without) == ("HasBucket", {"!Ref": "AWS::NoValue"})
    assert [(s["Action"], s["Resource"]) for s in with_bucket["Statement"]] == [
        (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], {"!Sub": "${Weights.Arn}/*"}),
        ("s3:ListBucket", {"!GetAtt": "Weights.Arn"}),
    ]


def test_the_bucket_is_private_encrypted_and_swept(template):
    assert template["Parameters"]["WeightsBucket"]["Default"] == "none"
    bucket = template["Resources"]["Weights"]
    assert bucket["Condition"] == template["Resources"]["WeightsOverTlsOnly"]["Condition"]
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    (expiry,) = [rule for rule in rules if "ExpirationInDays" in rule]
    assert (expiry["Prefix"], expiry["ExpirationInDays"]) == ("uploads/", 400)
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    (statement,) = template["Resources"]["WeightsOverTlsOnly"]["Properties"]["PolicyDocument"][
        "Statement"
    ]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}


def test_the_functions_environment_is_settings_that_there_are(template):
    variables = template["Resources"]["Coordinator"]["Properties"]["Environment"]["Variables"]
    fields = {f"FL_{name.upper()}" for name in Settings.model_fields}
    assert variables.keys() - {"FL_S3_BUCKET"} <= fields


def test_the_stack_is_watched_bounded_and_says_what_to_type(template):
    resources = template["Resources"]
    alarms = {
        r["Properties"]["MetricName"]
        for r in resources.values()
        if r["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms == {"Errors", "Throttles", "Duration"}
    function = resources["Coordinator"]["Properties"]
    alarm = resources["DurationAlarm"]["Properties"]["Threshold"]
    assert function["Timeout"] * 1000 > alarm > 0.7 * function["Timeout"] * 1000
    assert function["Tracing"] == "Active"
    assert resources["Logs"]["Properties"]["RetentionInDays"] == {"!Ref": "LogRetentionDays"}
    throttle = resources["Api"]["Properties"]["DefaultRouteSettings"]
    assert throttle["ThrottlingRateLimit"] == {"!Ref": "RequestsPerSecond"}
    assert '"tick": true' in function["Events"]["Tick"]["Properties"]["Input"]
    for output in ("Run", "Join"):
        command = template["Outputs"][output]["Value"]["!Sub"]
        assert "python -m client_sdk" in command
        assert "${Api.ApiEndpoint}" in command
