"""Reports of copies and re-embeddings, done or planned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from harrier_core.plurals import counted

Stage = Literal["copying", "checking", "indexing"]


@dataclass(slots=True)
class CopyReport:
    """The report of a copy, done or planned, counted in chunks unless stated otherwise."""

    total: int = 0  # that the source had at the beginning
    records: int = 0  # of the source, as far as it was read
    chunks: int = 0  # of those records
    copied: int = 0
    unchanged: int = 0  # that were in the target before
    deleted: int = 0  # that their records no longer have, or of records that the source does not have
    bytes: int = 0  # of the texts and vectors that were copied
    checked: int = 0  # whose hashes were compared at the end
    compared: int = 0  # of which text, metadata and vector were read from both sides
    identical: int = 0  # of these, vectors that are the same bit for bit
    least_cosine: float = 1.0  # between a vector and its copy
    seconds: float = 0.0
    stage: Stage = "copying"
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (record id, why it was not copied)
    problems: list[tuple[str, str]] = field(default_factory=list)  # (record id, how source and target differ)
    lost: list[str] = field(default_factory=list)  # parts of the source's layout that the target does not have

    @property
    def sound(self) -> bool:
        """Whether the target holds all that the source does."""
        return not (self.rejected or self.problems)

    def snapshot(self) -> CopyReport:
        """Return the report as it is now."""
        return replace(self, rejected=self.rejected.copy(), problems=self.problems.copy(), lost=self.lost.copy())

    def __str__(self) -> str:
        said = [f"{counted(self.records, 'record')}, {counted(self.chunks, 'chunk')}"]
        said.append(f"{self.copied:,} copied, {self.unchanged:,} unchanged, {self.deleted:,} deleted")
        if self.compared:
            alike = "all" if self.identical == self.compared else f"{self.identical:,} of them"
            cosine = "" if self.identical == self.compared else f" (least cosine {self.least_cosine:.6f})"
            said.append(f"{counted(self.compared, 'vector')} compared, {alike} identical{cosine}")
        for name, pairs in (("rejected", self.rejected), ("differing from the source", self.problems)):
            if pairs:
                said.append(f"{counted(len(pairs), 'record')} {name}, the first {pairs[0][0]!r}, which {pairs[0][1]}")
        rate = f" ({self.copied / self.seconds:,.0f} chunks a second)" if self.copied and self.seconds else ""
        return f"{'; '.join(said)}; {self.seconds:.1f} s{rate}"


@dataclass(slots=True)
class ReembedReport:
    """The report of a re-embedding, done or planned, counted in chunks unless stated otherwise."""

    total: int = 0  # that the index has
    encoded: int = 0
    described: int = 0  # that got other metadata, and kept their vectors
    deleted: int = 0  # that the index no longer has
    tokens: int = 0  # of those encoded
    bytes: int = 0  # of the texts and vectors that were written
    passes: int = 0  # over the whole index, of which the last found nothing to do
    seconds: float = 0.0
    stage: Literal["encoding", "indexing", "switching"] = "encoding"
    complete: bool = False  # whether the last pass found nothing to do
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (record id, why it has no vectors of the new model)

    @property
    def sound(self) -> bool:
        """Whether the new space has all that the old one has."""
        return self.complete and not self.rejected

    def snapshot(self) -> ReembedReport:
        """Return the report as it is now."""
        return replace(self, rejected=self.rejected.copy())

    def __str__(self) -> str:
        said = [f"{counted(self.total, 'chunk')}: {self.encoded:,} encoded ({self.tokens:,} tokens)"]
        said[0] += f", {self.described:,} described again, {self.deleted:,} deleted"
        if self.rejected:
            said.append(
                f"{counted(len(self.rejected), 'record')} rejected, the first {self.rejected[0][0]!r}, which "
                f"{self.rejected[0][1]}"
            )
        if not self.complete:
            said.append("other writers continue, and the switch catches up with the rest")
        rate = f" ({self.encoded / self.seconds:,.0f} chunks a second)" if self.encoded and self.seconds else ""
        return f"{'; '.join(said)}; {self.seconds:.1f} s{rate}"
