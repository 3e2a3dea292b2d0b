"""Keywords that newcomers know from other libraries: taken if they mean one thing, refused by name if not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harrier_core.errors import SettingError


@dataclass(frozen=True, slots=True)
class Keywords:
    """What a class takes beside its own settings, and what it refuses with a word of advice."""

    of: str  # the class
    aliases: Mapping[str, str]  # to the names of its own settings
    hints: Mapping[str, str]  # the kit's word for each keyword that is refused

    def settled(self, given: Mapping[str, Any], own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the class's own settings, with those that were given by other names.

        Raise a SettingError for a keyword that has a hint, or for a setting that was given twice, and a TypeError, as
        Python does, for any other keyword. No value is quoted: it may hold a password.
        """
        settings = dict(own)
        names = {name: name for name in own if own[name] != defaults[name]}
        for keyword, value in given.items():
            if keyword in self.hints:
                raise SettingError(f"{self.of} takes no {keyword}=; {self.hints[keyword]}")
            name = self.aliases.get(keyword, "")
            if name not in own:
                raise TypeError(f"{self.of}() got an unexpected keyword argument {keyword!r}")
            if name in names:
                raise SettingError(f"{names[name]}= and {keyword}= of {self.of} are one setting; give one of them")
            settings[name], names[name] = value, keyword
        return settings
