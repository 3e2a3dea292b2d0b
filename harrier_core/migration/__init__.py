"""Move the contents of an index: to another store, into a Parquet file and back, and into another model's space.

from harrier_core.migration import copy

report = copy("pgvector:index?table=docs", "postgresql://me@host/db?table=docs")
copy("postgresql://me@host/db?table=docs", "docs.parquet")

A copy needs no model. To change the model, see `harrier_core.migration.reembedding`.
"""

from harrier_core.migration.changing import Spaces, spaces
from harrier_core.migration.checking import Check, check
from harrier_core.migration.copying import copy, plan
from harrier_core.migration.recutting import recut
from harrier_core.migration.reembedding import back, drop_old, reembed, switch
from harrier_core.migration.rehearsing import plan_reembedding
from harrier_core.migration.report import CopyReport, ReembedReport

__all__ = [
    "Check",
    "CopyReport",
    "ReembedReport",
    "Spaces",
    "back",
    "check",
    "copy",
    "drop_old",
    "plan",
    "plan_reembedding",
    "recut",
    "reembed",
    "spaces",
    "switch",
]
