"""Moving what an index holds: from one store to another, and into a Parquet file and back. No model is needed.

from harrier_core.migration import copy

report = copy("pgvector:index?table=docs", "postgresql://me@host/db?table=docs")
copy("postgresql://me@host/db?table=docs", "docs.parquet")
"""

from harrier_core.migration.copying import copy, plan
from harrier_core.migration.report import CopyReport

__all__ = ["CopyReport", "copy", "plan"]
