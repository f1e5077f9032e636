"""Sends lines with python-logging-loki: rows come as JSON lines on stdin, tags and level with each.

loki.py URL VERSION CLIENT
"""

import json
import logging
import sys

import logging_loki

url, version, client = sys.argv[1:]
handler = logging_loki.LokiHandler(url=url, tags={"client": client}, version=version)
logger = logging.getLogger("sender")
logger.setLevel(logging.DEBUG)
logger.addHandler(handler)
for line in sys.stdin:
    row = json.loads(line)
    tags = {"app": row["service"], "seq": str(row["seq"])}
    logger.log(logging.getLevelName(row["level"].upper()), "%s", row["message"], extra={"tags": tags})
