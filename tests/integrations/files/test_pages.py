"""Web pages that are named directly, requested politely from a real server."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from harrier_files import Source
from harrier_files.files import Origin
from harrier_files.pages import Page, Web, normal, root_of
from harrier_files.sources import ROOT, SOURCE
from websites import Answer, Site

from harrier_core import Record, SettingError, Skipped


def text_of(source: Source) -> dict[str, str]:
    found = list(source)
    assert not [each for each in found if isinstance(each, Skipped)], found
    return {each.id: each.text for each in found if isinstance(each, Record)}


def reason_of(source: Source) -> str:
    [skipped] = source
    assert isinstance(skipped, Skipped)
    assert not skipped.gone
    return skipped.reason


@pytest.fixture
def page_of(site: Site) -> Iterator[Callable[[str], Page]]:
    """Return the record of a page by its path."""
    root, name = root_of(site.url)
    with closing(Web()) as web:
        yield lambda path: web.page(Origin(name, root, begins=f"{root}/"), f"{site.url}{path}")


def test_pages_of_many_kinds(site: Site) -> None:
    """The type is declared or derived from the name; the id is the URL, and the source the host."""
    site.put("/", "<title>Home</title><p>hello")
    site.put("/a?b=c", "<p>caf\xe9".encode("latin-1"), "text/html; charset=ISO-8859-1")
    site.put("/notes.md", "# Title", "text/plain")
    site.put("/code.py", "print", "text/plain; charset=utf-8")
    site.put("/mark", "*x*", "text/markdown")
    site.put("/rows.jsonl", '{"text": "a row"}', "application/octet-stream")
    site.put("/untold", "<p>who knows", None)
    site.put("/packed", gzip.compress(b"<p>unpacked"), "text/html", Content_Encoding="gzip")
    found = list(Source([f"{site.url}{path}" for path in site.pages]))
    assert {each.id.removeprefix(site.url): getattr(each, "text", each) for each in found} == {
        "/": "hello",
        "/a?b=c": "café",
        "/notes.md": "# Title",
        "/code.py": "print",
        "/mark": "*x*",
        "/rows.jsonl:1": "a row",
        "/untold": "who knows",
        "/packed": "unpacked",
    }
    first = found[0]
    assert isinstance(first, Record)
    assert first.metadata == {"format": "html", "title": "Home", SOURCE: site.host, ROOT: site.url}
    assert site.paths("HEAD") == []
    assert len(site.asked) == len(site.pages)
    assert all(each.headers["User-Agent"].startswith("harrier-kit/") for each in site.asked)


def test_one_page_however_it_is_spelled(site: Site) -> None:
    """Fragments, empty paths and capitals do not matter."""
    site.put("/", "<p>hello")
    spelled = [site.url, f"{site.url}/", f"{site.url}/#part", site.url.replace("http", "HTTP")]
    assert list(text_of(Source(spelled))) == [f"{site.url}/"]
    assert normal("HTTPS://Example.COM:443/a%20b?c#d") == "https://example.com/a%20b?c"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://", "must be the URL of a page"),
        ("https://host:port/", "is not a URL; expected https://host/path"),
        ("https://me:hunter2@host/", "put those of host in ~/.netrc"),
        ("postgresql://host/db", "read it with --from"),
    ],
)
def test_invalid_urls(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as raised:
        Source(url)
    assert "hunter2" not in str(raised.value)


def test_redirects(site: Site) -> None:
    """Redirects within the host are followed and keep the id; other hosts are not contacted."""
    site.pages["/old"] = Answer(status=301, headers={"Location": "/new"})
    site.pages["/new"] = Answer(status=302, headers={"Location": f"{site.url}/newest"})
    site.put("/newest", "<p>here")
    assert text_of(Source(f"{site.url}/old")) == {f"{site.url}/old": "here"}
    with Site() as other:
        other.put("/", "<p>secret")
        site.pages["/away"] = Answer(status=307, headers={"Location": f"{other.url}/"})
        assert reason_of(Source(f"{site.url}/away")).startswith("redirects to http://127.0.0.1; pass that page")
        assert other.asked == []
    for location, said in (("/circle", "redirects more than 10 times"), ("file:///etc/passwd", "redirects to file://")):
        site.pages["/circle"] = Answer(status=302, headers={"Location": location})
        assert said in reason_of(Source(f"{site.url}/circle"))


def test_a_page_that_is_gone(site: Site) -> None:
    """Its record is pruned; after other failures it is kept."""
    site.pages["/gone"] = Answer(status=410)
    site.pages["/forbidden"] = Answer(status=403)
    source = Source([f"{site.url}/missing", f"{site.url}/gone", f"{site.url}/forbidden"])
    assert list(source) == [
        Skipped(f"{site.url}/missing", "no longer exists: the server answers 404 Not Found", gone=True),
        Skipped(f"{site.url}/gone", "no longer exists: the server answers 410 Gone", gone=True),
        Skipped(f"{site.url}/forbidden", "cannot be fetched: the server answers 403 Forbidden"),
    ]
    assert source.gone(f"{site.url}/gone", {SOURCE: site.host})
    assert not source.gone(f"{site.url}/other", {SOURCE: site.host})
    assert not source.gone(f"{site.url}/gone", {SOURCE: "another"})


def test_a_server_that_is_busy(site: Site) -> None:
    """It is asked again after the requested delay, a limited number of times."""
    site.pages["/busy"] = lambda count: (
        Answer(status=429, headers={"Retry-After": "1"}) if count == 1 else Answer(b"<p>now")
    )
    assert text_of(Source(f"{site.url}/busy")) == {f"{site.url}/busy": "now"}
    first, second = site.asked
    assert second.at - first.at >= 0.99
    site.pages["/down"] = lambda count: Answer(status=503) if count < 3 else Answer(b"<p>up")
    assert text_of(Source(f"{site.url}/down")) == {f"{site.url}/down": "up"}
    site.pages["/later"] = Answer(status=503, headers={"Retry-After": "7200"})
    assert "answers 503" in reason_of(Source(f"{site.url}/later"))
    assert site.paths().count("/later") == 1


def test_an_unreachable_server() -> None:
    """It is reported."""
    with Site() as site:
        pass
    assert reason_of(Source(site.url)) == "cannot be fetched: no connection to the server"


@pytest.mark.slow
def test_a_server_that_is_down(site: Site) -> None:
    """After several pages failed all attempts, others get one attempt each."""
    paths = [f"/{number}" for number in range(6)]
    site.pages |= dict.fromkeys(paths, Answer(status=503))
    found = list(Source([f"{site.url}{path}" for path in paths]))
    assert [each.reason for each in found if isinstance(each, Skipped)] == [
        "cannot be fetched: the server answers 503 Service Unavailable"
    ] * 6
    assert [site.paths().count(path) for path in paths] == [4, 4, 4, 1, 1, 1]


def test_an_endless_page(site: Site) -> None:
    """The limit applies while it is received, also to compressed content."""
    site.pages["/endless"] = Answer(b"<p>more " * 1_000, forever=True)
    site.pages["/bomb"] = Answer(gzip.compress(b"a" * 10**7), headers={"Content-Encoding": "gzip"})
    for path in ("/endless", "/bomb"):
        assert "is larger than 1 MB" in reason_of(Source(f"{site.url}{path}", most=10**6))


def test_a_connection_that_breaks(site: Site) -> None:
    """An incomplete page is rejected."""
    site.pages["/half"] = Answer(b"<p>one</p><p>two</p>", broken_after=10)
    assert "cannot be fetched completely: the connection was lost" in reason_of(Source(f"{site.url}/half"))


@pytest.mark.parametrize("type_", ["image/png", "application/x-unheard-of"])
def test_other_kinds(site: Site, type_: str) -> None:
    site.put("/picture", b"\x89PNG", type_)
    assert reason_of(Source(f"{site.url}/picture")) == f"is {type_}, which is not read"


def test_stamps(site: Site, page_of: Callable[[str], Page]) -> None:
    """They come from HEAD until the page is opened, and change with ETag, time or length."""
    date, later = "Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:01 GMT"
    stamps: dict[str, Any] = {}
    for name, headers in {
        "etag": {"ETag": '"1"'},
        "etag2": {"ETag": '"2"'},
        "time": {"Last_Modified": date},
        "time2": {"Last_Modified": later},
        "none": {},
        "odd": {"Last_Modified": "yesterday"},
        "future": {"Last_Modified": "Fri, 01 Jan 2100 00:00:00 GMT"},
    }.items():
        site.put(f"/{name}", "<p>text", **headers)
        stamps[name] = page_of(f"/{name}").stamp
        assert page_of(f"/{name}").stamp == stamps[name]
    site.put("/longer", "<p>a longer text", Last_Modified=date)
    stamps["longer"] = page_of("/longer").stamp
    assert [name for name, stamp in stamps.items() if stamp is None] == ["none", "odd", "future"]
    known = [stamp for stamp in stamps.values() if stamp is not None]
    assert len(set(known)) == len(known)
    assert site.paths() == []
    page = page_of("/etag")
    with page.open() as content:
        assert content.read() == b"<p>text"
        assert page.stamp == stamps["etag"]
    assert (site.paths(), page.suffix) == (["/etag"], ".html")
    assert page_of("/missing").stamp is None


def test_servers_without_head(site: Site, page_of: Callable[[str], Page]) -> None:
    """A page without a stamp is read."""
    site.pages["/a"] = lambda count: Answer(status=501) if count == 1 else Answer(b"<p>text", headers={"ETag": '"1"'})
    page = page_of("/a")
    assert page.stamp is None
    with page.open() as content:
        assert content.read() == b"<p>text"
    assert page.stamp is not None


def test_passwords_of_netrc(site: Site, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sent to their host only."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc.rename(tmp_path / ".netrc")
    site.put("/", "<p>text")
    text_of(Source(site.url))
    assert site.asked[-1].headers["Authorization"].startswith("Basic ")
