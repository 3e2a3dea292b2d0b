"""Ingests of many processes or machines: blocks of records are parts of one ingest, which is finished once.

`IngestPart` ingests a block, wherever it is unpickled; `finish` merges what the parts report, removes what no part met
and builds the indexes. Correctness is the store's: a block that is ingested again changes nothing.
"""

from harrier_core.scaling.finish import finish
from harrier_core.scaling.part import IngestPart, PartReport, cut
from harrier_core.scaling.secrets import secret_of
from harrier_core.scaling.tries import Tries, carefully

__all__ = ["IngestPart", "PartReport", "Tries", "carefully", "cut", "finish", "secret_of"]
