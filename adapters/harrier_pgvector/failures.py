"""Transient errors of Postgres, and the reporting of all others. No message quotes a row or a password."""

from __future__ import annotations

from typing import NoReturn

from psycopg import InterfaceError, OperationalError, errors

from harrier_core.errors import StoreError, StoreFull, StoreUnavailable, StoreUnsuitable

# The server is shutting down or starting up: the session is lost, whatever the driver reports about the connection.
_RESTARTING = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
# Transient errors on a sound connection: too many clients, two writers in conflict.
_PASSING = (errors.TooManyConnections, errors.DeadlockDetected, errors.SerializationFailure)
_CONNECTION = "08"  # the class of states that mean a lost connection; one that was never made has no state

# Errors that a function raises have a state of this class unless it sets another, and contain its language's code.
_RAISED, _LANGUAGE = "P0", "PL/"
_DATA = "22"  # errors about values, which the message quotes: from generated columns, for example

# Text that the encoding of the database cannot represent, as converted UTF-8 and as an escape in JSON.
UNTRANSLATABLE = (errors.UntranslatableCharacter, errors.CharacterNotInRepertoire)


class Refused(StoreError):
    """An error that Postgres reports about a statement, with its SQLSTATE."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message, state)  # args rebuild the error after pickling
        self.state = state

    def __str__(self) -> str:
        return str(self.args[0])


def is_lost(error: Exception, *, sound: bool) -> bool:
    """Return whether the session is lost; errors that the driver raises on a sound connection do not count."""
    state = getattr(error, "sqlstate", None)
    lost = not sound if state is None else state.startswith(_CONNECTION)
    return (lost and isinstance(error, OperationalError | InterfaceError)) or isinstance(error, _RESTARTING)


def is_transient(error: Exception, *, sound: bool) -> bool:
    """Return whether the same operation may succeed a little later."""
    return is_lost(error, sound=sound) or isinstance(error, _PASSING)


def translate(error: Exception, *, sound: bool = False) -> NoReturn:
    """Raise the kit's error for one of psycopg's. The server's own detail may quote a row, and is left out."""
    state = getattr(error, "sqlstate", None)
    said = message(error)
    if isinstance(error, errors.InsufficientPrivilege):
        raise StoreUnsuitable(f"the database user lacks a privilege: {said}; grant it, or use another user") from None
    if isinstance(error, errors.ReadOnlySqlTransaction):
        raise StoreUnsuitable(f"this Postgres server or user is read-only ({said}); connect to the primary") from None
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedObject):
        raise StoreUnsuitable(f"an object is missing in the database: {said}") from None
    if isinstance(error, errors.DiskFull):
        raise StoreFull(
            f"the disk of the Postgres server is full ({said}); free some space and try again: what is stored stays"
        ) from None
    if is_transient(error, sound=sound):
        raise StoreUnavailable(f"Postgres cannot be reached: {said}") from None
    raise Refused(f"Postgres refused ({state or type(error).__name__}): {said}", state or "") from None


def message(error: Exception) -> str:
    """Return the server's message without values of rows, which those of functions and of class 22 may quote."""
    state, diag = getattr(error, "sqlstate", None), getattr(error, "diag", None)
    if (state or "").startswith(_RAISED) or _LANGUAGE in (getattr(diag, "context", None) or ""):
        return f"{type(error).__name__} in a function or trigger of the database"
    said = getattr(diag, "message_primary", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]
    return said.partition('"')[0].rstrip(" :") if (state or "").startswith(_DATA) else said
