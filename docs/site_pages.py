"""A hook of MkDocs: brings pages from outside docs/ into the site, and leads links there.

On the site the README is the front page. A link to a file that the site does not have, such as a
module, becomes its path.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Files outside docs/, and what they are called on the site.
FILES = {
    "README.md": "index.md",
    "README.pt.md": "index.pt.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
    "examples/README.md": "examples.md",
    "benchmarks/RESULTS.md": "results.md",
    "app/static/icon.svg": "icon.svg",
    **{
        path.relative_to(ROOT).as_posix(): f"results/{path.name}"
        for path in sorted(ROOT.glob("benchmarks/results/*.png"))
    },
}
PLACES = {place: name for name, place in FILES.items()}
DECISIONS = "decisions/index.md"
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> None:
    """Have headings the anchors that they have on GitHub."""
    from pymdownx.slugs import slugify

    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")


def on_files(files: Any, config: Any) -> None:
    """Add the files from outside docs/, and the list of decisions."""
    from mkdocs.structure.files import File

    for name, place in FILES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, DECISIONS, content=decisions()))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links and part the lists, outside blocks of code."""
    parts = FENCE.split(markdown)
    here = page.file.src_uri
    return "".join(
        part if n % 2 else parted(LINK.sub(lambda link: led(link, here), part))
        for n, part in enumerate(parts)
    )


def parted(text: str) -> str:
    """Put an empty line before a list that follows a paragraph at once.

    GitHub needs none there, but Python's Markdown does.
    """
    lines: list[str] = []
    in_paragraph = False
    for line in text.split("\n"):
        item = ITEM.match(line) is not None
        if item and in_paragraph:
            lines.append("")
        lines.append(line)
        in_paragraph = bool(line.strip()) and not item and not line.startswith(("#", "|", "<", " "))
    return "\n".join(lines)


def led(link: re.Match[str], here: str) -> str:
    """Give a link of the page `here` as it has to be on the site."""
    image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(here)), target))
    place = place_of(name)
    if place is None:
        return text if text.strip("`") == name else f"{text} (`{name}`)"
    if text.endswith(".md") and text in (target, name):  # on a site a page has no file's name
        text = (ROOT / name).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"


def source_of(place: str) -> str:
    """Give the path in the repository of a page of the site."""
    return PLACES.get(place, f"docs/{place}")


def place_of(name: str) -> str | None:
    """Give the place on the site of a path in the repository; None if it is not there."""
    if name in FILES:
        return FILES[name]
    if name == "docs/decisions":
        return DECISIONS
    inside = name.startswith("docs/") and (ROOT / name).is_file()
    return name.removeprefix("docs/") if inside else None


def decisions() -> str:
    """Write the page that lists the decisions."""
    lines = [
        "# Decisions",
        "",
        "Why things are as they are, in the order in which it was decided.",
        "",
    ]
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"
