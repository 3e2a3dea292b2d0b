"""An e-mail message."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart

from harrier_files.formats.document import Document, Given, Writer
from harrier_files.formats.web import decoded_page, write_page
from harrier_files.limits import Unreadable

_HEADERS = {"title": "subject", "from": "from", "to": "to"}
_LONG = 1_000  # characters of a header that are kept: each chunk's metadata has them
_ATTACHED = 100  # names of attachments that are kept


def mail_text(given: Given) -> Document:
    """Return the text of a message, its sender, its date, and the names of its attachments."""
    message = message_from_bytes(given.content, policy=policy.default)
    if not message.keys():
        raise Unreadable("has no headers of a message")
    writer = Writer(given.most)
    body = message.get_body(("plain", "html"))
    if body is not None:
        text = _text(body, given.encoding)
        if body.get_content_subtype() == "html":
            write_page(writer, text)
        else:
            writer.line(text.replace("\r\n", "\n"))
    said: dict[str, object] = {key: str(message.get(name, ""))[:_LONG] for key, name in _HEADERS.items()}
    return writer.document(**said, date=_date(message), attachments=_attached(message))


def _text(part: MIMEPart, encoding: str | None) -> str:
    """Decode a text as its header says or, if that fails, as browsers would."""
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode(part.get_content_charset() or "us-ascii")
    except (LookupError, ValueError):
        return decoded_page(content, encoding)


def _date(message: EmailMessage) -> str | None:
    when = getattr(message.get("date"), "datetime", None)
    return when.isoformat() if when else None


def _attached(message: EmailMessage) -> list[str]:
    names = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    return [" ".join(name.split())[:200] for name in names[:_ATTACHED]]
