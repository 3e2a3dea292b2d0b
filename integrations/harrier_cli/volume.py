"""The amount of output on standard error: --quiet and --verbose, which every command accepts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

_LOGGERS = ("harrier_core", "harrier_pgvector", "harrier_qdrant", "harrier_files")
_HANDLER = "harrier"  # the name of the handler that is added


@dataclass(slots=True)
class _Volume:
    quiet: bool = False


_volume = _Volume()


def is_quiet() -> bool:
    """Return whether only results and errors are wanted."""
    return _volume.quiet


def be_quiet() -> None:
    """Print only results and errors."""
    _volume.quiet = True


def be_verbose() -> None:
    """Print what the kit logs on standard error."""
    handler = logging.StreamHandler()
    handler.set_name(_HANDLER)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def reset() -> None:
    """Return to the output without these options: a process may run several commands."""
    _volume.quiet = False
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if each.get_name() == _HANDLER]:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
