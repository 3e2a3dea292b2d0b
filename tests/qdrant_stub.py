"""A server with the part of Qdrant's REST and gRPC APIs that the store needs, which can be made to fail.

Its answers come from qdrant-client's own local mode.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it logs every connection that a test cuts

import grpc
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc as collections_service
from qdrant_client.grpc import points_service_pb2_grpc as points_service
from qdrant_client.grpc import qdrant_pb2_grpc as qdrant_service


@dataclass(frozen=True)
class Fault:
    """A fault that replaces the normal answer to a request."""

    status: int = 500
    said: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False  # the connection, without an answer
    carried_out: bool = False  # before it fails: the answer is lost, not the request
    delay: float = 0.0
    update_status: str | None = None  # a status other than "completed"


Plan = Callable[[str, int], Fault | None]  # called with a request's name and number


class Stub:
    """A server with both ports and one database."""

    def __init__(
        self, *, with_grpc: bool = True, metadata: bool = True, version: str = "1.20.0", strict: bool = False
    ) -> None:
        self.local = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.plan: Plan = lambda name, number: None
        self.counts: Counter[str] = Counter()
        self.headers: deque[dict[str, str]] = deque(maxlen=100)
        self.params: deque[models.SearchParams | None] = deque(maxlen=100)  # of queries
        self.keeps_metadata = metadata
        self.version = version
        self.strict = strict  # as Qdrant Cloud: a filter may name only fields that have a fitting index
        self.assumed = "\0"  # the fields whose names begin so count as indexed
        self.lock = threading.RLock()
        self._indexes: dict[str, dict[str, models.PayloadIndexInfo]] = {}  # of fields; local mode has none
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._grpc: grpc.Server | None = None
        self.grpc_port = 1
        if with_grpc:
            self._serve_grpc()

    @property
    def url(self) -> str:
        """Return the URL of its REST interface."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def client(self, **settings: Any) -> QdrantClient:
        """Return a client of it."""
        return QdrantClient(
            url=self.url, grpc_port=self.grpc_port, check_compatibility=False, **{"timeout": 20, **settings}
        )

    def close(self) -> None:
        """Stop the server."""
        self._http.shutdown()
        self._http.server_close()
        if self._grpc:
            self._grpc.stop(None).wait(10)
        self.local.close()

    def indexes(self, name: str) -> dict[str, models.PayloadIndexInfo]:
        """Return the indexes of a collection by the paths of their fields; a test may remove some."""
        return self._indexes[name]

    def fault(self, name: str) -> Fault | None:
        """Return the planned fault of this request, if any."""
        with self.lock:
            self.counts[name] += 1
            number = self.counts[name]
        return self.plan(name, number)

    # -- REST

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                stub.headers.append(dict(self.headers))
                name, work = stub.route(self.command, urlsplit(self.path).path, body)
                fault = stub.fault(name)
                if fault:
                    time.sleep(fault.delay)
                    if fault.carried_out:
                        stub.answer(work)
                    if fault.drop:
                        self.close_connection = True
                        return
                status, answer = stub.answer(work) if not fault or fault.update_status else (0, {})
                if fault and fault.update_status:
                    answer["result"]["status"] = fault.update_status
                elif fault:
                    status, answer = fault.status, {"status": {"error": fault.said}, "time": 0.0}
                said = json.dumps(answer).encode()
                self.send_response(status)
                for key, value in {**(fault.headers if fault else {}), "Content-Type": "application/json"}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    def answer(self, work: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
        """Return a result in REST's form."""
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # local mode warns about unsupported features
            try:
                result = work()
            except LookupError as error:
                return 404, {"status": {"error": f"Not found: No point with id {error} found"}, "time": 0.0}
            except ValueError as error:
                return _status(error), {"status": {"error": str(error)}, "time": 0.0}
        if isinstance(result, models.VersionInfo):  # it is not wrapped in a result
            return 200, result.model_dump()
        return 200, {"result": _json(result), "status": "ok", "time": 0.0}

    def route(self, method: str, path: str, body: bytes) -> tuple[str, Callable[[], Any]]:  # noqa: PLR0911  # a request a line
        """Return the name of a request and its function."""
        said = json.loads(body) if body else {}
        if (method, path) == ("GET", "/"):
            return "version", lambda: models.VersionInfo(title="a stub", version=self.version)
        if (method, path) == ("GET", "/collections"):
            return "list", self.local.get_collections
        _, _, name, *rest = path.split("/")
        collection: dict[tuple[str, ...], tuple[str, Callable[[], Any]]] = {
            ("GET",): ("get", lambda: self._info(name)),
            ("GET", "exists"): ("exists", lambda: {"exists": self.local.collection_exists(name)}),
            ("DELETE",): ("delete_collection", lambda: self._delete(name)),
            ("PUT",): ("create", lambda: self._create(name, models.CreateCollection.model_validate(said))),
            ("PATCH",): ("update", lambda: self.local.update_collection(name, metadata=said["metadata"])),
            ("PUT", "index"): ("index", lambda: self._index(name, said["field_name"], said["field_schema"])),
        }
        if (method, *rest) in collection:
            return collection[method, *rest]
        match method, rest:
            case "PUT", ["vectors", vector]:
                return "create_vector", lambda: self._create_vector(name, vector, models.Modifier(_modifier(said)))
            case "DELETE", ["vectors", vector]:
                return "delete_vector", lambda: self.local.delete_vector_name(name, vector)
            case "PUT", ["points", "vectors"]:
                changed = models.UpdateVectors.model_validate(said)
                return "vectors", lambda: self._update_vectors(name, changed.points, changed.update_filter)
            case "PUT", ["points"]:
                points: Any = TypeAdapter(models.PointInsertOperations).validate_python(said)
                own = points.batch if isinstance(points, models.PointsBatch) else points.points
                return "upsert", lambda: self.local.upsert(name, own)
            case "POST", ["points", "query", "batch"]:
                queries = [models.QueryRequest.model_validate(each) for each in said["searches"]]
                return "query_batch", lambda: [self._query(name, each) for each in queries]
            case "POST", ["points", action]:
                return action, self._points(name, action, said)
        raise AssertionError(f"{method} {path} is not spoken here")

    def _points(self, name: str, action: str, said: dict[str, Any]) -> Callable[[], Any]:
        match action:
            case "delete":
                selector: Any = TypeAdapter(models.PointsSelector).validate_python(said)
                return lambda: self._remove(name, selector)
            case "scroll":
                asked = models.ScrollRequest.model_validate(said)
                return lambda: _page(
                    self.local.scroll(
                        name,
                        scroll_filter=self.indexed(name, asked.filter),
                        limit=asked.limit or 10,
                        offset=asked.offset,
                        with_payload=_selected(asked),
                        with_vectors=asked.with_vector or False,
                    )
                )
            case "query":
                query = models.QueryRequest.model_validate(said)
                return lambda: self._query(name, query)
            case "count":
                where = models.CountRequest.model_validate(said).filter
                return lambda: self.local.count(name, self.indexed(name, where))
            case "batch":
                changes: Any = TypeAdapter(list[models.UpdateOperation]).validate_python(said["operations"])
                return lambda: self._change(name, changes)
        raise AssertionError(f"{action} is not spoken here")

    def _query(self, name: str, query: models.QueryRequest) -> Any:
        self.params.append(query.params)
        return self.local.query_points(
            name,
            query=_nearest(query),
            prefetch=query.prefetch,
            search_params=query.params if isinstance(_nearest(query), models.SparseVector) else None,
            using=query.using,
            limit=query.limit or 10,
            query_filter=self.indexed(name, query.filter),
            with_payload=True,
            with_vectors=query.with_vector or False,
        )

    def _remove(self, name: str, selector: Any) -> Any:
        self.indexed(name, getattr(selector, "filter", None))
        return self.local.delete(name, selector)

    def _change(self, name: str, changes: list[Any]) -> Any:
        for change in changes:
            self.indexed(name, change.set_payload.filter)
        return self.local.batch_update_points(name, changes)

    def indexed(self, name: str, where: models.Filter | None) -> models.Filter | None:
        """Return a filter; refuse it as a server in strict mode does if it names a field without a fitting index."""
        made = self._indexes.get(name, {})
        for written, kinds in _needed(where) if self.strict else ():
            key = re.sub(r'"([A-Za-z0-9_-]+)"', r"\1", written)  # a server parses paths
            if not key.startswith(self.assumed) and (key not in made or made[key].data_type.value not in kinds):
                raise ValueError(
                    f'Bad request: Index required but not found for "{key}" of one of the following types: '
                    f"[{', '.join(kinds)}]. Help: Create an index for this key or use a different filter."
                )
        return where

    def _create(self, name: str, asked: models.CreateCollection) -> bool:
        if self.local.collection_exists(name):
            raise ValueError(f"Collection `{name}` already exists!")
        metadata = asked.metadata if self.keeps_metadata else None
        return self.local.create_collection(
            name, asked.vectors, metadata=metadata, sparse_vectors_config=asked.sparse_vectors
        )

    def _delete(self, name: str) -> bool:
        self._indexes.pop(name, None)
        return self.local.delete_collection(name)

    def _info(self, name: str) -> models.CollectionInfo:
        info = self.local.get_collection(name)
        mode = models.StrictModeConfig(
            enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False
        )
        config = info.config.model_copy(update={"strict_mode_config": mode if self.strict else None})
        return info.model_copy(update={"payload_schema": self._indexes.get(name, {}), "config": config})

    def _index(self, name: str, field: str, kind: str) -> models.UpdateResult:
        made = models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), points=0)
        self._indexes.setdefault(name, {})[field] = made
        return models.UpdateResult(status=models.UpdateStatus.COMPLETED)

    def _create_vector(self, name: str, vector: str, modifier: models.Modifier) -> Any:
        sparse = models.SparseVectorConfig(modifier=modifier)
        return self.local.create_vector_name(name, vector, models.SparseVectorNameConfig(sparse=sparse))

    def _update_vectors(self, name: str, points: list[models.PointVectors], where: models.Filter | None) -> Any:
        return self.local.update_vectors(name, points, update_filter=self.indexed(name, where))

    # -- gRPC

    def _serve_grpc(self) -> None:
        self._grpc = grpc.server(ThreadPoolExecutor(8))
        add_points: Any = points_service.add_PointsServicer_to_server
        add_points(_Points(self), self._grpc)
        add_collections: Any = collections_service.add_CollectionsServicer_to_server
        add_collections(_Collections(self), self._grpc)
        add_root: Any = qdrant_service.add_QdrantServicer_to_server
        add_root(_Root(self), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()


def _status(error: ValueError) -> int:
    said = str(error)
    if "Index required" in said:
        return 400
    return 404 if "not found" in said else 409 if "already exists" in said else 400


def _needed(where: models.Filter | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the fields that a filter names, with the kinds of index that serve the condition."""
    for clause in ("must", "should", "must_not"):
        parts = getattr(where, clause, None) or []
        for part in parts if isinstance(parts, list) else [parts]:
            match part:
                case models.Filter():
                    yield from _needed(part)
                case models.IsEmptyCondition():
                    yield part.is_empty.key, _KINDS
                case models.IsNullCondition():
                    yield part.is_null.key, _KINDS
                case models.FieldCondition():
                    yield part.key, _kinds(part)


_KINDS = [each.value for each in models.PayloadSchemaType]


def _kinds(part: models.FieldCondition) -> list[str]:
    if part.range is not None:
        return ["integer", "float"]
    values = part.match.any if isinstance(part.match, models.MatchAny) else [part.match.value]  # type: ignore[union-attr]
    names = {bool: "bool", int: "integer", str: "keyword"}
    return [names[type(value)] for value in values[:1]] or ["keyword"]


def _nearest(query: models.QueryRequest) -> Any:
    return query.query.nearest if isinstance(query.query, models.NearestQuery) else query.query


def _modifier(said: dict[str, Any]) -> Any:
    return said["sparse"]["modifier"]


def _json(result: Any) -> Any:
    if isinstance(result, list):
        return [_json(each) for each in result]
    return result.model_dump(mode="json", exclude_none=True) if hasattr(result, "model_dump") else result


def _selected(asked: Any) -> Any:
    return asked.with_payload.include if hasattr(asked.with_payload, "include") else asked.with_payload


def _page(found: tuple[list[Any], Any]) -> Any:
    return models.ScrollResult(points=found[0], next_page_offset=found[1])


_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


class _Service:
    """Handle a request: count it, apply a planned fault, or execute it."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub

    def run(self, name: str, context: Any, work: Callable[[], Any]) -> Any:
        self.stub.headers.append({item.key: str(item.value) for item in context.invocation_metadata()})
        fault = self.stub.fault(name)
        if fault:
            time.sleep(fault.delay)
            if fault.carried_out:
                self.stub.answer(lambda: work() and None)
            if not fault.update_status:
                context.set_trailing_metadata([(key.lower(), value) for key, value in fault.headers.items()])
                code = grpc.StatusCode.UNAVAILABLE if fault.drop else _CODES[fault.status]
                context.abort(code, fault.said)
        with self.stub.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                answer = work()
            except LookupError as error:
                context.abort(_CODES[404], f"Not found: No point with id {error} found")
            except ValueError as error:
                context.abort(_CODES[_status(error)], str(error))
        if fault and fault.update_status:
            names = {"acknowledged": "Acknowledged", "wait_timeout": "WaitTimeout"}
            known = messages.UpdateStatus.items()  # not every release has all of them
            answer.result.status = dict(known).get(names[fault.update_status], messages.UpdateStatus.Acknowledged)
        return answer


def _completed(_: object = None) -> messages.PointsOperationResponse:
    return messages.PointsOperationResponse(
        result=messages.UpdateResult(operation_id=0, status=messages.UpdateStatus.Completed), time=0.0
    )


def _filter(request: Any) -> models.Filter | None:
    return _without_empty(GrpcToRest.convert_filter(request.filter)) if request.HasField("filter") else None


def _without_empty(where: models.Filter) -> models.Filter:
    """Remove empty lists, which older local clients and gRPC treat differently."""
    for clause in ("must", "should", "must_not"):
        parts = getattr(where, clause) or []
        inner = [_without_empty(part) if isinstance(part, models.Filter) else part for part in parts]
        setattr(where, clause, inner or None)
    return where


def _set_payload(asked: Any) -> models.SetPayloadOperation:
    selector: Any = GrpcToRest.convert_points_selector(asked.points_selector)
    own: dict[str, Any] = {"points": getattr(selector, "points", None)}
    if isinstance(selector, models.FilterSelector):
        own = {"filter": _without_empty(selector.filter)}
    payload = GrpcToRest.convert_payload(asked.payload)
    return models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, **own))


class _Points(_Service, points_service.PointsServicer):
    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        assert request.wait
        return self.run("upsert", context, lambda: _completed(self.stub.local.upsert(request.collection_name, points)))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        selector = GrpcToRest.convert_points_selector(request.points)
        if isinstance(selector, models.FilterSelector):
            selector = models.FilterSelector(filter=_without_empty(selector.filter))
        assert request.wait
        return self.run("delete", context, lambda: _completed(self.stub._remove(request.collection_name, selector)))

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        where = _filter(request)
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
        vectors = GrpcToRest.convert_with_vectors_selector(request.with_vectors)

        def work() -> Any:
            allowed = self.stub.indexed(request.collection_name, where)
            found, following = self.stub.local.scroll(
                request.collection_name, allowed, request.limit, None, offset, payload, vectors
            )
            return messages.ScrollResponse(
                result=[RestToGrpc.convert_record(each) for each in found],
                next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
            )

        return self.run("scroll", context, work)

    def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        work = self._query(request)
        return self.run("query", context, lambda: messages.QueryResponse(result=work(), time=0.0))

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert all(each.collection_name == request.collection_name for each in request.query_points)
        works = [self._query(each) for each in request.query_points]

        def work() -> Any:
            return messages.QueryBatchResponse(result=[messages.BatchResult(result=each()) for each in works], time=0.0)

        return self.run("query_batch", context, work)

    def _query(self, request: Any) -> Callable[[], list[Any]]:
        nearest = request.query.nearest
        sparse = nearest.sparse if nearest.HasField("sparse") else None
        query = models.QueryRequest(
            query=GrpcToRest.convert_sparse_vector(sparse) if sparse else list(nearest.dense.data),
            using=request.using,
            limit=request.limit,
            filter=_filter(request),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
            params=GrpcToRest.convert_search_params(request.params) if request.HasField("params") else None,
        )

        def work() -> list[Any]:
            found = self.stub._query(request.collection_name, query).points
            return [RestToGrpc.convert_scored_point(each) for each in found]

        return work

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        where = _filter(request)

        def work() -> Any:
            allowed = self.stub.indexed(request.collection_name, where)
            count = self.stub.local.count(request.collection_name, allowed).count
            return messages.CountResponse(result=messages.CountResult(count=count))

        return self.run("count", context, work)

    def UpdateBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert request.wait

        def work() -> Any:
            changes = [_set_payload(operation.set_payload) for operation in request.operations]
            self.stub._change(request.collection_name, changes)
            return messages.UpdateBatchResponse(result=[_completed().result for _ in request.operations])

        return self.run("batch", context, work)

    def UpdateVectors(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_vectors(point) for point in request.points]
        where = _without_empty(GrpcToRest.convert_filter(request.update_filter))
        assert request.wait

        def work() -> Any:
            return _completed(self.stub._update_vectors(request.collection_name, points, where))

        return self.run("vectors", context, work)

    def CreateVectorName(self, request: Any, context: Any) -> Any:  # noqa: N802
        modifier = GrpcToRest.convert_modifier(request.sparse_config.modifier)

        def work() -> Any:
            return _completed(self.stub._create_vector(request.collection_name, request.vector_name, modifier))

        return self.run("create_vector", context, work)

    def DeleteVectorName(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            return _completed(self.stub.local.delete_vector_name(request.collection_name, request.vector_name))

        return self.run("delete_vector", context, work)

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            kind = messages.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
            return _completed(self.stub._index(request.collection_name, request.field_name, kind))

        return self.run("index", context, work)


class _Collections(_Service, collections_service.CollectionsServicer):
    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            info = RestToGrpc.convert_collection_info(self.stub._info(request.collection_name))
            return messages.GetCollectionInfoResponse(result=info)

        return self.run("get", context, work)

    def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        def work() -> Any:
            names = [each.name for each in self.stub.local.get_collections().collections]
            found = [messages.CollectionDescription(name=name) for name in names]
            return messages.ListCollectionsResponse(collections=found)

        return self.run("list", context, work)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            result = self.stub._delete(request.collection_name)
            return messages.CollectionOperationResponse(result=result)

        return self.run("delete_collection", context, work)

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
            metadata = GrpcToRest.convert_payload(request.metadata)
            sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            asked = models.CreateCollection(vectors=vectors, metadata=metadata, sparse_vectors=sparse)
            self.stub._create(request.collection_name, asked)
            return messages.CollectionOperationResponse(result=True)

        return self.run("create", context, work)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        def work() -> Any:
            metadata = GrpcToRest.convert_payload(request.metadata)
            result = self.stub.local.update_collection(request.collection_name, metadata=metadata)
            return messages.CollectionOperationResponse(result=result)

        return self.run("update", context, work)


class _Root(_Service, qdrant_service.QdrantServicer):
    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        reply = messages.HealthCheckReply(title="a stub", version=self.stub.version)
        return self.run("version", context, lambda: reply)
