// Sends records from standard input with Fluent's logger for Node, acknowledged: send.mjs PORT TAG MODE [KEY [USER PASSWORD]].

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// The packages are where the test has installed them.
const require = createRequire(`${process.cwd()}/`);
const { EventTime, FluentClient } = require('@fluent-org/logger');

const [port, tag, eventMode, sharedKey, username, password] = process.argv.slice(2);
const client = new FluentClient(tag, {
  eventMode,
  ack: { ackTimeout: 30_000 },
  socket: { host: '127.0.0.1', port: Number(port), timeout: 30_000 },
  security: sharedKey && { clientHostname: 'client', sharedKey, username, password },
  onSocketError: (error) => console.log(error),
});
const records = readFileSync(0, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
await Promise.all(records.map((record) => {
  const nanos = 1_750_000_000_000_000_000n + BigInt(record.seq) * 1_000_000_007n;
  const second = 1_000_000_000n;
  return client.emit(record, new EventTime(Number(nanos / second), Number(nanos % second)));
}));
await client.shutdown();
