"""Measure the reading of files: their texts compared with those of other readers, the times of three runs, and memory.

The corpus is 2,000 pages of Debian's handbook in four languages, each page in one of ten formats, and some of Debian's
manuals as PDF. pandoc creates it once, in some ten minutes, from Debian's packages, which apt-get downloads.

    make bench-files CORPUS=folder                 # needs pandoc, pdftotext and apt-get
    make bench-files CORPUS=folder MODEL=folder    # cuts with its tokenizer; a tiny stand-in by default
"""

from __future__ import annotations

import argparse
import gzip
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from harrier_files import Source
from harrier_files.memory import FileMemory
from harrier_pgvector import PgVectorStore

from harrier_core import Chunking, Encoded, Encoder, Index, IngestReport, Record
from harrier_core.embedder import Around
from harrier_core.testing import build_model

LANGUAGES = {"en-US": "en", "de-DE": "de", "fr-FR": "fr", "ja-JP": "ja"}
FORMATS = {  # suffix: pandoc's name of the format
    "html": "html",
    "docx": "docx",
    "odt": "odt",
    "epub": "epub",
    "pptx": "pptx",
    "md": "gfm",
    "rst": "rst",
    "org": "org",
    "tex": "latex",
    "ipynb": "ipynb",
}
PACKAGES = ("debian-handbook", "debian-faq", "debian-faq-de", "debian-faq-fr", "debian-policy", "debian-reference-ja")
# Formats that pandoc writes but does not read: the original page is compared.
UNREAD = frozenset(["pptx"])


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--pages", type=int, default=50, help="in each language and format")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.corpus / "files", options.run, options.model)
        return
    if not (options.corpus / "made").exists():
        make(options.corpus, options.pages)
    files = [each for each in (options.corpus / "files").rglob("*") if each.is_file()]
    kinds = Counter(each.suffix for each in files)
    megabytes = sum(each.stat().st_size for each in files) / 1e6
    print(f"{len(files):,} files of {len(kinds)} formats and {len(LANGUAGES)} languages, {megabytes:,.0f} MB")
    compare(options.corpus)
    time_runs(options.corpus, options.model)


# -- the corpus


def make(corpus: Path, pages: int) -> None:
    """Write the files, and next to each its expected text."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), f"{folder}/root"], check=True)
        docs = Path(folder, "root/usr/share/doc")
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda page: convert(*page), chosen(docs, corpus, pages)))
        for manual in docs.rglob("*.pdf.gz"):
            if "images" not in manual.parts:
                target = corpus / "files" / "pdf" / manual.stem
                target.parent.mkdir(parents=True, exist_ok=True)
                with gzip.open(manual) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
    (corpus / "made").touch()


def chosen(docs: Path, corpus: Path, pages: int) -> Iterator[tuple[Path, Path]]:
    """Yield pages, and the files to write them to."""
    for folder, language in LANGUAGES.items():
        found = sorted((docs / "debian-handbook/html" / folder).glob("*.html"), key=lambda each: -each.stat().st_size)
        for suffix in FORMATS:
            for page in found[:pages]:
                yield page, corpus / "files" / language / suffix / f"{page.stem}.{suffix}"


def convert(page: Path, file: Path) -> None:
    """Write a page in the format of the file's suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".html":
        shutil.copy(page, file)
        return
    form = FORMATS[file.suffix[1:]]
    command = ["pandoc", "--quiet", "--standalone", "--from", "html", "--to", form, "--output", str(file), str(page)]
    subprocess.run(command, check=True, cwd=page.parent)


# -- the texts


def compare(corpus: Path) -> None:
    """Print the share of words that each format's texts have in common with those of another reader."""
    shared: dict[str, list[float]] = {}
    rejected: Counter[str] = Counter()
    unread = 0
    for record in Source(str(corpus / "files")):
        file = corpus / record.id
        if not isinstance(record, Record):
            rejected[file.suffix] += 1
            continue
        theirs = reference(file)
        if theirs is None:
            unread += 1
        else:
            shared.setdefault(file.suffix[1:], []).append(alike(words(record.text), words(theirs)))
    print("\nwords in common with pandoc's or pdftotext's text (F1)\n")
    print(f"{'format':<8}{'files':>6}{'rejected':>10}{'median':>9}{'10th %':>9}{'least':>8}")
    for suffix, found in sorted(shared.items()):
        tenth = float(np.quantile(found, 0.1))
        print(
            f"{suffix:<8}{len(found):>6}{rejected[f'.{suffix}']:>10}{statistics.median(found):>9.3f}{tenth:>9.3f}"
            f"{min(found):>8.3f}"
        )
    print(f"{unread} files that the other reader refuses are left out")


def reference(file: Path) -> str | None:
    """Return another reader's text of a file, or None if it cannot read the file."""
    if file.suffix == ".pdf":
        command = ["pdftotext", "-q", str(file), "-"]
    else:
        if file.suffix[1:] in UNREAD:
            file = file.parent.parent / "html" / f"{file.stem}.html"
        form = FORMATS[file.suffix[1:]]
        command = ["pandoc", "--quiet", "--from", form, "--to", "plain", "--wrap", "none", str(file)]
    done = subprocess.run(command, check=False, capture_output=True)
    return None if done.returncode else done.stdout.decode()


def words(text: str) -> Counter[str]:
    """Return the words of a text, or its characters in scripts without spaces."""
    return Counter(re.findall(r"[぀-ヿ一-鿿]|[^\W_぀-ヿ一-鿿]+", text.casefold()))


def alike(ours: Counter[str], theirs: Counter[str]) -> float:
    """Return F1: twice the number of common words, divided by the number of words in both."""
    both = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / both if both else 1.0


# -- two runs


class Tokenizing(Around):
    """Count tokens with the real tokenizer, and return vectors that cost nothing."""

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Return the same vector for all texts."""
        number = len(list(texts))
        vectors = np.zeros((number, self.dimensions), np.float32)
        vectors[:, 0] = 1
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, [0] * number))
        return done


def time_runs(corpus: Path, model: Path | None) -> None:
    """Print the times of three runs, each in its own process, and the peak memory of each."""
    print("\ningest into Postgres with vectors that cost nothing, each run in its own process\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "second", "third"):
            more = ["--model", str(model)] if model else []
            done = subprocess.run(
                [sys.executable, __file__, str(corpus), "--run", folder, *more], check=True, capture_output=True
            )
            print(f"{name:<8}{done.stdout.decode().strip()}")


def run(files: Path, folder: Path, model: Path | None) -> None:
    """Ingest once."""
    with Encoder(model or build_model(folder / "model", "qwen3")) as encoder:
        store = PgVectorStore.embedded(folder / "index", table="files")
        with Index(store, Tokenizing(encoder), chunking=Chunking()) as index:
            store.space()  # the server starts
            begin = time.perf_counter()
            source = Source(str(files))
            with source.deferred() as records, closing(FileMemory(folder / "memory")) as memory:
                report: IngestReport = index.ingest(records, prune=source.pruning, memory=memory)
            seconds = time.perf_counter() - begin
    ours, theirs = (resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{seconds:8.2f} s   {report.written:,} chunks written, {report.unchanged:,} unchanged, "
        f"{len(report.rejected)} rejected; {ours:,.0f} MB, and {theirs:,.0f} MB in its largest child process"
    )


if __name__ == "__main__":
    main()
