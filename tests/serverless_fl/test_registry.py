"""What a registry takes of a module."""

import pytest

from serverless_fl.registry import registered
from serverless_fl.schedule import SCHEDULES
from serverless_fl.schedule.schedule import Schedule


def test_the_classes_come_in_the_order_of_the_names():
    package = "serverless_fl.schedule"
    assert registered(Schedule, package, "synchronous", "buffered") == SCHEDULES
    assert registered(Schedule, package, "buffered", "synchronous") == SCHEDULES[::-1]


def test_a_module_defines_one_class_and_other_modules_classes_do_not_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "toys"
    package.mkdir()
    borrowed = "from serverless_fl.schedule.schedule import Schedule\n"
    for name, text in {
        "one": "class One(Schedule): ...\nclass _Helper(Schedule): ...\nclass Other: ...",
        "two": "class One(Schedule): ...\nclass Two(Schedule): ...",
        "none": "",
    }.items():
        (package / f"{name}.py").write_text(borrowed + text, encoding="utf-8")
    (found,) = registered(Schedule, "toys", "one")
    assert found.__name__ == "One"
    with pytest.raises(TypeError, match=r"toys.two defines one public .* Schedule, not One, Two"):
        registered(Schedule, "toys", "two")
    with pytest.raises(TypeError, match="not none"):
        registered(Schedule, "toys", "none")
