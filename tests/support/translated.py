"""The parts of a Markdown page that a translation leaves as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = re.compile(r"^\[(English|Português)\]\(.*\)$", re.MULTILINE)


@dataclass
class Page:
    """The parts of a page that a translation leaves as they are."""

    headings: list[str]
    code: list[str]
    tables: list[int]
    figures: list[list[str]]
    links: list[str]
    inline: set[str]
    items: int


def read(text: str) -> Page:
    prose = LANGUAGES.sub("", FENCE.sub("", text))
    rows = "\n".join(line if line.startswith("|") else "" for line in prose.splitlines())
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", rows, re.MULTILINE)]
    return Page(
        headings=re.findall(r"^(#+) ", prose, re.MULTILINE),
        code=FENCE.findall(text),
        tables=[len(table) for table in tables],
        figures=[sorted(re.findall(r"\d+", line)) for table in tables for line in table],
        links=[of_english(link) for link in re.findall(r"\]\(([^)]+)\)", prose)],
        inline={" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)},
        items=len(re.findall(r"^- ", prose, re.MULTILINE)),
    )


def of_english(link: str) -> str:
    """Give a link to a translated page as one to the English page, whose headings it has not."""
    return re.sub(r"\.pt\.md(#.*)?$", ".md", link)
