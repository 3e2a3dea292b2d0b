"""Vectors that were made before, kept in any key-value store; a key covers all that a vector depends on.

The role, the instruction and the model are part of it: a query never gets the vector of a document, nor that of another
model, task or limit, no matter who else uses the same store.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from harrier_core.embedder import Around, Encoded
from harrier_core.errors import positions_of_all
from harrier_core.key_values import KeyValues
from harrier_core.texts import listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.choosing import AnyEncoder
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors

_FORMAT = 2
_CUT = b"\1"  # after the vector of a text that was cut
_NUMBER = "<f4"


class CachedEncoder(Around):
    """An Encoder, or a RemoteEncoder, that looks into a store before it encodes. It works in an Index and on its own.

    Any number of users may share the store; nothing in it goes stale.
    """

    def __init__(self, encoder: AnyEncoder, store: KeyValues) -> None:
        super().__init__(encoder)
        self.encoder = encoder
        self.store = store
        self._model: str | None = None

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The arguments of the Encoder behind the store, or None if it is a RemoteEncoder."""
        return self.encoder.settings

    @property
    def uncached(self) -> AnyEncoder:
        """The encoder behind the store, for callers who need fresh vectors."""
        return self.encoder

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode the queries that are not stored; the future can be cancelled."""
        call = self._look_up(listed(texts), self.encoder.prompt("", task=task))
        with positions_of_all(call.place):
            making = self.encoder.submit_queries(call.missing, task=task)
        return self._submitted(call, making)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode the documents that are not stored; the future can be cancelled."""
        call = self._look_up(listed(texts), None)
        with positions_of_all(call.place):
            making = self.encoder.submit_documents(call.missing)
        return self._submitted(call, making)

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return what `Encoder.encode_queries` does; only texts that are not stored are encoded."""
        call = self._look_up(listed(texts), self.encoder.prompt("", task=task))
        with positions_of_all(call.place):
            made = self.encoder.encode_queries(call.missing, task=task)
        return self._complete(call, Encoded(made, ())).vectors  # on this thread: some stores are bound to one

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return what `Encoder.encode_documents` does; only texts that are not stored are encoded."""
        call = self._look_up(listed(texts), None)
        with positions_of_all(call.place):
            made = self.encoder.encode_documents(call.missing)
        return self._complete(call, Encoded(made, ())).vectors

    def _submitted(self, call: _Call, making: Future[Encoded]) -> Future[Encoded]:
        """Store new vectors on a separate thread per call: a slow store holds up neither the model nor the caller."""
        made: Future[Encoded] = Future()
        if not call.missing:
            made.set_result(self._complete(call, making.result()))
            return made
        made.add_done_callback(lambda done: making.cancel() if done.cancelled() else None)
        threading.Thread(target=self._finish, args=(call, making, made), name="harrier-cache").start()
        return made

    def _finish(self, call: _Call, making: Future[Encoded], made: Future[Encoded]) -> None:
        """Answer a submission; the caller may have cancelled it in the meantime."""
        try:
            with positions_of_all(call.place):
                encoded = self._complete(call, making.result())
        except CancelledError:  # the encoder was closed
            made.cancel()
            made.set_running_or_notify_cancel()
        except BaseException as error:  # including the store's: the caller waiting for the vectors has to know
            with suppress(InvalidStateError):
                made.set_exception(error)
        else:
            with suppress(InvalidStateError):
                made.set_result(encoded)

    def _look_up(self, texts: list[Any], prompt: str | None) -> _Call:
        """Look up these texts in the store. prompt: that of queries; None if they are documents."""
        if self._model is None:
            space = {**asdict(self.encoder.space), "task": None}  # the default task; each key has its own
            limits = [self.encoder.max_tokens, self.encoder.on_overflow]
            self._model = json.dumps([_FORMAT, space, limits])
        before = json.dumps([self._model, prompt])
        keys = [_key(before, text) for text in texts]
        asked = list(dict.fromkeys(key for key in keys if key is not None))
        size = 4 * self.encoder.dimensions
        stored = zip(asked, self.store.mget(asked) if asked else (), strict=True)
        # A truncated value, which a crash may leave in some stores, does not count.
        sound = (size, size + len(_CUT))
        return _Call(texts, keys, {key: value for key, value in stored if value is not None and len(value) in sound})

    def _complete(self, call: _Call, made: Encoded) -> Encoded:
        """Store what was made, and put all vectors into the caller's order."""
        import numpy as np

        cut = set(made.truncated)
        new: dict[str | None, bytes] = {}
        tokens: dict[str | None, int] = {}
        for missing, vector in enumerate(made.vectors):
            key = call.keys[call.place(missing)]
            new[key] = vector.astype(_NUMBER).tobytes() + (_CUT if missing in cut else b"")
            tokens[key] = made.tokens[missing] if made.tokens else 0
        if new:
            self.store.mset([(key, value) for key, value in new.items() if key is not None])
        known = call.stored | new
        values = [known[key] for key in call.keys]
        size = 4 * made.vectors.shape[1]
        vectors = np.frombuffer(b"".join(value[:size] for value in values), _NUMBER).astype(np.float32)
        return Encoded(
            vectors.reshape(len(values), made.vectors.shape[1]),
            [tokens.get(key, 0) for key in call.keys],
            [place for place, value in enumerate(values) if len(value) > size],
        )


class _Call:
    """The texts of one call: which of them are stored, and where the others stand."""

    def __init__(self, texts: Sequence[Any], keys: Sequence[str | None], stored: dict[str | None, bytes]) -> None:
        self.keys = keys
        self.stored = stored
        places = {key or place: place for place, key in reversed(list(enumerate(keys))) if key not in stored}
        self._places = sorted(places.values())  # the first of equal texts
        self.missing = [texts[place] for place in self._places]

    def new(self, made: Vectors) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Return each vector that was made, with the position of its text."""
        return zip(self._places, made, strict=True)

    def place(self, missing: int) -> int:
        """Return the position of the text that is at this place among the missing ones."""
        return self._places[missing]


def _key(before: str, text: object) -> str | None:
    """Return the key of a text, or None for anything that is not a str: the encoder rejects it."""
    if not isinstance(text, str):
        return None
    return blake2b(f"{before}\0{text}".encode(errors="surrogatepass"), digest_size=24).hexdigest()
