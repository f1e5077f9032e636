// Posts rows, JSON lines on stdin, as LogEntryBatch messages of protobufjs, and one as a LogEntry.
//
// entries.mjs URL CLIENT

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Packages are where this is run, not where it stands.
const require = createRequire(`${process.cwd()}/package.json`);
const protobuf = require("protobufjs");

const { root } = protobuf.parse(`
    syntax = "proto3";
    package logs;
    enum Level { DEBUG = 0; INFO = 1; WARN = 2; ERROR = 3; FATAL = 4; }
    message LogEntry {
        string id = 1; string app_id = 2; int64 timestamp = 3; Level level = 4; string message = 5; string source = 6;
        string environment = 7; map<string, string> metadata = 8; string trace_id = 9; string user_id = 10;
    }
    message LogEntryBatch { repeated LogEntry entries = 1; }
`, { keepCase: true });
const LogEntry = root.lookupType("logs.LogEntry");
const LogEntryBatch = root.lookupType("logs.LogEntryBatch");

async function post(contentType, bytes, accepted) {
    const reply = await fetch(url, { method: "POST", headers: { "Content-Type": contentType }, body: bytes });
    const body = await reply.json();
    if (reply.status !== 202 || !body.success || body.stats.accepted !== accepted || body.stats.rejected !== 0) {
        console.error(reply.status, JSON.stringify(body));
        process.exit(1);
    }
}

const [url, client] = process.argv.slice(2);
const entries = [];
for await (const line of createInterface({ input: process.stdin })) {
    const row = JSON.parse(line);
    entries.push(LogEntry.fromObject({
        id: `e${row.seq}`,
        app_id: client,
        timestamp: row.time_ms,
        level: row.level === "warn" ? "WARN" : row.level.toUpperCase(),
        message: row.message,
        source: row.service,
        environment: "test",
        metadata: { seq: String(row.seq) },
    }));
}
await post("application/x-protobuf", LogEntry.encode(entries[0]).finish(), 1);
for (let at = 1; at < entries.length; at += 100) {
    const batch = entries.slice(at, at + 100);
    await post("application/x-protobuf-batch", LogEntryBatch.encode({ entries: batch }).finish(), batch.length);
}
