"""Web pages: those that are named, and those that a sitemap lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.robotparser import RobotFileParser

from harrier_core import SettingError
from harrier_core.extras import require
from harrier_files.choosing import Choice
from harrier_files.files import Account, File, Gone, Origin
from harrier_files.limits import Unreadable, read_at_most
from harrier_files.sitemaps import Sitemap, parsed

if TYPE_CHECKING:
    from harrier_files.pages import Page, Web

ELSEWHERE, ROBOTS = "pages of other hosts", "pages that robots.txt disallows"
_LONGEST_DELAY = 10.0  # seconds between two pages, whatever robots.txt asks for
_DEEPEST = 3  # lists of lists of pages; the protocol has two
_LARGEST = 64 * 10**6  # bytes of a sitemap; the protocol allows 50 MB
_LARGEST_ROBOTS = 512_000  # bytes, according to RFC 9309


@dataclass(slots=True)
class Pages:
    """The pages of URLs. A host is a source, and a page's id is its URL."""

    urls: Sequence[str]
    source: str | None
    choice: Choice
    account: Account
    most: int = 0
    origins: list[Origin] = field(init=False)
    seen: set[str] = field(init=False, default_factory=set)  # URLs of this run
    _named: dict[str, Origin] = field(init=False)

    def __post_init__(self) -> None:
        require("a page", "httpx")
        from harrier_files.pages import normal, root_of

        self._named = {}
        for url in map(normal, self.urls):
            root, name = root_of(url)
            origin = Origin(self.source or name, root, named=self.source is not None, begins=f"{root}/")
            self._named[url] = origin
        self.origins = list(dict.fromkeys(self._named.values()))

    @property
    def whole(self) -> set[str]:
        """None: a host has more pages than those that are named or listed."""
        return set()

    @property
    def alone(self) -> list[File]:
        """The named pages and sitemaps."""
        from harrier_files.pages import Web

        return [Web().page(origin, url) for url, origin in self._named.items()]

    def __iter__(self) -> Iterator[File]:
        from harrier_files.pages import Web

        self.seen = set(self._named)
        with closing(Web()) as web:
            for url, origin in self._named.items():
                yield from self._named_page(web, web.page(origin, url))

    def _named_page(self, web: Web, page: Page) -> Iterator[File]:
        """Yield the page, or the pages that it lists."""
        sitemap = None
        with closing(page):
            if page.may_be_sitemap:
                try:
                    sitemap = self.sitemap(page)
                except Unreadable as error:
                    self.tell_unlisted(page.name, error, page.name)
                    return
            else:
                self.account.unlisted.add(page.name)  # it may have been a sitemap before
                page.wanted = self.choice.suffixes
                yield page
        if sitemap is not None:
            yield from _Listed(self, web, replace(page.origin, listing=page.name)).pages(sitemap)

    def sitemap(self, page: Page) -> Sitemap:
        """Return what a page lists. Raise Unreadable if it is not a sitemap."""
        with page.open() as content:
            return parsed(read_at_most(content, min(self.most or _LARGEST, _LARGEST)))

    def tell_unlisted(self, url: str, error: Unreadable, listing: str) -> None:
        """Report that a list of pages is missing. It is then unknown whether its stored pages are gone."""
        self.account.unlisted.add(listing)
        self.account.unreadable.append((url, str(error)))


@dataclass(slots=True)
class _Listed:
    """The pages of a sitemap and of those that it lists, all on one host."""

    source: Pages
    web: Web
    origin: Origin

    def pages(self, sitemap: Sitemap) -> Iterator[File]:
        """Yield the pages that may be read."""
        try:
            robots = self._robots()
        except Unreadable as error:
            self.source.tell_unlisted(f"{self.origin.prefix}robots.txt", error, str(self.origin.listing))
            return
        delay = robots.crawl_delay(self.web.agent)
        self.web.delay = min(float(delay or 0), _LONGEST_DELAY)
        for page in self._of(sitemap, robots, 1):
            with closing(page):
                yield page
        self.web.delay = 0.0

    def _of(self, sitemap: Sitemap, robots: RobotFileParser, depth: int) -> Iterator[Page]:
        for url in map(self._normal, sitemap.urls):
            if url is None or url in self.source.seen:
                continue
            self.source.seen.add(url)
            if left_out := self._leaves_out(url, robots, sitemap=sitemap.of_sitemaps):
                self.source.account.left_out[left_out] += 1
            elif not sitemap.of_sitemaps:
                page = self.web.page(self.origin, url)
                page.wanted, page.listed = self.source.choice.suffixes, True
                yield page
            elif (inner := self._inner(url, depth)) is not None:
                yield from self._of(inner, robots, depth + 1)

    def _inner(self, url: str, depth: int) -> Sitemap | None:
        """Return a sitemap that another one lists, if it can be read."""
        if depth == _DEEPEST:
            error = Unreadable(f"is a sitemap nested in {_DEEPEST} others")
            self.source.tell_unlisted(url, error, str(self.origin.listing))
            return None
        try:
            with closing(self.web.page(self.origin, url)) as page:
                return self.source.sitemap(page)
        except Unreadable as error:
            self.source.tell_unlisted(url, error, str(self.origin.listing))
            return None

    def _normal(self, url: str) -> str | None:
        """Return the id of a listed page; an invalid URL counts as another host's."""
        from harrier_files.pages import normal

        try:
            return normal(url)
        except SettingError:
            self.source.account.left_out[ELSEWHERE] += 1
            return None

    def _leaves_out(self, url: str, robots: RobotFileParser, *, sitemap: bool) -> str | None:
        """Return why a URL is not requested. A sitemap must not lead off its host, where it could reach any machine."""
        if not url.startswith(self.origin.prefix):
            return ELSEWHERE
        if not robots.can_fetch(self.web.agent, url):
            return ROBOTS
        inside = url.removeprefix(self.origin.prefix).partition("?")[0]
        return None if sitemap or not inside else self.source.choice.leaves_out_page(inside)

    def _robots(self) -> RobotFileParser:
        """Return what the host allows. According to RFC 9309, everything is allowed without a robots.txt."""
        robots, lines = RobotFileParser(), []
        with closing(self.web.page(self.origin, f"{self.origin.prefix}robots.txt")) as page:
            try:
                with page.open() as content:
                    lines = content.read(_LARGEST_ROBOTS).decode(errors="replace").splitlines()
            except Gone:
                pass
            except Unreadable:
                if page.status is None or not 400 <= page.status < 500 or page.status == 429:
                    raise
        robots.parse(lines)
        return robots
