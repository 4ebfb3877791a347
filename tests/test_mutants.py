"""What `make mutants` changes, and which changes it leaves out of its score by rule."""

import fnmatch
import tomllib
from pathlib import Path

import pytest

from tests.mutants.harmless import harmless

SELECTION = "pytest_add_cli_args_test_selection"


@pytest.mark.parametrize(
    ("old", "new", "left_out"),
    [
        ('Busy("The coordinator stops.")', 'Busy("the coordinator stops.")', True),
        ('Busy("The coordinator stops.")', 'Busy("XXThe coordinator stops.XX")', True),
        ('Busy("The coordinator stops.")', "Busy(None)", False),
        ('Busy("It stops: now", code="a")', 'Busy("It stops: now", code="A")', False),
        ('log_event("update refused")', 'log_event("UPDATE REFUSED")', False),
        ('run("SELECT key FROM a")', 'run("select key from a")', True),
        ('run("SELECT key FROM a")', 'run("XXSELECT key FROM aXX")', False),
        ("zip(a, b, strict=True)", "zip(a, b, strict=False)", True),
        ("zip(a, b, strict=True)", "zip(a, b, )", True),
        ("zip(a, b, strict=True)", "zip(a, strict=True)", False),
        ("a < b", "a <= b", False),
    ],
)
def test_only_changes_that_no_test_should_hold_are_left_out(old, new, left_out):
    assert harmless(f"- {old}\n+ {new}") is left_out


def test_what_the_settings_name_is_there():
    """A file that was moved would be left out of the score, and nobody would see it."""
    root = Path(__file__).parents[1]
    with (root / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["mutmut"]
    sources = [
        str(path.relative_to(root))
        for folder in settings["source_paths"]
        for path in (root / folder).rglob("*.py")
    ]
    for pattern in settings["only_mutate"]:
        assert fnmatch.filter(sources, pattern), pattern
    selection = [path.removeprefix("--ignore=") for path in settings[SELECTION]]
    for path in [*selection, *settings["also_copy"]]:
        assert (root / path).exists(), path
