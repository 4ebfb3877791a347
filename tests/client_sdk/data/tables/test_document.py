"""docs/data.md on tables: its example runs, and its lists are the code's."""

import re
from pathlib import Path

from client_sdk.data.splits import SPLITS
from client_sdk.data.tables.words import MISSING

PAGE = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = "age;icd;patient;diagnosis\n61,5;250;P1;sick\n?;V57;P2;well\n"
    Path("hospital.csv").write_text(rows)
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], {})
    assert capsys.readouterr().out == "2\n('age', 'icd')\n('sick', 'well')\n"


def test_the_words_for_missing_values_are_named():
    row = next(line for line in PAGE.splitlines() if line.startswith("| an empty cell"))
    told = {word.lower() for word in re.findall(r"`([^`]+)`", row)}
    assert told | {"", "#n/a", "nat", "<na>"} == MISSING


def test_each_split_is_named_with_its_flags():
    rows = {
        found[1]: line for line in PAGE.splitlines() if (found := re.match(r"\| `([a-z-]+)", line))
    }
    for split in SPLITS:
        fields = split.model_fields
        row = rows[fields["name"].default]
        assert all(f"--{n.replace('_', '-')} " in row for n in fields if n != "name")
