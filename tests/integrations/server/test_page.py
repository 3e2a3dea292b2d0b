"""The page of a server: its files, its policy, and its modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import tree_sitter_javascript
from serving import Serving
from tree_sitter import Language, Node, Parser

Serve = Callable[..., Serving]
FOLDER = Path(str(files("harrier_server").joinpath("page")))
MODULES = sorted(FOLDER.glob("*.js"))
PARSER = Parser(Language(tree_sitter_javascript.language()))


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def texts(path: Path, kind: str) -> list[str]:
    """Return the text of all nodes of a kind."""
    found = [each for each in walk(PARSER.parse(path.read_bytes()).root_node) if each.type == kind]
    return [each.text.decode() for each in found if each.text is not None]


class Links(HTMLParser):
    """Collect the addresses of a page, and what its policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name in ("href", "src") if (value := given.get(name))]
        self.ids |= {value for name, value in attrs if name == "id" and value}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag in ("script", "style") and "src" not in given:
            self.inline.append(tag)


def test_it_is_served_under_a_strict_policy(server: Serving) -> None:
    """It has no third-party content, inline code or frames."""
    answer = httpx.get(server.url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert {policy[each] for each in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(server.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    links = Links()
    links.feed(answer.text)
    assert links.inline == []
    for link in links.found:
        assert link.startswith("#/") or httpx.get(f"{server.url}/{link}").status_code == 200, link


def test_content_types(server: Serving) -> None:
    """All files of the folder are served, and none outside."""
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for file in FOLDER.iterdir():
        answer = httpx.get(f"{server.url}/page/{file.name}")
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].startswith(types[file.suffix])
    for path in ("/page/nothing.js", "/page/..%2Fapp.py", "/page/%2e%2e/app.py", "/page/", "/page"):
        assert httpx.get(server.url + path).status_code == 404


@pytest.mark.slow
def test_it_needs_no_key_and_can_be_left_out(serve: Serve, tmp_path: Path) -> None:
    """It contains no data of an index; its requests need the key."""
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length", encoding="utf-8")
    server = serve("--api-key-file", str(keys))
    assert [httpx.get(server.url + path).status_code for path in ("/", "/page/app.js", "/v1/server")] == [200, 200, 401]
    server.end()
    server = serve("--no-page")
    assert [httpx.get(server.url + path).status_code for path in ("/", "/page/app.js")] == [404, 404]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module(path: Path) -> None:
    """It parses, imports existing modules, and creates no markup or code from texts."""
    assert not PARSER.parse(path.read_bytes()).root_node.has_error
    for statement in texts(path, "import_statement"):
        found = re.fullmatch(r'import (?:\* as \w+|\{([^}]+)\}) from "\./(\w+\.js)";', statement)
        assert found, statement
        exported = texts(FOLDER / found[2], "export_statement")
        names = {
            each[1] for each in re.finditer(r"export (?:async )?(?:const|function|class) (\w+)", "\n".join(exported))
        }
        assert {each.strip() for each in (found[1] or "").split(",") if each.strip()} <= names, statement
    members = {each.rpartition(".")[2] for each in texts(path, "member_expression")}
    assert not members & {"innerHTML", "outerHTML", "insertAdjacentHTML", "write", "cssText"}
    assert not {"eval", "Function", "import"} & {each.partition("(")[0] for each in texts(path, "call_expression")}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)\w", path.read_text(encoding="utf-8"))


def test_styles_and_ids_are_used(server: Serving) -> None:
    """Every styled class is used in a module, and every requested id is in the page."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in [*MODULES, FOLDER / "index.html"])
    styles = (FOLDER / "style.css").read_text(encoding="utf-8")
    assert styles.count("{") == styles.count("}")
    names = set(re.findall(r"\.([a-z][a-z-]*)(?=[^{}]*\{)", re.sub(r"\d\.\d|url\([^)]*\)", "", styles)))
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == set()
    links = Links()
    links.feed(httpx.get(server.url).text)
    assert set(re.findall(r'getElementById\("([\w-]+)"\)', code)) <= links.ids | {"question"}


def test_colours_are_of_both_themes() -> None:
    """Each colour is defined once, for both themes."""
    styles = (FOLDER / "style.css").read_text(encoding="utf-8")
    themes: Any = re.findall(r"--[\w-]+: light-dark\((#\w{6}), (#\w{6})\);", styles)
    assert len(themes) > 10
    assert len(re.findall(r"#[0-9a-f]{3,8}\b", styles)) == 2 * len(themes)
