"""Sitemaps: their pages, and limits on what they can cause."""

from __future__ import annotations

import gzip
from contextlib import suppress

import pytest
from harrier_files import Source
from harrier_files.limits import Unreadable
from harrier_files.sitemaps import parsed
from harrier_files.sources import LISTING, SOURCE
from websites import Answer, Site

from harrier_core import Record, Skipped


def test_pages_of_a_sitemap(site: Site) -> None:
    """Each page is a record with its sitemap; a page that is also named is read once."""
    for name in ("a", "b"):
        site.put(f"/{name}.html", f"<p>page {name}")
    site.put("/picture.png", b"\x89PNG", "image/png")
    site.put_sitemap("/sitemap.xml", ["/a.html", "/b.html#part", "/a.html", "/picture.png", "/missing"])
    source = Source([f"{site.url}/b.html", f"{site.url}/sitemap.xml"])
    found = {each.id.removeprefix(site.url): each for each in source}
    assert list(found) == ["/b.html", "/a.html"]
    a, b = found["/a.html"], found["/b.html"]
    assert isinstance(a, Record)
    assert isinstance(b, Record)
    assert (a.text, a.metadata[LISTING], LISTING in b.metadata) == ("page a", f"{site.url}/sitemap.xml", False)
    assert dict(source.walk.left_out) == {".png": 1, "pages that are gone": 1}
    assert source.gone(f"{site.url}/missing", a.metadata)
    assert not source.gone(f"{site.url}/missing", {**a.metadata, LISTING: f"{site.url}/other.xml"})
    assert not source.gone(f"{site.url}/by-itself", {SOURCE: site.host})


def test_sitemap_indexes(site: Site) -> None:
    """They may be compressed, have any name, and be cyclic."""
    for name in "abc":
        site.put(f"/{name}", f"<p>{name}")
    site.put_sitemap("/index", ["/one.xml.gz", "/two", "/index"], of_sitemaps=True)
    site.put("/one.xml.gz", gzip.compress(site.put_sitemap("/x", ["/a"])), "application/octet-stream")
    site.put("/two", site.put_sitemap("/x", ["/b", "/c"]), "text/xml; charset=utf-8")
    source = Source(f"{site.url}/index")
    assert [getattr(each, "text", each) for each in source] == ["a", "b", "c"]
    assert {each.metadata[LISTING] for each in source if isinstance(each, Record)} == {f"{site.url}/index"}


def test_no_sitemap_leads_elsewhere(site: Site) -> None:
    """Other hosts, ports, schemes and files are not read, also through redirects."""
    with Site() as private:
        private.put("/secret", "<p>hunter2")
        private.put_sitemap("/sitemap.xml", ["/secret"])
        site.pages["/away"] = Answer(status=302, headers={"Location": f"{private.url}/secret"})
        site.put("/a", "<p>a")
        listed = [f"{private.url}/secret", "file:///etc/passwd", "http://169.254.169.254/latest", "/a", "/away"]
        site.put_sitemap("/sitemap.xml", [*listed, f"{site.url}@{private.host}/secret", "http://["])
        source = Source(f"{site.url}/sitemap.xml")
        page, away = source
        assert (page.id, away.id) == (f"{site.url}/a", f"{site.url}/away")
        assert isinstance(away, Skipped)
        assert "pass that page instead" in away.reason
        assert dict(source.walk.left_out) == {"pages of other hosts": 5}
        site.put_sitemap("/index.xml", [f"{private.url}/sitemap.xml"], of_sitemaps=True)
        assert list(Source(f"{site.url}/index.xml")) == []
        assert private.asked == []


def test_robots(site: Site) -> None:
    """robots.txt applies to listed pages but not to named ones, and its delays are kept."""
    for name in ("/a", "/private/b", "/c"):
        site.put(name, f"<p>{name}")
    site.put("/robots.txt", "User-agent: harrier-kit\nDisallow: /private/\nCrawl-delay: 1\n", "text/plain")
    site.put_sitemap("/sitemap.xml", ["/a", "/private/b", "/c"])
    source = Source(f"{site.url}/sitemap.xml")
    assert [each.id for each in source] == [f"{site.url}/a", f"{site.url}/c"]
    assert dict(source.walk.left_out) == {"pages that robots.txt disallows": 1}
    times = {each.path: each.at for each in site.asked}
    assert times["/c"] - times["/a"] >= 0.99
    assert [each.id for each in Source(f"{site.url}/private/b")] == [f"{site.url}/private/b"]


@pytest.mark.parametrize(("status", "read"), [(404, True), (403, True), (503, False)])
def test_a_missing_robots_txt(site: Site, status: int, read: bool) -> None:
    """As in RFC 9309, a missing file allows all, and an unreachable one nothing."""
    site.put("/a", "<p>a")
    site.put_sitemap("/sitemap.xml", ["/a"])
    site.pages["/robots.txt"] = Answer(status=status, headers={"Retry-After": "9999"})
    source = Source(f"{site.url}/sitemap.xml")
    [found] = source
    assert isinstance(found, Record) == read
    assert source.gone(f"{site.url}/b", {SOURCE: site.host, LISTING: f"{site.url}/sitemap.xml"}) == read


NO_LISTS = {
    "missing": Answer(status=404),
    "failing": Answer(status=500, headers={"Retry-After": "9999"}),
    "no XML": Answer(b"<urlset", "application/xml"),
    "HTML": Answer(b"<html><p>maintenance</p></html>", "text/html"),
    "feed": Answer(b"<rss><channel><link>x</link></channel></rss>", "application/xml"),
    "no gzip": Answer(b"\x1f\x8bnothing", "application/gzip"),
    "half": Answer(b"<urlset><url><loc>", "application/xml", broken_after=5),
}


@pytest.mark.parametrize("kind", NO_LISTS)
def test_a_missing_sitemap(site: Site, kind: str) -> None:
    """Its pages and those of others are kept."""
    site.pages["/sitemap.xml"] = NO_LISTS[kind]
    site.put_sitemap("/index.xml", ["/sitemap.xml"], of_sitemaps=True)
    for name in ("/sitemap.xml", "/index.xml"):
        source = Source(f"{site.url}{name}")
        [told] = source
        assert isinstance(told, Skipped)
        assert told.id == f"{site.url}/sitemap.xml"
        assert not source.gone(f"{site.url}/a", {SOURCE: site.host, LISTING: f"{site.url}{name}"})


def test_a_sitemap_that_became_a_page(site: Site) -> None:
    """Its listed pages are kept."""
    site.put("/list", "<p>sorry")
    source = Source(f"{site.url}/list")
    assert [each.id for each in source] == [f"{site.url}/list"]
    assert not source.gone(f"{site.url}/a", {SOURCE: site.host, LISTING: f"{site.url}/list"})


def test_patterns_and_pages(site: Site) -> None:
    for name in ("/docs/a", "/docs/.b", "/blog/c"):
        site.put(name, f"<p>{name}")
    site.put_sitemap("/sitemap.xml", list(site.pages))
    source = Source(f"{site.url}/sitemap.xml", include=["docs/"], exclude=["/docs/a"])
    assert [each.id for each in source] == [f"{site.url}/docs/.b"]


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "'
    + b"a" * 1000
    + b'">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 100) for n in range(5))
    + b"]><urlset><url><loc>&f;</loc></url></urlset>"
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset><url><loc>&e;</loc></url></urlset>',
        gzip.compress(b" " * 10**8),
        b"<a>" * 100_000,
        b"<urlset>" + b"<url><loc>http://a/</loc></url>" * 50_001 + b"</urlset>",
        b"",
    ],
)
def test_hostile_sitemaps(content: bytes) -> None:
    """None lists anything, and none takes long."""
    with suppress(Unreadable):
        assert parsed(content).urls == ()


def test_other_elements_are_not_pages() -> None:
    """Locations of images are ignored."""
    content = b"""<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:i="http://i/"><!-- c -->
        <url><loc>https://h/a</loc><i:image><i:loc>https://h/i.png</i:loc></i:image></url><loc>https://h/x</loc>
        <url><loc/></url></urlset>"""
    assert parsed(content).urls == ("https://h/a",)
