"""Calls a server with grpcio and prints what came back as JSON: client.py ADDRESS WHAT ARGUMENT STUBS [CERTIFICATES].

CERTIFICATES is a directory with the authority that the server must prove itself by, `ca.pem`, and, where the client proves itself
too, its `client.pem` and `client.key`.
"""

import base64
import json
import pathlib
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

sys.path.insert(0, sys.argv[4])
import logs_pb2
import logs_pb2_grpc
import logservice_pb2
import logservice_pb2_grpc
from ringhouse.v1 import ingest_pb2, ingest_pb2_grpc

address, what, argument = sys.argv[1:4]
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def outcome(call):
    """What a call returned, or its status."""
    try:
        return {"code": "OK", "reply": call()}
    except grpc.RpcError as error:
        trailers = {key: value for key, value in error.trailing_metadata() or ()}
        details = trailers.get("grpc-status-details-bin")
        return {
            "code": error.code().name,
            "message": error.details(),
            "details": details and base64.b64encode(details).decode(),
        }


def calls(channel):
    """Calls as they are written on standard input: path, metadata, timeout, message as Base64."""
    results = []
    for line in sys.stdin:
        written = json.loads(line)
        method = channel.unary_unary(written["path"])
        compression = getattr(grpc.Compression, written.get("compression", "NoCompression"))
        results.append(
            outcome(
                lambda: base64.b64encode(
                    method(
                        base64.b64decode(written["message"]),
                        metadata=list(written.get("metadata", {}).items()),
                        timeout=written.get("timeout", 60),
                        compression=compression,
                    )
                ).decode()
            )
        )
    return results


def logs(channel):
    """Sends the entries of each line of standard input in one request."""
    stub = logs_pb2_grpc.LogServiceStub(channel)
    replies = []
    for line in sys.stdin:
        entries = [logs_pb2.LogEntryInput(**entry) for entry in json.loads(line)]
        reply = stub.IngestLogs(logs_pb2.IngestLogsRequest(logs=entries), timeout=60)
        replies.append(
            {
                "success": reply.success,
                "message": reply.message,
                "accepted": reply.accepted,
                "rejected": reply.rejected,
                "errors": [[error.index, error.error] for error in reply.errors],
            }
        )
    health = stub.HealthCheck(logs_pb2.HealthCheckRequest(), timeout=60)
    return {"replies": replies, "healthy": health.healthy, "version": health.version}


def send_log(channel):
    stub = logservice_pb2_grpc.LogServiceStub(channel)
    replies = []
    for line in sys.stdin:
        reply = stub.SendLog(logservice_pb2.LogRequest(**json.loads(line)), timeout=60)
        replies.append([reply.success, reply.message])
    return replies


def health(channel):
    stub = health_pb2_grpc.HealthStub(channel)

    def check(service):
        name = health_pb2.HealthCheckResponse.ServingStatus.Name
        return outcome(lambda: name(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status))

    return [check(service) for service in ("", "ringhouse.v1.Ingest", "none")]


def watch(channel):
    """Prints every status as it comes, until the call ends."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        for response in stub.Watch(health_pb2.HealthCheckRequest(service="")):
            print(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status), flush=True)
    except grpc.RpcError as error:
        return error.code().name


def reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    services = {}
    for name in sorted(database.get_services()):
        service = pool.FindServiceByName(name)
        services[name] = [method.name for method in service.methods]
    export = pool.FindMethodByName("opentelemetry.proto.collector.logs.v1.LogsService.Export")
    return {"services": services, "request": export.input_type.fields_by_name["resource_logs"].message_type.full_name}


def stream(channel):
    """Sends messages of standard input: a sequence number and JSON text or OTLP as Base64."""

    lines = sys.stdin.readlines()

    def messages():
        for line in lines:
            written = json.loads(line)
            message = ingest_pb2.StreamRequest(sequence=written["sequence"])
            if "json" in written:
                message.json = written["json"].encode()
            if "otlp" in written:
                message.otlp_logs = base64.b64decode(written["otlp"])
            yield message

    stub = ingest_pb2_grpc.IngestStub(channel)
    metadata = list(json.loads(argument).items())
    replies = []

    def read():
        for reply in stub.Stream(messages(), metadata=metadata):
            replies.append(
                {
                    "sequence": reply.sequence,
                    "accepted": reply.accepted,
                    "rejected": reply.rejected,
                    "errors": [[error.row, error.reason] for error in reply.errors],
                    "code": reply.code,
                    "message": reply.message,
                }
            )

    ended = outcome(read)
    return {"replies": replies, "code": ended["code"], "message": ended.get("message"), "details": ended.get("details")}


def connect():
    if len(sys.argv) == 5:
        return grpc.insecure_channel(address)
    files = pathlib.Path(sys.argv[5])
    own = [files / "client.key", files / "client.pem"]
    proof = [path.read_bytes() for path in own if path.exists()]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials((files / "ca.pem").read_bytes(), *proof))


with connect() as channel:
    print(json.dumps(globals()[what](channel)))
