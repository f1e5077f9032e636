"""Sends rows from standard input with a client of another server: send.py CLIENT PORT NAME."""

import json
import logging
import sys
import warnings

client, port, name = sys.argv[1:]
port = int(port)
rows = [json.loads(line) for line in sys.stdin]
# Whatever a client has to complain about is seen.
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
warnings.simplefilter("always")


def elasticsearch(operation):
    from elasticsearch import Elasticsearch
    from elasticsearch.helpers import bulk, streaming_bulk

    server = Elasticsearch(f"http://127.0.0.1:{port}", http_compress=operation == "create")
    assert server.ping() and server.info()["tagline"] == "You Know, for Search"
    server.indices.put_index_template(name="logs", index_patterns=["logs-*"], template={})
    assert server.indices.exists(index="logs-app")
    assert server.cluster.health()["status"] == "green"
    actions = [{"_op_type": operation, "_index": "logs-app", **document(row)} for row in rows]
    if operation == "create":
        taken, errors = bulk(server, actions, chunk_size=300, raise_on_error=False)
    else:
        for number, action in enumerate(actions):
            action["_id"] = f"id \"{number}\""
        told = list(streaming_bulk(server, actions, chunk_size=300, raise_on_error=False, max_retries=3))
        taken = sum(ok for ok, _ in told)
        errors = [item for ok, item in told if not ok]
        for number, (_, item) in enumerate(told):
            assert item[operation]["_id"] == f"id \"{number}\"", item
    print(json.dumps({"taken": taken, "rejected": [item[operation]["status"] for item in errors]}))


def document(row):
    return {
        "@timestamp": row["timestamp"],
        "log": {"level": row["level"], "logger": "a.b"},
        "message": row["message"],
        "service": {"name": row["service"]},
        "host": {"name": "web-1"},
        "client": name,
        "seq": row["seq"],
    }


def datadog(encoding):
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.v2.api.logs_api import LogsApi
    from datadog_api_client.v2.model.content_encoding import ContentEncoding
    from datadog_api_client.v2.model.http_log import HTTPLog
    from datadog_api_client.v2.model.http_log_item import HTTPLogItem

    configuration = Configuration(api_key={"apiKeyAuth": "0" * 32})
    with ApiClient(configuration) as api:
        logs = LogsApi(api)
        logs._submit_log_endpoint.settings["servers"] = [{"url": f"http://127.0.0.1:{port}"}]
        for start in range(0, len(rows), 300):
            items = [
                HTTPLogItem(
                    ddsource="python",
                    ddtags="env:test,team:a",
                    hostname="web-1",
                    message=row["message"],
                    service=row["service"],
                    status=row["level"],
                    timestamp=row["timestamp"],
                    client=name,
                    seq=str(row["seq"]),
                )
                for row in rows[start : start + 300]
            ]
            logs.submit_log(content_encoding=ContentEncoding(encoding), body=HTTPLog(items))
    print(json.dumps({"taken": len(rows)}))


def splunk_handler():
    from splunk_handler import SplunkHandler

    handler = SplunkHandler(
        host="127.0.0.1", port=port, token="t", index="main", hostname="web-1", source="script", protocol="http", verify=False,
        flush_interval=0.2, sourcetype="text", queue_size=0, retry_count=0,
    )
    log(handler, lambda row: f"{name} {row['seq']} {row['message']}")
    handler.force_flush()
    print(json.dumps({"taken": len(rows)}))


def splunk_hec():
    from splunk_hec_handler import SplunkHecHandler

    handler = SplunkHecHandler(
        "127.0.0.1", "t", port=port, proto="http", hostname="web-1", source="script", sourcetype="_json", index="main",
    )
    # A request for each.
    del rows[100:]
    log(handler, lambda row: {
        "message": row["message"], "service": row["service"], "client": name, "seq": row["seq"],
        "time": row["seq"] + 1_750_000_000.25, "fields": {"team": "a"},
    })
    print(json.dumps({"taken": len(rows)}))


def log(handler, message):
    logger = logging.getLogger("sender")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    for row in rows:
        logger.warning(message(row))


match client:
    case "elasticsearch-create" | "elasticsearch-index":
        elasticsearch(client.removeprefix("elasticsearch-"))
    case "datadog-identity" | "datadog-gzip" | "datadog-deflate":
        datadog(client.removeprefix("datadog-"))
    case "splunk-handler":
        splunk_handler()
    case "splunk-hec-handler":
        splunk_hec()
    case _:
        sys.exit(f"no such client: {client}")
