"""Sends records from standard input with Fluent's logger for Python: send.py PORT TAG."""

import json
import sys

from fluent import sender

port, tag = sys.argv[1:]
logger = sender.FluentSender(tag, host="127.0.0.1", port=int(port), timeout=30.0)
for record in map(json.loads, sys.stdin):
    time = sender.EventTime.from_unix_nano(1_750_000_000_000_000_000 + record["seq"] * 1_000_000_007)
    if not logger.emit_with_time("row", time, record):
        print(logger.last_error)
logger.close()
