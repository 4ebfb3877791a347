"""What names, texts and numbers of bodies may be: bad ones are refused where they are read."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from serverless_fl.wire import agreement, bounds, parts, schema, turns, views
from serverless_fl.wire.text import LONGEST, clean
from tests.support.federation import config
from tests.support.plain_http import bearer

CONTROLS = [
    "\x00", "\x07", "\x08", "\x1b[2J", "\x1b]0;title\x07", "\x7f", "\x9b31m", "\u202e", "\u2066",
    "\u200f", "\u061c", "two\nlines", "a\rb", "tab\there", "\u2028",
]  # fmt: skip


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_what_is_shown_holds_no_control_character(control):
    shown = clean(f"a{control}z")
    assert shown[0] == "a"
    assert shown[-1] == "z"
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066\u200f" for c in shown)


def test_other_scripts_and_signs_are_shown_as_they_are():
    for text in ("St. Mary's, radiology", "клиника №3", "病院", "مستشفى", "👩‍⚕️ 5 µm", "[red]"):
        assert clean(text) == text


def test_what_no_output_can_encode_is_not_shown():
    clean(json.loads('"a\\ud800z"')).encode()


def test_endless_text_is_cut():
    assert len(clean("x" * 10**6)) == LONGEST
    assert len(clean("\x1b" * 10**6)) == 0


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
async def test_a_name_with_control_characters_is_refused(federation, control):
    name = f"a{control}z"
    api = federation.http
    headers = {"Authorization": "Bearer an-admin-key-for-tests", "Idempotency-Key": "k" * 20}
    settings = config().model_dump()
    for body in (
        {"name": name, "config": settings},
        {"name": "x", "config": {**settings, "dataset": name}},
        {"name": "x", "config": {**settings, "model": name}},
    ):
        answer = await api.post("/v1/experiments", json=body, headers=headers)
        assert answer.status_code == 422
        assert "control characters" in answer.text
    experiment, key = await federation.create()
    answer = await api.post(
        f"/v1/experiments/{experiment}/clients",
        json={"client_key": "k" * 40, "name": name},
        headers=bearer(key),
    )
    assert answer.status_code == 422


TRAIN = {
    "action": "train",
    "round": 1,
    "attempt": 1,
    "base_version": 0,
    "model": {"sha256": "a1" * 32, "size": 100},
    "deadline": "2026-11-24T10:15:00Z",
    "seconds_left": 10.0,
    "training": {
        "local_epochs": 1,
        "batch_size": 10,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "seed": 1,
    },
    "part_bytes": 1000,
    "max_update_bytes": 1000,
}
WAIT = {"action": "wait", "round": 1, "retry_after": 1.0, "message": "", "hold": 20}
DONE = {"action": "done", "state": "completed", "reason": "", "model_version": 3}
SHARD = {"client_id": "client-07", "dataset": "toy", "dataset_size": 4, "indices": [1, 2]}
ENROLLED = {"client_id": "client-07", "token": "7.tok_x", "shard_size": 2}
SCALE = {"column": "age", "mean": 1.0, "deviation": 2.0, "count": 3}
TERMS = {"max_examples": 9, "facts": {}, "normalise": ["age"], "sums_due": False, "scales": []}
PART = {"number": 0, "sha256": "a1" * 32, "size": 5, "url": "https://x/y"}
STATUS = TypeAdapter(turns.RoundStatus)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "good", "field", "bad"),
    [
        (STATUS, TRAIN, ("training", "local_epochs"), [0, -1, 10**9, 2**70, NAN, "x", None]),
        (STATUS, TRAIN, ("training", "batch_size"), [0, -1, -176, -(2**62), 2**63, NAN, []]),
        (STATUS, TRAIN, ("training", "learning_rate"), [0, -1, 1e300, NAN, INF]),
        (STATUS, TRAIN, ("training", "momentum"), [-0.1, 1, 1e300, NAN, -INF]),
        (STATUS, TRAIN, ("training", "weight_decay"), [-0.1, 11, 1e300, NAN, INF]),
        (STATUS, TRAIN, ("training", "seed"), [-1, 2**63]),
        (STATUS, TRAIN, ("round",), [-1, 10**7, 1.5]),
        (STATUS, TRAIN, ("attempt",), [-1, 10**7]),
        (STATUS, TRAIN, ("base_version",), [-1, 10**7]),
        (STATUS, TRAIN, ("model", "size"), [-1, 2**60]),
        (STATUS, TRAIN, ("model", "sha256"), ["", "../../x", "A1" * 32, "a1" * 33]),
        (STATUS, TRAIN, ("seconds_left",), [-1, NAN, INF, 1e308]),
        (STATUS, TRAIN, ("part_bytes",), [0, -1, 2**40]),
        (STATUS, TRAIN, ("max_update_bytes",), [-1, 2**60]),
        (STATUS, TRAIN, ("content_codings",), [["gzip"] * 17]),
        (STATUS, WAIT, ("round",), [-1, 10**7]),
        (STATUS, WAIT, ("retry_after",), [-1, NAN, INF, 1e308]),
        (STATUS, WAIT, ("hold",), [-1, NAN, INF, 1e308]),
        (STATUS, DONE, ("model_version",), [-1, 10**7]),
        (TypeAdapter(schema.Shard), SHARD, ("indices",), [[]]),
        (TypeAdapter(schema.Shard), SHARD, ("dataset_size",), [0, 10**12]),
        (TypeAdapter(schema.Shard), SHARD, ("client_id",), ["", "client-07\x1b", "client-../x"]),
        (TypeAdapter(schema.Subscription), ENROLLED, ("shard_size",), [0, -1, 10**12]),
        (TypeAdapter(schema.Subscription), ENROLLED, ("token",), ["", "a b", "a\r\nX: y", "ü"]),
        (TypeAdapter(agreement.ScaleView), SCALE, ("mean",), [NAN, INF, "x"]),
        (TypeAdapter(agreement.ScaleView), SCALE, ("deviation",), [0, -1, NAN, INF]),
        (TypeAdapter(agreement.ScaleView), SCALE, ("column",), ["", "a\x1b[2J", "x" * 10**4]),
        (TypeAdapter(agreement.AgreementView), TERMS, ("max_examples",), [0, 10**12]),
        (TypeAdapter(agreement.AgreementView), TERMS, ("normalise",), [["x"] * 501, ["\u202e"]]),
        (TypeAdapter(agreement.AgreementView), TERMS, ("scales",), [[SCALE] * 501]),
        (
            TypeAdapter(agreement.AgreementView),
            TERMS,
            ("facts",),
            [{"a": "\x1b"}, {"a": "x" * 10**4}, {str(n): "" for n in range(1001)}],
        ),
        (TypeAdapter(views.ModelPart), PART, ("number",), [-1, bounds.MAX_PARTS]),
        (TypeAdapter(views.ModelPart), PART, ("size",), [-1, 2**60]),
        (TypeAdapter(views.ModelPart), PART, ("url",), ["", "https://x/\r\ny", "h" * 9000]),
        (
            TypeAdapter(parts.PartPlan),
            {"number": 0, "stored": False},
            ("number",),
            [-1, bounds.MAX_PARTS],
        ),
    ],
)
def test_a_number_beyond_what_it_may_be_makes_an_answer_none(kind, good, field, bad):
    kind.validate_json(json.dumps(good))
    for value in bad:
        answer = json.loads(json.dumps(good))
        inner = answer
        for name in field[:-1]:
            inner = inner[name]
        inner[field[-1]] = value
        with pytest.raises(ValidationError):
            kind.validate_json(json.dumps(answer))


def test_texts_of_answers_are_clean_when_they_are_read():
    escape = "\x1b[2J\x1b]0;owned\x07\u202eword"
    found = STATUS.validate_json(json.dumps({**DONE, "reason": escape}))
    assert found.reason == "[2J]0;ownedword"
    found = STATUS.validate_json(json.dumps({**WAIT, "message": "x" * 10**5}))
    assert len(found.message) == LONGEST
    problem = {"title": escape, "status": 409, "code": escape, "detail": escape}
    found = schema.Problem.model_validate_json(json.dumps(problem))
    assert {found.title, found.code, found.detail} == {"[2J]0;ownedword"}
