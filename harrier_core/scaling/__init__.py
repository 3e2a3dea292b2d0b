"""Ingests with many processes or machines: blocks of records are parts of one ingest, which is finished once.

`IngestPart` ingests a block, wherever it is unpickled. `finish` merges the reports of the parts, removes records that
occurred in no part, and builds the indexes. The store ensures correctness: ingesting a block again changes nothing.
"""

from harrier_core.scaling.finish import finish
from harrier_core.scaling.part import IngestPart, PartReport, cut
from harrier_core.scaling.secrets import secret_of
from harrier_core.scaling.tries import Tries, carefully

__all__ = ["IngestPart", "PartReport", "Tries", "carefully", "cut", "finish", "secret_of"]
