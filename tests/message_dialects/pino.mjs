// Sends lines with pino-loki: rows come as JSON lines on stdin.
//
// pino.mjs URL json CLIENT

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Packages are where this is run, not where it stands.
const require = createRequire(`${process.cwd()}/package.json`);
const pino = require("pino");
const { pinoLoki } = require("pino-loki");

const [host, , client] = process.argv.slice(2);
const stream = pinoLoki({
    host,
    batching: { interval: 1 },
    labels: { client },
    propsToLabels: ["app", "seq"],
    logFormat: ({ msg }) => msg,
});
let time;
const logger = pino({ level: "trace", base: null, timestamp: () => `,"time":${time}` }, stream);
for await (const line of createInterface({ input: process.stdin })) {
    const row = JSON.parse(line);
    time = row.time_ms;
    logger[row.level]({ app: row.service, seq: String(row.seq) }, row.message);
}
stream.end();
