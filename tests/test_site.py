"""The documents' site: its navigation, its links and anchors, and the hook that brings pages in."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from tests.support.some import some

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_of_the_documents_is_in_the_navigation(pages):
    listed = [
        place
        for part in CONFIG["nav"]
        for item in next(iter(part.values()))
        for place in item.values()
    ]
    assert len(set(listed)) == len(listed)
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    others = {place for name, place in pages.FILES.items() if name.endswith(".md")}
    assert set(listed) == written | others | {pages.DECISIONS}
    for name in some(pages.FILES):
        assert (ROOT / name).is_file()


def test_no_link_and_no_anchor_of_the_site_leads_nowhere(tmp_path, caplog):
    """As `make docs`, but without Material's theme, whose 16,000 files nothing here needs."""
    build = pytest.importorskip("mkdocs.commands.build")
    from mkdocs.config import load_config

    theme = tmp_path / "theme"
    theme.mkdir()
    (theme / "main.html").write_text("{{ page.content }}")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        theme={"name": None, "custom_dir": str(theme), "locale": "en"},
        plugins=[],
        site_dir=str(tmp_path / "site"),
    )
    build.build(config)
    assert [record.getMessage() for record in caplog.records if record.levelno > 20] == []
    assert (tmp_path / "site/index.pt.html").is_file()


@pytest.mark.parametrize(
    ("here", "written", "shown"),
    [
        ("index.md", "[a](docs/runs.md)", "[a](runs.md)"),
        ("index.md", "[docs/runs.md](docs/runs.md)", "[Your own run](runs.md)"),
        ("runs.md", "[data.md](data.md#x)", "[Your own pictures](data.md#x)"),
        ("index.md", "![a](docs/run.svg)", "![a](run.svg)"),
        ("index.md", "[a](docs/decisions)", "[a](decisions/index.md)"),
        ("examples.md", "[a](../docs/data.md#x)", "[a](data.md#x)"),
        ("privacy.md", "[S](../SECURITY.md)", "[S](security.md)"),
        ("decisions/0009-a.md", "[a](../runs.md)", "[a](../runs.md)"),
        ("decisions/0009-a.md", "[a](../../README.md#why)", "[a](../index.md#why)"),
        ("own-model.md", "[one](../examples/lora.py)", "one (`examples/lora.py`)"),
        ("index.md", "[`app/main.py`](app/main.py)", "`app/main.py`"),
        ("index.md", "[a](https://example.org/docs/runs.md)", None),
        ("runs.md", "[a](#below)", None),
    ],
)
def test_a_link_leads_to_the_place_on_the_site(pages, here, written, shown):
    found = pages.LINK.sub(lambda link: pages.led(link, here), written)
    assert found == (written if shown is None else shown)


def test_a_list_is_parted_from_its_paragraph_and_code_stays(pages):
    assert pages.parted("Two:\n- a\n  more of a\n- b\nafter") == (
        "Two:\n\n- a\n  more of a\n- b\nafter"
    )
    code = "```\n[a](docs/runs.md)\nx:\n- a\n```"
    page = type("Page", (), {"file": type("File", (), {"src_uri": "index.md"})})
    assert pages.on_page_markdown(code, page, None, None) == code


def test_a_script_of_others_is_as_its_package_had_it():
    """`shim/index.js` of iframe-worker 1.0.4 (MIT), with which the search works from the disk."""
    assert CONFIG["extra"]["polyfills"] == ["assets/iframe-worker.js"]
    script = (ROOT / "docs/assets/iframe-worker.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == (
        "e8e412dbcfea9b7e31b5ffa288d7b6035915e714c542f4176a0cdbe262fc9609"
    )
    assert (ROOT / "docs/assets/iframe-worker.LICENSE").is_file()


def test_what_the_site_is_made_with_is_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in ("mkdocs", "mkdocs-material", "pymdown-extensions", "Markdown", "Jinja2"):
        assert re.search(rf"^{name}==", pins, re.MULTILINE), name
