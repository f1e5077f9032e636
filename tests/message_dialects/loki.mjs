// Sends lines with winston-loki: rows come as JSON lines on stdin.
//
// loki.mjs URL json|protobuf CLIENT

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Packages are where this is run, not where it stands.
const require = createRequire(`${process.cwd()}/package.json`);
const winston = require("winston");
const LokiTransport = require("winston-loki");

const [url, encoding, client] = process.argv.slice(2);
const transport = new LokiTransport({
    host: url,
    json: encoding === "json",
    interval: 1,
    replaceTimestamp: false,
    gracefulShutdown: false,
    format: winston.format.printf((info) => info.message),
    onConnectionError: (error) => console.error("connection", error),
});
transport.on("error", (error) => console.error("transport", error));
const logger = winston.createLogger({ level: "silly", transports: [transport] });
for await (const line of createInterface({ input: process.stdin })) {
    const row = JSON.parse(line);
    logger.log({
        level: row.level,
        message: row.message,
        timestamp: row.time_ms,
        labels: { client, app: row.service, seq: String(row.seq) },
    });
}
await new Promise((resolve) => setImmediate(resolve));
await transport.flush();
process.exit(0);
