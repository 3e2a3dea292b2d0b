"""Keywords of other libraries' classes: accepted, or refused with advice."""

from __future__ import annotations

import pytest

from harrier_core import SettingError
from harrier_core.keywords import Keywords

KEYWORDS = Keywords("Store", aliases={"place": "url", "name": "collection"}, hints={"path": "use a folder"})
DEFAULTS = {"url": None, "collection": "docs"}


def test_aliases() -> None:
    """A setting may be given by either name."""
    assert KEYWORDS.settled({"place": "x"}, {"url": None}, DEFAULTS) == {"url": "x"}
    own = {"url": "y", "collection": "docs"}
    assert KEYWORDS.settled({}, own, DEFAULTS) == own
    assert KEYWORDS.settled({"name": "more"}, own, DEFAULTS) == {"url": "y", "collection": "more"}


def test_refused_keywords() -> None:
    """An alias of a setting that a call lacks is refused, and no value is quoted."""
    with pytest.raises(TypeError, match=r"Store\(\) got an unexpected keyword argument 'name'"):
        KEYWORDS.settled({"name": "x"}, {"url": None}, DEFAULTS)
    with pytest.raises(TypeError, match=r"Store\(\) got an unexpected keyword argument 'other'"):
        KEYWORDS.settled({"other": "x"}, {"url": None}, DEFAULTS)
    with pytest.raises(SettingError, match="Store takes no path=; use a folder") as hinted:
        KEYWORDS.settled({"path": "s3cr3t"}, {"url": None}, DEFAULTS)
    with pytest.raises(SettingError, match="url= and place= of Store are one setting; give one of them") as twice:
        KEYWORDS.settled({"place": "s3cr3t"}, {"url": "s3cr3t"}, DEFAULTS)
    assert "s3cr3t" not in f"{hinted.value}{twice.value}"
