"""Ingests on Ray: workers, one for each GPU of a cluster, write the rows of a Ray dataset into an Index.

pip install 'harrier-kit[ray,torch]'

If this is imported before Ray is started, Ray sends no usage statistics unless RAY_USAGE_STATS_ENABLED asks for them.
"""

import os as _os

from harrier_core.extras import require

require("harrier_ray", "ray")
_os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from harrier_ray.encoding import EncodeBatch
from harrier_ray.ingesting import check_index, ingest
from harrier_ray.reading import Reading, Share, record_of
from harrier_ray.starting import cluster, connect

__all__ = ["EncodeBatch", "Reading", "Share", "check_index", "cluster", "connect", "ingest", "record_of"]
