"""Checks of arguments that several modules share."""

from __future__ import annotations

from harrier_core.errors import SettingError


def check_integer(name: str, value: object, least: int) -> None:
    """Raise SettingError unless a value is an int, not a bool, and at least `least`."""
    if type(value) is not int or value < least:
        raise SettingError(f"{name} must be an integer of at least {least}, got {shown(value)}")


def shown(value: object) -> str:
    """Return a number as it is, and the type of anything else, for a message that must not contain a text."""
    return repr(value) if isinstance(value, int | float) else type(value).__name__
