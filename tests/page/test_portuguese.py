"""The page in a browser that asks for Portuguese: words, numbers, dates."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.page.test_words import dictionary
from tests.support.browser import PHONE, axe, no_sideways_scroll
from tests.support.played import played
from tests.support.processes import KEY

SHOWN = """() => [...document.querySelectorAll("body, body *")].flatMap((node) => {
  if (node.closest("[lang=en], code, script, noscript, .hidden")) return [];
  const own = [...node.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE);
  const told = ["aria-label", "placeholder", "title"].map((name) => node.getAttribute(name) ?? "");
  return [...own.map((one) => one.textContent), ...told].map((one) => one.trim()).filter(Boolean);
})"""
NEVER = {text for text, translated in dictionary().items() if text != translated}


def english(page) -> set[str]:
    """The words of the page that stand there in English."""
    return set(page.evaluate(SHOWN)) & NEVER


def test_an_experiment_is_created_and_watched_in_portuguese(server, http, open_page):
    def rate(number, client):
        return {"accuracy_before": 0.3 * number, "loss_before": 1 / number}

    experiment = played(http, "dígitos", rate, model="digits-cnn", dataset="digits")
    page = open_page(locale="pt-BR", **PHONE).page
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Experimentos")).to_be_visible()
    assert page.evaluate("[document.documentElement.lang, document.title]") == [
        *("pt", "Aprendizado federado"),
    ]
    expect(page.get_by_role("row", name="dígitos")).to_contain_text("Acurácia, melhor, modelo 2")
    expect(page.get_by_role("row", name="dígitos")).to_contain_text("90,0%")
    assert english(page) == set()
    page.get_by_role("button", name="Entrar").click()
    page.get_by_label("Chave ou token").fill(KEY)
    page.get_by_role("dialog").get_by_role("button", name="Entrar").click()
    page.get_by_role("link", name="dígitos").click()
    expect(page.get_by_role("heading", name="Acurácia por rodada")).to_be_visible()
    expect(page.locator(".tiles")).to_contain_text("US$ 0,0")
    expect(page.get_by_text(re.compile(r"criado em \d+ de \w+\.? de \d{4}"))).to_be_visible()
    expect(page.get_by_role("button", name="Baixar o modelo 3")).to_be_visible()
    assert (english(page), axe(page), no_sideways_scroll(page)) == (set(), [], True)
    page.goto(f"{server.url}/#/compare/{experiment}")
    expect(page.locator(".legend li")).to_have_count(1)
    assert english(page) == set()
    page.goto(f"{server.url}/#/new")
    page.get_by_label("o que se aprende").select_option("digits")
    page.get_by_text("Mais configurações").click()
    assert (english(page), axe(page), no_sideways_scroll(page)) == (set(), [], True)
    page.get_by_role("button", name="Criar experimento").click()
    expect(page.get_by_role("heading", name="Participar")).to_be_visible()
    expect(page.locator(".command code")).to_contain_text("FL_ENROL_KEY=enrol")
    expect(page.locator(".tiles")).to_contain_text("0 de 20")
    assert (english(page), axe(page)) == (set(), [])


def test_a_language_that_the_page_does_not_have_gets_english_words_and_its_own_numbers(
    server, http, open_page
):
    played(http, "half", lambda number, client: {"accuracy_before": 0.5}, rounds=1)
    page = open_page(locale="de-DE").page
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    expect(page.get_by_role("row", name="half")).to_contain_text(re.compile(r"50,0\s%"))
