"""Every command of the SDK that a document shows is one that its parser takes, option by option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from client_sdk.cli.arguments import make_parser
from tests.support.some import some

ROOT = Path(__file__).parents[1]
# extending.md adds settings of its own, and has a test that runs it.
PAGES = [
    *ROOT.glob("*.md"),
    *(page for page in ROOT.glob("docs/**/*.md") if page.stem != "extending"),
    ROOT / "examples/README.md",
]
FENCE = re.compile(r"^ *```[a-z]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?:^|[ ;&(])(?:\S*serverless-fl|\S*python3? -m client_sdk)((?: .*)?)$")
END = re.compile(r" (?:[&|;]|>>?|2>)|\)\"")  # where the shell takes over


REST = {
    "create": ["--server", "https://coordinator.example", "--clients", "3"],
    "join": ["--server", "https://coordinator.example", "--experiment", "ID"],
}


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                if call := CALL.search(re.sub(r"\s#\s.*", "", line)):
                    found.append((page.name, END.split(call[1])[0].strip()))
    return some(sorted(set(found)))


@pytest.fixture(scope="module")
def parser():
    return make_parser()


@pytest.mark.parametrize(("page", "command"), commands())
def test_the_parser_takes_it(page, command, parser, capsys):
    filled = re.sub(r'\bURL\b|"\$\(.*', "https://coordinator.example", command)
    words = shlex.split(re.sub(r"\bFINGERPRINT\b", "a" * 64, filled))
    if not words or words[0].startswith("-"):
        words = ["run", *words]  # as the command line does
    if "..." in words:  # a page shows what is new, and leaves the rest to the reader
        words[words.index("...") : words.index("...") + 1] = REST[words[0]]
    if "--config" in words:  # the parser would read the file
        del words[(at := words.index("--config")) : at + 2]
    try:
        parser.parse_args(words)
    except SystemExit as end:
        assert end.code in (0, None), capsys.readouterr().err
