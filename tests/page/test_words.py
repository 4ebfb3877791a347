"""The page's own words: each goes through the dictionary, and the dictionary has no others."""

from __future__ import annotations

import re

from app.api.routes.assets import FOLDER
from tests.support.some import some

MODULES = sorted(FOLDER.glob("js/*.js"))
DICTIONARY = FOLDER / "js/words.pt.js"
VALUE = r"\$\{((?:`[^`]*`|\{[^{}]*\}|[^{}`])*)\}"  # in a template
TOKEN = re.compile(
    rf"""
    (?P<comment> //[^\n]* | /\*.*?\*/ )
  | (?P<string>  "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<template> `(?:\\.|{VALUE.replace("((", "(?:(")}|(?!\$\{{)[^`\\])*` )
  | (?P<regex>   (?<=[(,=:\[!&|?;{{]) \s* /(?![*/])
                 (?: \\. | \[(?:\\.|[^\]\\\n])*\] | [^/\\\[\n] )+ / [a-z]* )
  | (?P<call>    \b(?:t|plural)\( )
  | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
# Texts for programs that look like words, such as keys of a keyboard and headers.
NOT_WORDS = {
    *("ArrowLeft", "ArrowRight", "Home", "End", "Escape", "AbortError", "Infinity"),
    *("Authorization", "Bearer {}", "Content-Type", "Idempotency-Key", "Range", "Retry-After"),
    *("KiB", "MiB", "GiB", "TiB", "header nav", "too short", "initial weights"),
    *("A seed's text has at most 128 bytes.", "python3 -m venv .venv && .venv/bin/pip install {}"),
    ".venv/bin/serverless-fl export --model FILE --out model.onnx",
    ".venv/bin/serverless-fl export --model FILE --task MODULE:NAME --like INPUTS --out model.onnx",
    *("END OF THE CERTIFICATE", "cat > {} <<'END OF THE CERTIFICATE'"),
}
NUMBER = re.compile(r"\{(\w+)\}")


def tokens(text: str) -> list[tuple[str, str]]:
    """The tokens of a module, with texts that a plus joins as one."""
    found: list[tuple[str, str]] = []
    for match in TOKEN.finditer(text):
        kind, value = match.lastgroup, match[0]
        if kind == "comment" or not value.strip():
            continue
        if kind == "template":  # what a value brings is no word of the page
            for inner in re.findall(VALUE, value):
                found += [("other", "${"), *tokens(inner), ("other", "}")]
            value = re.sub(VALUE, "{}", value)
        if kind in ("string", "template"):
            value = value[1:-1].replace('\\"', '"').replace("\\n", "\n")
        if (
            kind == "string"
            and [part for _, part in found[-1:]] == ["+"]
            and found[-2:][0][0] == "string"
        ):
            found[-2:] = [("string", found[-2][1] + value)]
        else:
            found.append((kind, value))
    return found


def words_of(text: str) -> tuple[set[str], set[str]]:
    """A module's texts: those that it gives to the dictionary, and all others."""
    given, others = set(), set()
    within: list[str] = []  # the brackets that are open, "t" for a call that translates
    for kind, value in tokens(text):
        if kind == "call" or value in ("(", "[", "{", "${"):
            within.append("t" if kind == "call" else value)
        elif value in (")", "]", "}"):
            within.pop()
        elif kind in ("string", "template"):
            (given if within[-1:] == ["t"] else others).add(value)
    return given, others


def dictionary() -> dict[str, str]:
    texts = [value for kind, value in tokens(DICTIONARY.read_text("utf-8")) if kind == "string"]
    assert len(texts) % 2 == 0
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    assert 2 * len(found) == len(texts), "a text stands twice"
    return found


def test_every_word_has_its_translation_and_every_translation_its_word():
    given = set()
    for path in some(MODULES):
        if path not in (DICTIONARY, FOLDER / "js/words.js"):
            given |= words_of(path.read_text("utf-8"))[0]
    page = (FOLDER / "index.html").read_text("utf-8")
    given |= set(re.findall(r"data-words>([^<]+)<", page))
    assert set(dictionary()) == given


def test_a_translation_has_the_values_of_its_word():
    for text, translated in some(sorted(dictionary().items())):
        assert sorted(NUMBER.findall(text)) == sorted(NUMBER.findall(translated)), text
        assert translated


def test_no_words_go_past_the_dictionary():
    words = re.compile(r"^[A-Z★][a-z]|[A-Za-z’,.]{2,} [a-z]{2,}|^[a-z]+ \{\}")
    for path in some(MODULES):
        others = words_of(path.read_text("utf-8"))[1]
        found = {text for text in others if words.search(text)} - NOT_WORDS
        assert path == DICTIONARY or not found, path.name
    page = (FOLDER / "index.html").read_text("utf-8").partition("<noscript>")[0]
    texts = re.findall(r"<(?!title|noscript)([^>]*)>([^<]*\w[^<]*)<", page)
    assert [text for tag, text in texts if "data-words" not in tag] == ["API", "Log in"]


def test_the_check_sees_words_where_they_stand():
    module = """
    // It's a "comment".
    const a = t("one " + "text", { n: word("Not given") }); /* "none" */
    const b = /["'`]/.test(a) ? plural(n, "{n} day", "{n} days") : `Model ${t("of")} ${n}`;
    """
    given, others = words_of(module)
    assert given == {"one text", "{n} day", "{n} days", "of"}
    assert others == {"Not given", "Model {} {}"}
