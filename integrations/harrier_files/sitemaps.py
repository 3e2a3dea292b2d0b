"""Lists of pages, as specified at https://www.sitemaps.org."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from harrier_core.extras import missing_extra
from harrier_files.limits import Unreadable, read_at_most

_GZIP = b"\x1f\x8b"
_LARGEST = 64 * 10**6  # bytes, unpacked; the protocol allows 50 MB
_MOST = 50_000  # URLs, as in the protocol
_NO_SITEMAP = "is XML, but not a sitemap"


@dataclass(frozen=True, slots=True)
class Sitemap:
    """The contents of a sitemap."""

    urls: tuple[str, ...]
    of_sitemaps: bool  # False: of pages


def parsed(content: bytes) -> Sitemap:
    """Return the contents of a sitemap, compressed or not. Raise Unreadable if it is not one."""
    try:
        from lxml import etree
    except ImportError:
        raise Unreadable(f"is not read: {missing_extra('a sitemap', 'lxml')}") from None
    if content.startswith(_GZIP):
        content = _unpacked(content)
    try:
        # Neither entities nor files are resolved, and a huge or deeply nested page is refused.
        events = etree.iterparse(
            BytesIO(content), events=("start", "end"), resolve_entities=False, no_network=True, huge_tree=False
        )
        return _listed(events)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"cannot be read as XML (line {error.lineno})") from None


def _listed(events: Iterator[tuple[str, object]]) -> Sitemap:
    _, root = next(events)
    space, name = _name(root)
    kinds = {"urlset": "url", "sitemapindex": "sitemap"}
    if name not in kinds:
        raise Unreadable(_NO_SITEMAP)
    urls = []
    for event, element in events:
        if event == "end" and _name(element) == (space, "loc"):
            url = (getattr(element, "text", None) or "").strip()
            if url and _name(element.getparent())[1] == kinds[name]:  # type: ignore[attr-defined]  # lxml's
                urls.append(url)
        elif event == "end" and _name(element) == (space, kinds[name]):
            element.clear()  # type: ignore[attr-defined]
        if len(urls) > _MOST:
            raise Unreadable(f"is a sitemap of more than {_MOST:,} URLs, the limit of the sitemap protocol")
    return Sitemap(tuple(urls), of_sitemaps=name == "sitemapindex")


def _name(element: object) -> tuple[str, str]:
    """Return the namespace of an element and its name; comments have neither."""
    tag = getattr(element, "tag", "")
    space, _, name = tag.rpartition("}") if isinstance(tag, str) else ("", "", "")
    return space, name


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.open(BytesIO(content)) as packed:
            return read_at_most(packed, _LARGEST)  # type: ignore[arg-type]  # which reads
    except (OSError, EOFError, zlib.error):
        raise Unreadable("cannot be read as gzip") from None
