"""The page in a real browser: every view by mouse and keyboard, at three widths, in both themes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Serving

from harrier_core import Chunking, Encoder, Index, Record

api = pytest.importorskip("playwright.sync_api", reason="the page was not opened: pip install --group page")
axe = pytest.importorskip("axe_playwright_python.base", reason="the page was not checked: pip install --group page")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="the page was not opened: there is no Chromium here"),
]
KEY = "a-key-of-some-length"
WIDTHS, THEMES = (1_400, 800, 360), ("light", "dark")
BUSY = """() => !document.querySelector('main').children.length
    || document.querySelector('main noscript, [aria-busy], .waiting') !== null"""
REPORT = {
    "format": 1,
    "metric": "ndcg@10",
    "provenance": {"model": "tiny", "when": "2026-11-27"},
    "systems": [
        {"name": name, "metrics": {"ndcg@10": {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}}}
        for name, mean in (("default", 0.71), ("no instruction", 0.52))
    ],
    "comparisons": [
        {
            "name": "no instruction",
            "differences": {"ndcg@10": {"mean": -0.19, "low": -0.25, "high": -0.13}},
            "p_corrected": 0.001,
            "significant": True,
            "verdict": "worse than default",
        }
    ],
    "slices": [],
    "notes": ["94 questions tell little"],
    "questions": [{"id": "q1", "text": "why does bread rise"}],
    "changed": [{"question": "q1", "system": "no instruction", "before": 1.0, "after": 0.2}],
}


def records() -> Iterator[Record]:
    for number in range(30):
        yield Record(
            f"notes/{number}", f"Text {number} of bread, yeast and gas.", {"year": 2000 + number, "lang": "en"}
        )
    yield Record("<b>bold</b> & co/ü?#", "<img src=x onerror=alert(1)> bread", {"title": "<script>alert(2)</script>"})
    text = "\n\n".join(f"Paragraph {number} of the long record tells of ovens and of bread." for number in range(40))
    yield Record("long", text, {"source": "javascript:alert(3)", "url": "https://example.org/long"})


@pytest.fixture(scope="module")
def server(folder: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Start a server with two indexes, one of them with words, and a key."""
    own = tmp_path_factory.mktemp("browser")
    (own / "keys").write_text(KEY, encoding="utf-8")
    places = {name: f"pgvector:{own}/index?table={name}" for name in ("docs", "plain")}
    for name, place in places.items():
        words = "&keywords=true" if name == "docs" else ""
        with Index(f"{place}{words}", encoder, chunking=Chunking(tokens=64, overlap=8)) as index:
            index.ingest(records())
    options = [each for name, place in places.items() for each in ("--index", f"{name}={place}")]
    serving = Serving(*options, "--allow-instructions", "--api-key-file", str(own / "keys"), model=folder)
    serving.wait()
    yield serving
    serving.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A tab that records its errors."""

    def __init__(self, context: Any, url: str, *, opened: bool = True) -> None:
        self.wrong: list[str] = []
        self.context, self.url = context, url
        if opened:
            context.add_init_script(f"if (location.host) sessionStorage.setItem('harrier-key', {KEY!r})")
        self.tab = context.new_page()
        self.tab.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.wrong.append(f"dialog {dialog.message}"))

    def open(self, address: str) -> None:
        self.tab.goto("about:blank")
        self.tab.goto(f"{self.url}/{address}")
        self.idle()

    def idle(self) -> None:
        self.tab.wait_for_timeout(100)
        for _ in range(300):
            if not self.tab.evaluate(BUSY):
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError("it does not come to rest")

    def text(self, selector: str) -> str:
        return str(self.tab.locator(selector).first.text_content())

    def check(self) -> None:
        """Check for errors, serious axe findings, and overflow."""
        assert self.wrong == []
        self.tab.evaluate(axe.AXE_FILE_PATH.read_text())
        found = self.tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(each["id"], each["nodes"][0]["target"]) for each in found if each["impact"] in GRAVE] == []
        assert self.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


GRAVE = ("serious", "critical")
NewPage = Callable[..., Page]


@pytest.fixture
def page(browser: Any, server: Serving) -> Iterator[NewPage]:
    contexts = []

    def page(width: int = 1_400, theme: str = "light", *, opened: bool = True) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme))
        return Page(contexts[-1], server.url, opened=opened)

    yield page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_view(page: NewPage, width: int, theme: str, tmp_path: Path) -> None:
    """Each view is tested at each width and in each theme."""
    shown = page(width, theme)
    shown.open("#/?q=bread+and+yeast&index=docs")
    assert shown.tab.locator(".column").count() == 3
    assert shown.tab.locator(".result").count() == 30
    assert shown.tab.locator(".moves path").count() > 5
    assert shown.tab.evaluate("getComputedStyle(document.querySelector('.moves')).display !== 'none'") == (width > 700)
    shown.check()
    shown.open("#/record?index=docs&id=long&chunk=2")
    assert "Near chunk 2" in shown.text(".near")
    shown.check()
    shown.open("#/index?name=docs")
    assert "Healthy" in shown.text(".cards")
    shown.check()
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT), encoding="utf-8")
    shown.open("#/report")
    shown.tab.set_input_files("input[type=file]", str(file))
    shown.tab.wait_for_selector("text=worse than default")
    shown.check()


def test_by_keyboard_alone(page: NewPage) -> None:
    """Keys lead from the question to the results, to a record, and back."""
    shown = page()
    shown.open("")
    keys = shown.tab.keyboard
    keys.type("bread and yeast")
    keys.press("Enter")
    shown.idle()
    for _ in range(60):
        keys.press("Tab")
        if shown.tab.evaluate("document.activeElement.closest('.result') !== null"):
            break
    focused = "document.activeElement.closest('.result')"
    first = shown.tab.evaluate(f"{focused}.querySelector('.rank').textContent")
    keys.press("ArrowDown")
    assert (first, shown.tab.evaluate(f"{focused}.querySelector('.rank').textContent")) == ("1", "2")
    assert shown.tab.locator(".result.pointed").count() >= 1
    keys.press("ArrowRight")
    assert (
        shown.tab.evaluate("document.activeElement.closest('.column').getAttribute('aria-label')") == "web_search_query"
    )
    keys.press("/")
    assert shown.tab.evaluate("document.activeElement.id") == "question"
    shown.tab.locator(".result a").first.focus()
    keys.press("Enter")
    shown.idle()
    assert shown.tab.evaluate("document.activeElement.id") == "main"
    assert shown.tab.title() == "Record · Harrier"
    shown.tab.go_back()
    shown.idle()
    assert shown.tab.input_value("#question") == "bread and yeast"
    assert shown.tab.locator(".result").count() == 30
    shown.check()


def test_columns_filters_and_what_the_model_reads(page: NewPage, encoder: Encoder) -> None:
    shown = page()
    shown.open("#/?q=bread&index=docs")
    tab = shown.tab
    tab.click("text=+ Add a column")
    shown.idle()
    column = tab.locator(".column").nth(3)
    column.locator(".instruction").select_option("own")
    column.locator(".own").fill("Given a question of a baker, retrieve the answer")
    column.locator(".own").press("Tab")
    shown.idle()
    column.locator("summary").click()
    assert column.locator(".prompt").inner_text().startswith("Instruct: Given a question of a baker,")
    tab.locator(".column").nth(1).locator("summary").click()
    assert tab.locator(".column").nth(1).locator(".prompt").inner_text() == encoder.prompt("bread")
    pieces = len(encoder.pieces(encoder.prompt("bread")))
    assert tab.locator(".column").nth(1).locator(".tokens .token").count() == pieces
    tab.click("summary:has-text('Filters')")
    tab.click("text=+ Add a condition")
    shown.idle()
    tab.select_option("[aria-label='Field of filter 1']", "year")
    tab.select_option("[aria-label='Operator of filter 1']", "$lt")
    tab.fill("[aria-label='Value of filter 1']", "2003")
    tab.press("[aria-label='Value of filter 1']", "Tab")
    shown.idle()
    assert [tab.locator(".column").nth(at).locator(".result").count() for at in range(4)] == [3, 3, 3, 3]
    assert json.loads(re.search(r"where=([^&]+)", tab.evaluate("decodeURIComponent(location.hash)"))[1]) == {  # type: ignore[index]
        "year": {"$lt": 2003}
    }
    column.locator("[aria-label='Index of this column']").select_option("plain")
    shown.idle()
    column.locator("[aria-label='Mode']").select_option("hybrid")
    shown.idle()
    assert "harrier keywords" in column.locator(".results").inner_text()  # that index has no words
    shown.wrong = [each for each in shown.wrong if "400" not in each]  # the browser's own line about that answer
    shown.check()


def test_documents_are_text(page: NewPage) -> None:
    """Markup in texts, titles and ids is shown literally, and script URLs are not links."""
    shown = page()
    shown.open("#/?q=bread&index=docs&k=50")
    assert "<script>alert(2)</script>" in shown.text(".columns")
    assert "<img src=x" in shown.text(".columns")
    shown.tab.locator(".result a", has_text="<script>").first.click()
    shown.idle()
    assert "<b>bold</b> & co/ü?#" in shown.text(".about")
    shown.open("#/record?index=docs&id=long")
    links = shown.tab.locator(".about dd a")
    assert [links.nth(at).get_attribute("href") for at in range(links.count())] == ["https://example.org/long"]
    shown.check()


def test_the_key_is_asked_for(page: NewPage) -> None:
    """It is kept only on request, and a wrong one is reported."""
    shown = page(opened=False)
    shown.tab.goto(shown.url)
    shown.tab.fill("#key-value", "a-wrong-key-of-some-length")
    shown.tab.press("#key-value", "Enter")
    shown.tab.wait_for_selector("#key-wrong:has-text('does not accept that key')")
    shown.tab.keyboard.press("Escape")  # there is no way around it
    shown.tab.fill("#key-value", KEY)
    shown.tab.press("#key-value", "Enter")
    shown.idle()
    shown.tab.wait_for_selector("#question")
    assert shown.tab.evaluate("JSON.stringify({...sessionStorage, ...localStorage})") == "{}"
    assert KEY not in shown.tab.content()
    shown.wrong = [each for each in shown.wrong if "401" not in each]
    shown.check()


def test_checks_of_an_index(page: NewPage) -> None:
    shown = page()
    shown.open("#/index?name=docs")
    shown.tab.click("button:has-text('Verify')")
    shown.tab.wait_for_selector("text=All sound")
    shown.tab.fill("textarea", "bread\nyeast")
    shown.tab.click("button:has-text('Compare')")
    shown.tab.wait_for_selector(".figure")
    assert "over 2 searches" in shown.text(".cards")
    shown.check()


def test_errors_are_shown(page: NewPage, tmp_path: Path) -> None:
    """Each error is shown where it occurred."""
    shown = page()
    shown.open("#/record?index=docs&id=nothing")
    assert shown.text(".record-body") == "there is no such record"
    shown.open("#/?q=bread&index=docs&where=%7B%22a%22%3A%7B%22eq%22%3A1%7D%7D")
    assert "unknown operator 'eq'" in shown.text(".columns")
    file = tmp_path / "other.json"
    file.write_text("{}", encoding="utf-8")
    shown.open("#/report")
    shown.tab.set_input_files("input[type=file]", str(file))
    shown.tab.wait_for_selector("text=is not a report in format 1 of this kit")
    shown.wrong = [each for each in shown.wrong if "40" not in each]
    shown.check()


def test_the_theme_is_kept(page: NewPage) -> None:
    shown = page(theme="light")
    shown.open("")
    shown.tab.select_option("#theme", "dark")
    ground = shown.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    shown.open("#/index")
    assert shown.tab.evaluate("getComputedStyle(document.body).backgroundColor") == ground == "rgb(20, 23, 26)"


def test_no_request_is_repeated(page: NewPage) -> None:
    """Three columns send three parallel requests."""
    shown = page()
    shown.open("#/?index=docs")
    asked: list[str] = []
    shown.tab.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    shown.tab.fill("#question", "bread and yeast")
    shown.tab.press("#question", "Enter")
    shown.idle()
    assert [each for each in asked if each != "icon.svg"] == ["explain"] * 3
    assert shown.tab.locator(".result").count() == 30
