// Sends rows from standard input with a client of another server: send.mjs CLIENT PORT NAME.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// The packages are where the test has installed them.
const require = createRequire(`${process.cwd()}/`);
const [client, port, name] = process.argv.slice(2);
const rows = readFileSync(0, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));

async function elasticsearch() {
  const { Client } = require('@elastic/elasticsearch');
  const server = new Client({ node: `http://127.0.0.1:${port}` });
  let rejected = 0;
  const told = await server.helpers.bulk({
    flushBytes: 100_000,
    retries: 2,
    onDocument: () => ({ create: { _index: 'logs-app' } }),
    onDrop: () => { rejected += 1; },
    datasource: rows.map((row) => ({
      '@timestamp': row.timestamp,
      log: { level: row.level, logger: 'a.b' },
      message: row.message,
      service: { name: row.service },
      host: { name: 'web-1' },
      client: name,
      seq: row.seq,
    })),
  });
  if (told.retry !== 0) throw new Error(`repeated: ${JSON.stringify(told)}`);
  console.log(JSON.stringify({ taken: told.successful, rejected }));
}

async function splunk() {
  const { Logger } = require('splunk-logging');
  const logger = new Logger({ token: 't', url: `http://127.0.0.1:${port}`, maxBatchCount: 0 });
  logger.error = (error) => { throw new Error(error); };
  for (const row of rows) {
    logger.send({
      message: `${name} ${row.seq} ${row.message}`,
      metadata: { time: 1_750_000_000.25 + row.seq, host: 'web-1', source: 'script', sourcetype: '_json', index: 'main' },
    });
  }
  await new Promise((resolve) => logger.flush((error, _, body) => {
    if (error || body.code !== 0) throw new Error(JSON.stringify(body));
    resolve();
  }));
  console.log(JSON.stringify({ taken: rows.length }));
}

await { elasticsearch, splunk }[client]();
