"""Documents name files, modules and pages of this repository: each of them must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "README.pt.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TREES = "app|benchmarks|client_sdk|deploy|docker|docs|examples|serverless_fl|tests"
PATH = re.compile(rf"(?<![\w./-])(?:{TREES})/[\w./*-]*[\w*/]")
MODULE = re.compile(rf"(?:`|-m )((?:{TREES})(?:\.\w+)+)")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
DECISION = re.compile(r"docs/decisions/(\d{4})(?!\d|-)")


def is_path(name: str) -> bool:
    """Say whether a path of the repository exists; `*` stands for any name, as in a shell."""
    return any(ROOT.glob(name)) if "*" in name else (ROOT / name).exists()


def is_module(name: str) -> bool:
    """Say whether a dotted name is a module, or a name in the text of a module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:length])
        file = (
            base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        )
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            return all(re.search(rf"\b{part}\b", text) for part in parts[length:])
    return False


def missing(text: str, folder: Path) -> list[str]:
    """Give the paths, modules, links and decisions in a text that do not exist."""
    return [
        *(
            path
            for path in PATH.findall(text)
            if not DECISION.fullmatch(path) and not is_path(path)
        ),
        *(name for name in MODULE.findall(text) if not is_module(name) and not is_file_name(name)),
        *(link for link in LINK.findall(text) if not (folder / link).exists()),
        *(
            f"decision {number}"
            for number in DECISION.findall(text)
            if not any((ROOT / "docs" / "decisions").glob(f"{number}-*.md"))
        ),
    ]


def is_file_name(name: str) -> bool:
    """Say whether the name is a file beside the user, such as `app.py`."""
    return name.endswith(".py")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_exists(page):
    assert missing(page.read_text(encoding="utf-8"), page.parent) == []


@pytest.mark.parametrize("tree", TREES.split("|"))
def test_comments_and_docstrings_name_decisions_that_exist(tree):
    for file in sorted((ROOT / tree).rglob("*.py")):
        if file != Path(__file__):
            for number in DECISION.findall(file.read_text(encoding="utf-8")):
                assert any((ROOT / "docs" / "decisions").glob(f"{number}-*.md")), file


def test_missing_names_are_found():
    text = "`app/gone.py` `app.gone` -m app.main `app.main.create_app` `app.main.gone`"
    assert missing(text, ROOT) == ["app/gone.py", "app.gone", "app.main.gone"]
    assert missing("[a](gone.md) [b](README.md#c) `app/*.py`", ROOT) == ["gone.md"]
    assert missing("docs/decisions/0001 docs/decisions/9999", ROOT) == ["decision 9999"]
