"""Sends records from standard input with OpenTelemetry's SDK: send.py ENDPOINT none|gzip CLIENT. grpc://HOST:PORT is gRPC."""

import itertools
import json
import sys

import grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

endpoint, compression, client = sys.argv[1:]


def exporter():
    if endpoint.startswith("grpc://"):
        codings = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}
        target = endpoint.removeprefix("grpc://")
        return GrpcExporter(endpoint=target, insecure=True, compression=codings[compression])
    return HttpExporter(endpoint=endpoint, compression=Compression(compression))


def value(written):
    """Bytes are written as {"bytes": [...]}."""
    if isinstance(written, dict):
        if list(written) == ["bytes"]:
            return bytes(written["bytes"])
        return {key: value(inner) for key, inner in written.items()}
    if isinstance(written, list):
        return [value(inner) for inner in written]
    return written


def record(row):
    context = None
    if row["trace"]:
        span = SpanContext(int(row["trace"], 16), int(row["span"], 16), False, TraceFlags(row["flags"]))
        context = set_span_in_context(NonRecordingSpan(span))
    return LogRecord(
        timestamp=int(row["time"]),
        observed_timestamp=int(row["observed"]),
        context=context,
        severity_text=row["severity_text"],
        severity_number=SeverityNumber(row["severity_number"]),
        body=value(row["body"]),
        attributes=value(row["attributes"]),
        event_name=row["event"] or None,
    )


rows = [json.loads(line) for line in sys.stdin]
for service, rows in itertools.groupby(rows, lambda row: row["service"]):
    rows = list(rows)
    resource = Resource({"service.name": service, "client": client, "cpus": 4}, "urn:resource")
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter(), max_queue_size=len(rows) + 512))
    logger = provider.get_logger("sender", "1.2.3", "urn:scope", {"thread": "main"})
    for row in rows:
        logger.emit(record(row))
    provider.force_flush()
    provider.shutdown()
