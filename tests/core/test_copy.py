"""Copies between any two stores: the result, refusals, and what is never written."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import TableSync
from harrier_qdrant import QdrantStore
from ingesting import CHUNKING, Hashing, after, before
from psycopg import sql
from sqlite_store import SqliteStore

from harrier_core import (
    Chunk,
    Contents,
    Hnsw,
    Index,
    Record,
    SettingError,
    StoreMissing,
    StoreUnsuitable,
    VectorStore,
    Worded,
    Write,
    Written,
    WrongSpace,
)
from harrier_core.migration import CopyReport, copy, plan
from harrier_core.store import LaidOut, Stored
from harrier_core.testing import MemoryStore
from harrier_core.testing.contract import AWKWARD

NewStore = Callable[[str], VectorStore]
Store = TypeVar("Store", bound=VectorStore)

RECORDS = [*list(before())[:60], *AWKWARD]


@pytest.fixture
def new_store(postgres: str, table: str, tmp_path: Path) -> Iterator[NewStore]:
    """Return a new, empty store of a kind."""
    made: list[VectorStore] = []

    def new(kind: str) -> VectorStore:
        name = f"copy {len(made)}"
        stores: dict[str, Callable[[], VectorStore]] = {
            "memory": MemoryStore,
            "postgres": lambda: PgVectorStore(postgres, table=f"{table} {len(made)}"),
            "edge": lambda: QdrantStore.embedded(tmp_path / "edge", collection=name),
            "sqlite": lambda: SqliteStore(f"{tmp_path}/{name}"),
        }
        made.append(stores[kind]())
        return made[-1]

    yield new
    for store in made:
        store.close()


def filled(store: Store, records: Sequence[Record] = RECORDS, **more: Any) -> Store:
    Index(store, Hashing(), chunking=CHUNKING).ingest(records, **more)
    return store


def content(store: VectorStore) -> list[Any]:
    """Return everything in a store, including hashes and exact vectors."""
    found = []
    for each in Contents(store).read():
        c = each.chunk
        found.append((c.record_id, c.number, c.text, dict(c.metadata), c.start, c.end, c.hash, each.vector.tobytes()))
    return sorted(found, key=lambda row: row[:2])


def check_ingest(store: VectorStore, records: Sequence[Record] = RECORDS) -> None:
    """Check that the source's records encode nothing here."""
    encoder = Hashing()
    report = Index(store, encoder, chunking=CHUNKING).ingest(records, prune=True)
    assert (report.written, report.deleted, encoder.encoded) == (0, 0, [])


# -- the result


PAIRS = [
    *permutations(("memory", "postgres", "edge"), 2),
    *(("postgres", "postgres"), ("edge", "edge")),  # of one database and of one folder
    *(("memory", "sqlite"), ("sqlite", "memory")),  # a third-party store without support for copies
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pair_of_stores(new_store: NewStore, one: str, other: str) -> None:
    """The copy is bit-identical, and a second copy writes nothing."""
    source, target = filled(new_store(one)), new_store(other)
    told: list[CopyReport] = []
    report = copy(source, target, on_progress=told.append)
    assert report.sound
    assert content(target) == content(source)
    chunks = len(content(source))
    assert (report.records, report.chunks, report.copied, report.unchanged) == (len(RECORDS), chunks, chunks, 0)
    assert report.compared == report.identical >= 60
    assert next(each.stage for each in told if each.stage != "copying") == "checking"
    assert told[-1] == report
    again = copy(source, target)
    assert (again.copied, again.unchanged, again.deleted, again.sound) == (0, chunks, 0, True)
    check_ingest(target)


def test_half_precision_survives(new_store: NewStore, postgres: str, table: str) -> None:
    """float16 vectors survive a store that normalises them, stored as float16 and float32."""
    source = filled(PgVectorStore(postgres, table=f"{table} half"))  # float16, by default
    for precision in (None, "float32"):
        through = new_store("edge")
        assert isinstance(through, LaidOut)
        if precision:
            through.adopt(replace(source.layout(), precision=precision))
        first = copy(source, through)
        assert first.compared == 65
        assert first.identical == (0 if precision else 65)
        assert first.least_cosine > 0.9999999
        back = PgVectorStore(postgres, table=f"{table} {precision}", precision="float16")
        assert copy(through, back).sound
        assert content(back) == content(source)
        back.close()
    source.close()


@pytest.mark.parametrize("seed", range(12))
def test_from_any_state(seed: int) -> None:
    """The source and the target may contain any mixture of old and new records."""
    chance = random.Random(seed)
    old = {record.id: record for record in before()}
    new = {record.id: record for record in after()}
    source = filled(MemoryStore(), chance.sample([*new.values()], 120))
    target = MemoryStore()
    state = [chance.choice([each.get(id_) for each in (old, new)]) for id_ in sorted({*old, *new})]
    filled(target, [record for record in state if record and chance.random() < 0.7])
    planned = plan(source, target, extra="remove")
    missing = {(row[0], row[1]): row[6] for row in content(source)}
    there = {(row[0], row[1]): row[6] for row in content(target)}
    report = copy(source, target, extra="remove")
    assert report.sound
    assert content(target) == content(source)
    assert report.copied == planned.copied == sum(there.get(key) != hash_ for key, hash_ in missing.items())
    assert report.deleted == planned.deleted == len(there.keys() - missing.keys())
    assert report.unchanged <= planned.unchanged


def test_texts_that_stayed_keep_their_vectors(new_store: NewStore) -> None:
    """If only metadata changed, the target's vector stays, whatever its precision."""
    target = filled(new_store("postgres"))
    described = [replace(each, metadata={**each.metadata, "new": 1}) for each in RECORDS[:60]]
    source = filled(new_store("memory"), described)
    before_ = {row[:2]: row[-1] for row in content(target)}
    report = copy(source, target, extra="remove")
    assert (report.copied, report.deleted, report.sound) == (report.chunks, len(AWKWARD), True)
    assert {row[:2]: row[-1] for row in content(target)} == {
        key: vector for key, vector in before_.items() if key[0] in {each.id for each in described}
    }


# -- layouts


def test_layouts_are_kept(postgres: str, table: str, tmp_path: Path) -> None:
    """Settings that both stores have are kept both ways, and words match the texts."""
    made: dict[str, Any] = {"hnsw": Hnsw(m=8), "indexes": {"n": "integer", "a b": "keyword"}, "keywords": True}
    many = [Record(f"r{number}", f"the text number {number}", {"n": number}) for number in range(1_100)]
    with (
        PgVectorStore(postgres, table=table, precision="float32", **made) as source,
        QdrantStore.embedded(tmp_path, collection="docs") as edge,
        PgVectorStore(postgres, table=f"{table} back") as back,
    ):
        filled(source, many)
        with PgVectorStore(postgres, table=table) as plain:  # its layout is that of the table
            assert plain.layout() == replace(source.layout(), indexes={"n": "float", "a b": "keyword"})
            assert copy(plain, edge).lost == []
        assert edge.layout().precision == "float32"
        assert edge.layout().keywords
        assert edge.layout().indexes == {"n": "float", "a b": "keyword"}
        assert copy(edge, back).lost == []
        assert back.layout().hnsw == Hnsw(8, 100)
        assert Index(back, Hashing()).search("text", mode="keyword")
        for store in (edge, back):
            opened = store.open(Hashing.space)
            assert isinstance(opened, Worded)
            assert [*opened.wrong_keywords()] == []


def test_options_in_the_targets_url(tmp_path: Path, postgres: str, table: str) -> None:
    """They override the source's settings, and missing ones are reported."""
    with PgVectorStore(postgres, table=table, precision="float32", keywords=True, indexes={"n": "integer"}) as source:
        filled(source, list(before())[:20])
        url = f"qdrant:{tmp_path}?precision=float16&keywords=false&indexes=topic:keyword"
        planned = plan(source, url)
        assert [*tmp_path.iterdir()] == []
        report = copy(source, url)
        assert planned.lost == report.lost
        assert report.lost == ["vectors in float16, not float32", "no index of 'n'", "no words of chunks"]
        assert report.sound
        assert 0.999 < report.least_cosine < 1
        assert plan(source, url).lost == report.lost  # also once the target exists


def test_unsupported_settings_are_left_out(tmp_path: Path, postgres: str, table: str) -> None:
    """Field paths that Qdrant lacks and HNSW settings beyond pgvector's limits are left out."""
    with PgVectorStore(postgres, table=table, indexes={'a "quoted" field': "keyword"}) as source:
        filled(source, list(before())[:5])
        assert copy(source, f"qdrant:{tmp_path}").lost == ["no index of 'a \"quoted\" field'"]
    with (
        QdrantStore.embedded(tmp_path, collection="wide", hnsw=Hnsw(m=200)) as edge,
        PgVectorStore(postgres, table=f"{table} 2") as target,
    ):
        filled(edge, list(before())[:5])
        assert copy(edge, target).lost == ["HNSW by the database's choice, not m=200, ef_construction=100"]


# -- other records


def test_records_that_only_the_target_has(new_store: NewStore) -> None:
    """They are an error before anything is written, or are removed or kept as requested."""
    source, target = filled(new_store("memory"), RECORDS[:40]), filled(new_store("postgres"), RECORDS[30:])
    held = content(target)
    for call in (copy, plan):
        with pytest.raises(StoreUnsuitable, match=r"has 25 records that .* does not have, such as .*extra='remove'"):
            call(source, target)
    assert content(target) == held
    kept = copy(source, target, extra="keep")
    assert kept.sound
    assert Contents(target).count() == Contents(filled(new_store("memory"))).count()
    removed = copy(source, target, extra="remove")
    assert (removed.sound, removed.copied) == (True, 0)
    assert removed.deleted == len(held) - sum(row[0] in {each.id for each in RECORDS[30:40]} for row in held)
    assert [row[:-1] for row in content(target)] == [row[:-1] for row in content(source)]  # the table is in float16
    with pytest.raises(SettingError, match="extra must be one of refuse, remove, keep"):
        copy(source, target, extra="prune")  # type: ignore[arg-type]


def test_an_empty_source_removes_nothing(new_store: NewStore) -> None:
    source, target = filled(new_store("memory"), []), filled(new_store("edge"))
    with pytest.raises(SettingError, match="there is no record in .* at all"):
        copy(source, target, extra="remove")
    assert Contents(target).count()
    assert copy(source, new_store("memory")).sound


# -- refusals


def test_the_same_place(postgres: str, table: str, tmp_path: Path) -> None:
    """A copy of a place to itself changes nothing, under any name."""
    memory = filled(MemoryStore())
    pairs: list[Any] = [
        (memory, memory),
        (f"qdrant:{tmp_path}?collection=a", QdrantStore.embedded(tmp_path, collection="a")),
        (f"{postgres}&table=a", PgVectorStore(postgres, table="a")),
    ]
    for pair in pairs:
        for call in (copy, plan):
            with pytest.raises(SettingError, match="must be two places"):
                call(*pair)
    with pytest.raises(SettingError, match=r"source or target must be an index"):
        copy("a.parquet", tmp_path / "b.parquet")
    assert copy(memory, MemoryStore()).sound  # two are two places
    with (
        PgVectorStore(postgres, table=table) as one,
        PgVectorStore(f"{postgres}&application_name=other", table=table) as other,
    ):
        held = content(filled(one))
        report = copy(one, other, extra="remove")
        assert (report.copied, report.deleted, content(one)) == (0, 0, held)


def test_a_missing_source(new_store: NewStore, tmp_path: Path) -> None:
    """A missing source creates nothing."""
    target = new_store("postgres")
    for source in (MemoryStore(), f"qdrant:{tmp_path}/q", f"pgvector:{tmp_path}/p", tmp_path / "no.parquet"):
        with pytest.raises(StoreMissing):
            copy(source, target)
    assert target.space() is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", ["memory", "postgres", "edge"])
def test_another_space(new_store: NewStore, kind: str) -> None:
    source, target = filled(MemoryStore()), new_store(kind)
    target.open(replace(Hashing.space, weights="others"), create=True)
    for call in (copy, plan):
        with pytest.raises(WrongSpace, match="the weights differ"):
            call(source, target)


def test_a_live_sync(database: str, new_store: NewStore) -> None:
    """A table under live sync can be a source, but not a target."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY, text text)")
    sync = TableSync(database, table="chunks")
    sync.create("notes", Hashing.space, text="text")
    with PgVectorStore(database, table="chunks") as synced:
        memory = filled(new_store("memory"))
        for call in (copy, plan):
            with pytest.raises(
                StoreUnsuitable, match="is kept up to date by a live sync of public.notes, which would undo"
            ):
                call(memory, synced)
        assert synced.describe().chunks == 0
        assert copy(synced, new_store("edge")).sound
        sync.drop()
        assert copy(memory, synced).sound


def test_a_plan_writes_nothing(new_store: NewStore, tmp_path: Path) -> None:
    """A plan reports the counts and the approximate size of a copy."""
    source = filled(new_store("memory"))
    planned = plan(source, f"qdrant:{tmp_path}/q")
    assert not (tmp_path / "q").exists()
    report = copy(source, f"qdrant:{tmp_path}/q")
    assert (planned.records, planned.chunks, planned.copied) == (report.records, report.chunks, report.copied)
    assert 0.8 < planned.bytes / report.bytes < 1.2
    assert plan(source, f"qdrant:{tmp_path}/q").unchanged == report.chunks


# -- while others write


class Moving(MemoryStore):
    """A store that changes a number of times while its chunks are read."""

    def __init__(self, *changes: Callable[[], object]) -> None:
        super().__init__()
        self.changes = list(changes)

    def read(self, *asked: Any, **more: Any) -> Iterator[Stored]:
        yield from super().read(*asked, **more)
        if self.changes:
            self.changes.pop()()


def test_a_source_that_changes() -> None:
    """Records changed, added and removed during the copy are followed."""
    source, target = Moving(), MemoryStore()
    filled(source)
    changed = [replace(RECORDS[1], text="another text"), Record("late", "a late text")]
    source.changes = [lambda: filled(source, changed), lambda: Index(source, Hashing()).delete(["r002"])]
    report = copy(source, target, extra="remove")
    assert report.sound
    assert not source.changes
    assert content(target) == content(source)
    assert {"late"} < {row[0] for row in content(target)} - {"r002"}


def test_a_source_that_keeps_changing() -> None:
    """It is copied, and the report says that it changed."""
    source, target = Moving(), MemoryStore()
    filled(source, RECORDS[:3])
    changes = [lambda n=n: filled(source, [Record("busy", f"text {n}")]) for n in range(1_000)]
    source.changes = [*changes]
    report = copy(source, target)
    [(record_id, problem)] = report.problems
    assert record_id == "busy"
    assert "changed repeatedly" in problem
    assert {row[0] for row in content(target)} == {row[0] for row in content(source)}


class Raced(MemoryStore):
    """A target that another writer changes first, a few times."""

    races = 3

    def write(self, write: Write) -> Written:
        if self.races:
            self.races -= 1
            for record_id in list(write.sizes)[:2]:
                filled(self, [Record(record_id, f"somebody's text {self.races}")])
        return super().write(write)


def test_a_target_that_others_write_to() -> None:
    source, target = filled(MemoryStore()), Raced()
    target.races = 0
    filled(target, RECORDS[:1])
    target.races = 3
    assert copy(source, target).sound
    assert content(target) == content(source)


# -- damage


def test_damage_is_not_copied(postgres: str, table: str, new_store: NewStore) -> None:
    """Records with a changed text or a missing chunk are reported, and all others are copied."""
    with PgVectorStore(postgres, table=table) as source, psycopg.connect(postgres, autocommit=True) as connection:
        filled(source)
        name = {"table": sql.Identifier(table)}
        connection.execute(sql.SQL("UPDATE {table} SET text = 'by hand' WHERE record_id = 'r001'").format(**name))
        connection.execute(sql.SQL("DELETE FROM {table} WHERE record_id = 'r003' AND number = 1").format(**name))
        target = new_store("edge")
        report = copy(source, target)
        assert not report.sound
        reasons = dict(report.rejected)
        assert reasons.keys() == {"r001", "r003"}
        assert "a text that differs from the encoded one" in reasons["r001"]
        assert "lacks some of its chunks" in reasons["r003"]
        assert {row[0] for row in content(target)} == {record.id for record in RECORDS} - {"r001", "r003"}
        check_ingest(target, [record for record in RECORDS if record.id not in reasons])


def test_an_invalid_vector() -> None:
    source = MemoryStore()
    filled(source)
    for number, vector in enumerate((np.full(16, np.nan, np.float32), np.ones(3, np.float32))):
        chunk, _ = source._records[f"r00{number}"][0]
        source._records[f"r00{number}"][0] = chunk, vector
    reasons = dict(copy(source, MemoryStore()).rejected)
    assert "a vector that is not finite" in reasons["r000"]
    assert "a vector of 3 dimensions, not 16" in reasons["r001"]


def test_the_sample_finds_what_hashes_do_not(postgres: str, table: str) -> None:
    """A changed vector and a changed text with intact hashes are found by the sample."""
    source = filled(MemoryStore())
    with PgVectorStore(postgres, table=table) as target, psycopg.connect(postgres, autocommit=True) as connection:
        copy(source, target)
        name = sql.Identifier(table)
        changes = "text = 'by hand', embedding = embedding * array_fill(-1::real, ARRAY[16])::vector"
        connection.execute(sql.SQL("UPDATE {} SET {} WHERE record_id = 'r000'").format(name, sql.SQL(changes)))
        report = copy(source, target)
        assert report.copied == 0
        assert [record_id for record_id, _ in report.problems] == ["r000"] * 2
        assert "a different text or metadata" in report.problems[0][1]
        assert "a cosine of -1.000" in report.problems[1][1]


# -- how it is done


def test_memory_is_bounded() -> None:
    """Only a few windows with a limited number of chunks are in memory at once."""
    read = written = most = largest = 0

    class Counting(MemoryStore):
        def read(self, *asked: Any, **more: Any) -> Iterator[Stored]:
            nonlocal read, most, largest
            found = [*super().read(*asked, **more)]
            read, largest = read + len(found), max(largest, len(found))
            most = max(most, read - written)
            return iter(found)

    class Slow(MemoryStore):
        def write(self, write: Write) -> Written:
            nonlocal written
            done = super().write(write)
            written += len(write.encoded)
            return done

    source, space = Counting(), replace(Hashing.space, dimensions=2)
    opened, vector = source.open(space, create=True), np.ones((1, 2), np.float32)
    for number in range(12_000):
        chunk = Chunk.of(Record(f"r{number}", "text"), 0, 0, "text")
        opened.write(Write({chunk.record_id: 1}, [chunk], vector, [], {chunk.record_id: {}}))
    assert copy(source, Slow()).sound
    assert largest <= 1_000
    assert most <= 4 * 1_000


def test_no_model_and_no_torch(tmp_path: Path) -> None:
    """A copy imports neither torch nor a client that it does not need."""
    filled(QdrantStore.embedded(tmp_path / "q", collection="a")).close()
    code = f"""
import sys
from harrier_core.migration import copy
assert copy('qdrant:{tmp_path}/q?collection=a', '{tmp_path}/a.parquet').sound
assert copy('{tmp_path}/a.parquet', 'qdrant:{tmp_path}/q?collection=b').sound
print([name for name in ('torch', 'transformers', 'tokenizers', 'psycopg') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
