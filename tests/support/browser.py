"""Debian's Chromium under Playwright, cut off from everything but this machine."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.processes import KEY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ),
    # Each process and thread more takes time to start, and pages are small.
    *("--in-process-gpu", "--num-raster-threads=1"),
    "--disable-features=SpareRendererForSitePerProcess",
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]",
]
expect.set_options(timeout=30_000)  # a busy machine is no failure
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page, with what went wrong on it: errors, refused contents, requests to elsewhere."""

    def __init__(self, context: BrowserContext) -> None:
        self.faults: list[str] = []
        # To handle each request here would take longer than to answer it, and FLAGS keep it here.
        context.on("request", self._requested)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._console)

    def _requested(self, request) -> None:
        to = urlsplit(request.url)
        if to.scheme not in ("data", "blob") and to.hostname not in LOOPBACK:
            self.faults.append(f"asked elsewhere: {request.url}")

    def _console(self, message) -> None:
        # A status that the page asks for and deals with is logged by Chromium all the same.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")


@cache
def _axe_core() -> str:
    spec = importlib.util.find_spec("axe_playwright_python")
    folder = Path(spec.submodule_search_locations[0])
    return (folder / "axe.min.js").read_text(encoding="utf-8")


def axe(page) -> list[tuple[str, list[str]]]:
    """axe-core's serious and critical findings: rule and elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe_core())
    # To describe the many elements that pass takes most of its time.
    wanted = {"resultTypes": ["violations"], "selectors": False}
    found = page.evaluate("wanted => axe.run(document, wanted)", wanted)["violations"]
    return [
        (v["id"], [n["html"] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def give_key(page, key: str = KEY) -> None:
    """Log in with a key: the admin's, unless another one is given."""
    page.get_by_role("banner").get_by_role("button", name="Log in").click()
    page.get_by_label("Key or token").fill(key)
    page.get_by_role("dialog").get_by_role("button", name="Log in").click()


def log_out(page, name: str = "admin") -> None:
    page.get_by_role("button", name=f"Logged in as {name}").click()
    page.get_by_role("button", name="Log out").click()


def no_sideways_scroll(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def recipe(page) -> tuple[str, list[str]]:
    """The enrolment key and the words of ``join`` that the page tells a party to type."""
    shown = page.locator(".command code")
    expect(shown).to_contain_text("FL_ENROL_KEY=enrol")  # the page asks for the key first
    key, rest = re.search(
        r"FL_ENROL_KEY=(\S+) \S+serverless-fl (join .*)", shown.inner_text()
    ).groups()
    return key, shlex.split(rest)
