"""The format of a file: by its name, and by its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from harrier_files.limits import Unreadable

GZIP, ZIP = "gz", "zip"  # containers of files with other formats

LANGUAGES: Mapping[str, str] = {  # of source code, by suffix
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".tsx": "typescript", ".go": "go", ".rs": "rust", ".java": "java", ".kt": "kotlin",
    ".scala": "scala", ".c": "c", ".h": "c", ".cc": "c++", ".cpp": "c++", ".cxx": "c++", ".hh": "c++", ".hpp": "c++",
    ".cs": "c#", ".swift": "swift", ".rb": "ruby", ".php": "php", ".pl": "perl", ".pm": "perl", ".lua": "lua",
    ".r": "r", ".jl": "julia", ".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ps1": "powershell", ".sql": "sql",
    ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".hs": "haskell", ".ml": "ocaml", ".clj": "clojure",
    ".el": "lisp", ".lisp": "lisp", ".vue": "vue", ".css": "css", ".scss": "css", ".proto": "protobuf",
    ".tf": "terraform", ".cmake": "cmake", ".dart": "dart", ".zig": "zig",
}  # fmt: skip
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "text": (
        *("", ".txt", ".text", ".log", ".rst", ".org", ".adoc", ".asciidoc", ".tex", ".srt", ".vtt"),
        *(".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf"),
    ),
    "markdown": (".md", ".markdown", ".mdx", ".qmd", ".rmd"),
    "code": tuple(LANGUAGES),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "docx": (".docx", ".docm", ".dotx"),
    "pptx": (".pptx", ".pptm", ".ppsx"),
    "spreadsheet": (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
    "opendocument": (".odt", ".ott", ".odp"),
    "epub": (".epub",),
    "ipynb": (".ipynb",),
    "eml": (".eml",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
    GZIP: (".gz",),
    ZIP: (".zip",),
}
KINDS: Mapping[str, str] = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
# Suffixes that only say that a file contains something.
VAGUE = frozenset(["", ".gz"])

_OLE = "an Office file from before 2007, or one that is encrypted"
# First bytes of files that are not text: a kind of KINDS, or a description.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "pdf"),
    (b"\x1f\x8b", GZIP),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PAR1", "parquet"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\0asm", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"{\\rtf", "RTF"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"RIFF", "audio, video or an image"),
    (b"OggS", "audio or video"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"\x1aE\xdf\xa3", "a film"),
    (b"wOF", "a font"),
    (b"\0\1\0\0\0", "a font"),
    (b"!<arch>\n", "a static library"),
)
_TAR, _TAR_AT = b"ustar", 257
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")  # the beginning of UTF-16 and UTF-32
_HOLDS = frozenset(["docx", "pptx", "spreadsheet", "opendocument", "epub", ZIP])  # formats that are a zip
HEAD = 4_096  # bytes that are checked


class OtherKind(Unreadable):
    """A file that is not text, nor in any format that is read."""


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name in lowercase."""
    return PurePosixPath(name).suffix.lower()


def kind_of(name: str, head: bytes) -> str:
    """Return the format of a file. Its first bytes count more than its name."""
    named, found = KINDS.get(suffix_of(name)), _signature(head)
    if found is None:
        if b"\0" in head and (named is None or suffix_of(name) in VAGUE) and not head.startswith(_WIDE):
            raise OtherKind("is binary, in no supported format")
        return "text" if named in (None, GZIP) else str(named)
    if found == ZIP:
        return str(named) if named in _HOLDS else ZIP
    if found == _OLE and named == "spreadsheet":
        return "spreadsheet"
    if found not in _SUFFIXES:
        raise OtherKind(f"is {found}, which is not read; convert it to text, or read it with a command (--reader)")
    return found


def zipped_kind(content: bytes) -> str:
    """Return the format of a zip, by the names of its members, which a zip stores uncompressed."""
    marks = {b"word/document.xml": "docx", b"ppt/presentation.xml": "pptx", b"xl/workbook.": "spreadsheet"}
    if content.startswith(b"mimetypeapplication/epub+zip", 30):
        return "epub"
    if content.startswith(b"mimetypeapplication/vnd.oasis.opendocument.", 30):
        return "spreadsheet" if content.startswith(b"spreadsheet", 73) else "opendocument"
    if b"[Content_Types].xml" not in content:
        return ZIP
    return next((kind for mark, kind in marks.items() if mark in content), ZIP)


def _signature(head: bytes) -> str | None:
    """Return what the first bytes of a file indicate. If they are letters, that counts only for binary files."""
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive"
    found = next(((mark, kind) for mark, kind in _SIGNATURES if head.startswith(mark)), None)
    if found is None or (found[0].isalnum() and b"\0" not in head):
        return None
    return found[1]
