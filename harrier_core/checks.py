"""Arguments that several rooms check in the same way."""

from __future__ import annotations

from harrier_core.errors import SettingError


def check_integer(name: str, value: object, least: int) -> None:
    """Raise SettingError unless a value is an int, no bool, and at least so large."""
    if type(value) is not int or value < least:
        raise SettingError(f"{name} must be an integer of at least {least}, got {shown(value)}")


def shown(value: object) -> str:
    """Return a number as it is, and of anything else its type, for a message that must not hold a text."""
    return repr(value) if isinstance(value, int | float) else type(value).__name__
