"""Which changes `make mutants` leaves out of its score by rule."""

import pytest

from tests.mutants.harmless import harmless


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
