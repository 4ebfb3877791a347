"""docs/error-codes.md has every code that the coordinator's sources have, with its status."""

from __future__ import annotations

import re
from pathlib import Path

from app.api.edge.errors import STATUS
from serverless_fl.domain import errors

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (`[a-z`, -]+`) \| ([^|]+) \|", re.MULTILINE)
PAGE = ROW.findall((ROOT / "docs" / "error-codes.md").read_text(encoding="utf-8"))
SOURCES = [
    path.read_text(encoding="utf-8")
    for package in ("app", "serverless_fl")
    for path in (ROOT / package).rglob("*.py")
]
CODE = re.compile(r'code="([a-z-]+)"|\(\s*[45]\d\d,\s*"([a-z-]+)"|^    code = "([a-z-]+)"', re.M)


def test_each_code_stands_there_once():
    written = [code for codes, _ in PAGE for code in re.findall(r"[a-z-]+", codes)]
    known = {"".join(found) for text in SOURCES for found in CODE.findall(text)}
    assert sorted(written) == sorted(known - {errors.CoordinatorError.code})


def test_the_statuses_are_those_of_the_table():
    statuses = {code: status for codes, status in PAGE for code in re.findall(r"[a-z-]+", codes)}
    for error in vars(errors).values():
        if isinstance(error, type) and "code" in vars(error):
            known = [STATUS[base] for base in error.__mro__ if base in STATUS]
            if known:
                assert statuses[error.code] == str(known[0]), error.code
