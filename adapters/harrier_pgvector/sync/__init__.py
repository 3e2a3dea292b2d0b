"""Live sync: the embeddings of a Postgres table's rows, kept up to date with every insert, update and delete.

TableSync(dsn, table="article_chunks").create("articles", encoder.space, text=["title", "body"])
SyncWorker(dsn, encoder).run()      # on any number of machines, forever
"""

from harrier_pgvector.sync.status import SyncFailure, SyncStatus, sync_statuses
from harrier_pgvector.sync.table import TableSync
from harrier_pgvector.sync.worker import SyncWorker

__all__ = ["SyncFailure", "SyncStatus", "SyncWorker", "TableSync", "sync_statuses"]
