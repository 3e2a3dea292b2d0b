"""Check whether a new space is as good as the one in use: by counts, a verification, and searches in both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harrier_core.errors import StoreMissing
from harrier_core.index import Index
from harrier_core.migration.changing import NEXT, RECUT, changing
from harrier_core.migration.comparing import Sample
from harrier_core.migration.recutting import Recut
from harrier_core.migration.sources import chosen
from harrier_core.parts import embedder_of
from harrier_core.plurals import counted
from harrier_core.verify import verify

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.evaluation import Judgements, Report
    from harrier_core.parts import HasIndexEncoder
    from harrier_core.records import VerifyReport
    from harrier_core.store import VectorStore

_K = 10  # records of each search that are compared
_QUERY = 200  # characters of a stored text that are searched for


@dataclass(frozen=True, slots=True)
class Check:
    """The findings about a new space, compared with the one in use."""

    chunks: int  # in use
    new_chunks: int
    differing: int  # records that differ in the new space; a switch catches up with them
    verified: VerifyReport  # of the new space
    agreement: float | None = None  # the mean share of the first ten records that both find, without judgements
    asked: int = 0  # the number of searches in that mean
    evaluated: Report | None = None  # the space in use, compared with the new one

    @property
    def sound(self) -> bool:
        """Whether the new space passed the verification."""
        return self.verified.sound

    def __str__(self) -> str:
        said = [f"{counted(self.chunks, 'chunk')} in use, {self.new_chunks:,} in the new space"]
        if self.differing:
            said.append(f"{counted(self.differing, 'record')} still to catch up")
        said.append(str(self.verified))
        if self.agreement is not None:
            said.append(f"{self.agreement:.0%} of the first {_K} records are the same, over {self.asked:,} searches")
        return "; ".join(said)


def check(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    old: Embedder | HasIndexEncoder | None = None,
    *,
    judgements: Judgements | None = None,
    sample: int = 100,
    recut: bool = False,
) -> Check:
    """Verify the space that `reembed` filled, and compare its searches with those of the one in use. It writes nothing.

    encoder, old: those of the new space and of the one in use; without `old`, nothing is searched. judgements:
    questions with the records that answer them, on which both are evaluated. Without them, beginnings of stored texts
    are used as queries, and the share of equal results is reported; it shows differences, not which one is better.
    sample: how many chunks are encoded again, and how many searches are made. recut: check the place that `recut`
    filled.
    """
    new_encoder = embedder_of(encoder)
    with changing(place) as index, index.beside(RECUT if recut else NEXT) as store:
        if store.space() is None:
            raise StoreMissing(f"there is no second space to check for {index.store}; re-embed it first")
        new = store.open(new_encoder.space)
        found = Recut(index.opened, new).differing() if recut else index.differing(new, index.exchange())
        differing = sum(map(len, found))
        checked = Check(index.opened.count(), new.count(), differing, verify(new, new_encoder.uncached, sample, None))
        if old is None:
            return checked
        both = Index(index.store, old), Index(store, new_encoder)
        if judgements is not None:
            from harrier_core.evaluation import System, evaluate  # copies do not need it

            named = System(name="new", index=both[1])
            return replace(checked, evaluated=evaluate(both[0], judgements, compare=[named]))
        return _agreement(checked, *both, sample)


def _agreement(checked: Check, old: Index, new: Index, sample: int) -> Check:
    drawn = Sample()
    opened = old.store.open(old.encoder.space)
    for record_id in opened.record_ids():
        drawn.see({record_id: {0: b""}})
    texts = [each.chunk.text[:_QUERY] for each in chosen(opened, drawn.keys[:sample]).values()]
    found = [[{match.record_id for match in own} for own in each.search_many(texts, _K)] for each in (old, new)]
    shares = [len(one & other) / max(1, len(one | other)) for one, other in zip(*found, strict=True)]
    return replace(checked, agreement=sum(shares) / len(shares) if shares else None, asked=len(shares))
