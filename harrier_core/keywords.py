"""Keywords that newcomers know from other libraries: accepted if unambiguous, refused with advice if not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harrier_core.errors import SettingError


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords that a class accepts besides its own settings, and those that it refuses with advice."""

    of: str  # the class
    aliases: Mapping[str, str]  # to the names of its own settings
    hints: Mapping[str, str]  # the kit's word for each keyword that is refused

    def settled(self, given: Mapping[str, Any], own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the class's own settings, including those that were given by other names.

        Raise a SettingError for a keyword that has a hint, or for a setting that was given twice, and a TypeError, as
        Python does, for any other keyword. No value is quoted: it may contain a password.
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
