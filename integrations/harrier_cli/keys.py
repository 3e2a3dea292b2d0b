"""Files of API keys: `harrier serve` accepts every line of one, and its clients use the first."""

from __future__ import annotations

from pathlib import Path

from harrier_core import SettingError


def keys_of(file: Path) -> list[str]:
    """Return the keys in a file, one per line; at least one."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"the keys of {file} cannot be read: {reason}") from None
    keys = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not keys:
        raise SettingError(f"there is no key in {file}")
    return keys
