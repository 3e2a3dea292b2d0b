"""Keywords of other libraries' classes, which newcomers try: an error that has the kit's word for each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harrier_core.errors import SettingError


def refuse_keywords(of: str, given: Iterable[str], hints: Mapping[str, str]) -> None:
    """Raise a SettingError for a keyword that has a hint, and a TypeError, as Python does, for any other."""
    for name in given:
        if name in hints:
            raise SettingError(f"{of} takes no {name}=: {hints[name]}")
        raise TypeError(f"{of}() got an unexpected keyword argument {name!r}")
