"""Secrets in what is pickled for other machines."""

from __future__ import annotations

import pickletools
import re

_PASSWORD = re.compile(
    r"(?:^|\s)(?:password|sslpassword)\s*=\s*\S|[?&](?:password|sslpassword)=[^&]|://[^/@:\s]*:[^@/]+@"
)
_NAMES = re.compile(r"(?:^|_)(?:api_?key|password|secret|token)$", re.IGNORECASE)


def secret_of(pickled: bytes) -> str | None:
    """Return what kind of secret a pickle holds, or None: a key or password by its name, or one within a URL."""
    name = ""
    for operation, value, _ in pickletools.genops(pickled):
        within = secret_of(value) if isinstance(value, bytes) and value[:1] == b"\x80" else None  # a pickle
        if within:
            return within
        if isinstance(value, str) and "UNICODE" in operation.name:
            if _NAMES.search(name) and value:
                return name
            if _PASSWORD.search(value):
                return "a password"
            name = value
        elif operation.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            name = ""
    return None
