"""A Qdrant server that keeps only hashes of the points that it receives, so that only the client is measured.

Run as a program, it prints its two ports, REST and gRPC, and serves until it is terminated.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from qdrant_client import QdrantClient
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc as collections_service
from qdrant_client.grpc import points_service_pb2_grpc as points_service

DONE = messages.PointsOperationResponse(
    result=messages.UpdateResult(operation_id=0, status=messages.UpdateStatus.Completed), time=0.0
)
KEPT = ("record_id", "number", "hash")

# For each collection: by record, the parts of the payloads that a later ingest reads.
kept: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
settings = QdrantClient(":memory:", force_disable_check_same_thread=True)


class Points(points_service.PointsServicer):
    """Answer the requests of a load."""

    def Upsert(self, request: Any, _: object) -> Any:  # noqa: N802
        """Keep three fields of the points that have them."""
        own = kept[request.collection_name]
        for point in request.points:
            payload = point.payload
            if "record_id" in payload:
                own[payload["record_id"].string_value] = [(point.id, {name: payload[name] for name in KEPT})]
        return DONE

    def Scroll(self, request: Any, _: object) -> Any:  # noqa: N802
        """Return the records that the filter names."""
        own = kept[request.collection_name]
        wanted = request.filter.must[0].field.match.keywords.strings
        found = [
            messages.RetrievedPoint(id=i, payload=p)
            for record_id in wanted
            if record_id in own
            for i, p in own[record_id]
        ]
        return messages.ScrollResponse(result=found, time=0.0)

    def Count(self, request: Any, _: object) -> Any:  # noqa: N802
        """Return the number of points of the named records."""
        own = kept[request.collection_name]
        condition = request.filter.must[0]
        while condition.HasField("filter"):
            condition = condition.filter.must[0]
        found = sum(len(own[record_id]) for record_id in condition.field.match.keywords.strings if record_id in own)
        return messages.CountResponse(result=messages.CountResult(count=found), time=0.0)

    def CreateFieldIndex(self, *_: object) -> Any:  # noqa: N802
        """Succeed without creating an index."""
        return DONE


class Collections(collections_service.CollectionsServicer):
    """Keep the settings of collections as they were sent."""

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the settings in a server's format."""
        if not settings.collection_exists(request.collection_name):
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such collection")
        info = settings.get_collection(request.collection_name)
        return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request: Any, _: object) -> Any:  # noqa: N802
        """Keep the settings of a new collection."""
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        metadata = GrpcToRest.convert_payload(request.metadata)
        settings.create_collection(request.collection_name, vectors, metadata=metadata)
        return messages.CollectionOperationResponse(result=True)


class Rest(BaseHTTPRequestHandler):
    """Accept points over REST without reading them."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Acknowledge the points."""
        self.rfile.read(int(self.headers["content-length"]))
        answer = json.dumps(
            {"result": {"operation_id": 0, "status": "completed"}, "status": "ok", "time": 0.0}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Serve on two free ports."""
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    add_points: Any = points_service.add_PointsServicer_to_server
    add_points(Points(), server)
    add_collections: Any = collections_service.add_CollectionsServicer_to_server
    add_collections(Collections(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(rest.server_port, port, flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main()
