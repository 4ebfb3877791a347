"""template.yaml: what CloudFormation would refuse, found here, and what the stack must hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.config import Settings, read_settings

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


def read(name):
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader)


@pytest.fixture(scope="module")
def template():
    return read("template.yaml")


def lint(*paths):
    command = [str(Path(sys.executable).parent / "cfn-lint"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_template_is_clean_and_the_linter_would_have_told(tmp_path):
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    mistakes = [("MemorySize:", "MemorySizes:"), ("!Ref Logs", "!Ref Blogs"), ("Sum", "Total")]
    bad = [tmp_path / f"{number}.yaml" for number in range(len(mistakes))]
    for path, (right, wrong) in zip(bad, mistakes, strict=True):
        path.write_text(text.replace(right, wrong))
    ours = [ROOT / "template.yaml", ROOT / "template-client.yaml"]
    done = lint(*ours, *bad)  # at once: the linter takes seconds to start
    assert done.returncode != 0
    assert not [path for path in ours if f"{path}:" in done.stdout]
    for path in bad:
        assert f"{path}:" in done.stdout


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
def test_the_sam_cli_accepts_it():
    """That its linter refuses mistakes is tried above, without the CLI's seconds of start."""
    done = validate(ROOT / "template.yaml")
    assert done.returncode == 0, done.stderr
    assert "is a valid SAM Template" in done.stdout


def test_the_function_may_do_what_it_needs_and_nothing_else(template):
    policies = template["Resources"]["Coordinator"]["Properties"]["Policies"]
    secret, key, bucket, topics = policies
    (allowed,) = secret["Statement"]
    assert allowed["Action"] == "secretsmanager:GetSecretValue"
    assert allowed["Resource"] == {"!Ref": "SecretArn"}
    condition, with_key, without = key["!If"]
    assert (condition, without) == ("HasSecretKey", {"!Ref": "AWS::NoValue"})
    (decrypt,) = with_key["Statement"]
    assert (decrypt["Action"], decrypt["Resource"]) == ("kms:Decrypt", {"!Ref": "SecretKeyArn"})
    assert "kms:ViaService" in decrypt["Condition"]["StringEquals"]  # for the secret alone
    condition, with_bucket, without = bucket["!If"]
    assert (condition, without) == ("HasBucket", {"!Ref": "AWS::NoValue"})
    assert [(s["Action"], s["Resource"]) for s in with_bucket["Statement"]] == [
        (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], {"!Sub": "${Weights.Arn}/*"}),
        ("s3:ListBucket", {"!GetAtt": "Weights.Arn"}),
    ]
    (publish,) = topics["!If"][1]["Statement"]
    assert (publish["Action"], publish["Resource"]) == ("sns:Publish", {"!Ref": "WakeTopics"})


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
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert any("NoncurrentVersionExpiration" in rule for rule in rules)  # or deleting frees nothing
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
    assert alarms == {"Errors", "Throttles", "Duration", "5xx", "InvocationAttemptCount"}
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


def test_what_keeps_data_outlives_the_stack_with_what_guards_it(template):
    kept = {
        name
        for name, resource in template["Resources"].items()
        if resource.get("DeletionPolicy") == resource.get("UpdateReplacePolicy") == "Retain"
    }
    assert kept == {"Weights", "WeightsOverTlsOnly"}


def test_every_alarm_reaches_somebody_and_failing_is_noticed(template):
    alarms = {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"!Ref": "Alarms"}], name
    watched = {(a["Namespace"], a["MetricName"], a["TreatMissingData"]) for a in alarms.values()}
    assert watched == {
        ("AWS/Lambda", "Errors", "notBreaching"),
        ("AWS/Lambda", "Throttles", "notBreaching"),
        ("AWS/Lambda", "Duration", "notBreaching"),
        ("AWS/ApiGateway", "5xx", "notBreaching"),
        ("AWS/Scheduler", "InvocationAttemptCount", "breaching"),  # no tick is no data
    }


def test_a_tick_comes_again_and_is_not_tried_again(template):
    function = template["Resources"]["Coordinator"]["Properties"]
    tick = function["Events"]["Tick"]["Properties"]
    assert tick["RetryPolicy"]["MaximumRetryAttempts"] == 0
    assert function["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_one_address_cannot_take_what_is_there_for_all(template):
    parameters = template["Parameters"]
    variables = template["Resources"]["Coordinator"]["Properties"]["Environment"]["Variables"]
    containers = parameters["ReservedConcurrency"]["Default"]
    assert containers > 0  # else the account's limit is the only one
    of_an_address = parameters["RequestsPerSecondOfAnAddress"]["Default"]
    assert variables["FL_RATE_PER_SECOND"] == {"!Ref": "RequestsPerSecondOfAnAddress"}
    factor = float(variables["FL_RATE_ADDRESS_FACTOR"])
    assert of_an_address * factor * containers < parameters["RequestsPerSecond"]["Default"]
    known = Settings.model_fields
    for name in variables:
        assert name.removeprefix("FL_").lower() in known, name


def test_access_is_logged_without_what_opens_anything(template):
    log = template["Resources"]["Api"]["Properties"]["AccessLogSettings"]
    assert log["DestinationArn"] == {"!GetAtt": "AccessLogs.Arn"}
    line = json.loads(log["Format"])
    assert {"$context.status", "$context.identity.sourceIp"} <= set(line.values())
    for secret in ("header", "authorizer", "query", "protocol"):
        assert secret not in log["Format"].lower()


class NoPolicies:
    def load(self):
        return {}


def transformed(monkeypatch, **parameters):
    """What SAM makes of the template, as CloudFormation gets it."""
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    document = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    function = document["Resources"]["Coordinator"]["Properties"]
    function["ImageUri"] = "1.dkr.ecr.eu-west-1.amazonaws.com/x:1"
    arn = "arn:aws:secretsmanager:eu-west-1:1:secret:x"
    return transform(document, {"SecretArn": arn} | parameters, NoPolicies())


# What CloudFormation takes for a resource's name, by which a second one would collide.
NAMES = {
    *("Name", "FunctionName", "RoleName", "LogGroupName", "AlarmName", "BucketName", "TopicName"),
    *("PolicyName", "ApiName"),
}


def names_of(resources):
    return {
        (name, key): value
        for name, resource in resources.items()
        for key, value in resource.get("Properties", {}).items()
        if key in NAMES
    }


def test_a_second_stack_takes_no_name_of_the_first(monkeypatch):
    made = transformed(monkeypatch)["Resources"]
    assert "AWS::Scheduler::Schedule" in {resource["Type"] for resource in made.values()}
    assert names_of(made)
    assert not [v for v in names_of(made).values() if isinstance(v, str)]  # references alone


# What must stay the same resource through every later version, by its logical id: CloudFormation
# replaces what is called otherwise, which for the bucket means another, empty one.
LASTING = {
    "Coordinator": "AWS::Lambda::Function",
    "CoordinatorRole": "AWS::IAM::Role",
    "CoordinatorTick": "AWS::Scheduler::Schedule",
    "Api": "AWS::ApiGatewayV2::Api",
    "ApiApiGatewayDefaultStage": "AWS::ApiGatewayV2::Stage",
    "Weights": "AWS::S3::Bucket",
    "WeightsOverTlsOnly": "AWS::S3::BucketPolicy",
    "Logs": "AWS::Logs::LogGroup",
}
# The parameters of the first version that was deployed, and what they could be set to.
FIRST_PARAMETERS = {
    "SecretArn": "arn:aws:secretsmanager:eu-west-1:1:secret:x",
    "DatabaseName": "federated_learning",
    "Memory": "1024",
    "Architecture": "arm64",
    "ReservedConcurrency": "0",
    "RequestsPerSecond": "200",
    "WeightsBucket": "create",
    "LogRetentionDays": "30",
}


def test_an_upgrade_keeps_what_there_is_and_asks_for_nothing(monkeypatch):
    made = transformed(monkeypatch, **FIRST_PARAMETERS)
    found = {name: made["Resources"].get(name, {}).get("Type") for name in LASTING}
    assert found == LASTING
    assert set(FIRST_PARAMETERS) <= set(made["Parameters"])  # an old command still works
    for name, parameter in made["Parameters"].items():
        assert name == "SecretArn" or "Default" in parameter, name
        if "AllowedValues" in parameter and name in FIRST_PARAMETERS:
            assert FIRST_PARAMETERS[name] in [str(v) for v in parameter["AllowedValues"]]


def test_a_rollback_finds_what_it_needs(monkeypatch):
    """Whatever a version adds may be deleted again: no lasting resource hangs on it, and what is
    retained has no name that would be taken when it is made again.
    """
    made = transformed(monkeypatch)["Resources"]
    added = set(made) - set(LASTING)
    for name in ("Weights", "WeightsOverTlsOnly", "Logs", "CoordinatorRole"):
        needs = {other for other in added if f"'{other}'" in str(made[name])}
        assert needs == set(), (name, needs)
    retained = {n for n, r in made.items() if r.get("DeletionPolicy") == "Retain"}
    assert not [place for place in names_of(made) if place[0] in retained]


def test_the_same_image_is_a_helper_by_a_parameter(template):
    variables = template["Resources"]["Coordinator"]["Properties"]["Environment"]["Variables"]
    parameters = template["Parameters"]
    default = {
        name: str(parameters[variables[name]["!Ref"]]["Default"])
        for name in ("FL_ROLE", "FL_HELPER_URL", "FL_HELPER_FEWEST")
    }
    made = read_settings(default)
    assert (made.role, made.helper_url, made.helper_fewest) == ("coordinator", None, 3)
    assert parameters["Role"]["AllowedValues"] == ["coordinator", "helper"]
    assert read_settings(default | {"FL_ROLE": "helper"}).role == "helper"
