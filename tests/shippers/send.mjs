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

// Complaints of a stream or logger end the process.
function strictly(emitter) {
  for (const event of ['error', 'warn', 'insertError', 'unknown']) {
    emitter.on(event, (error) => { throw new Error(`${event}: ${error.stack ?? JSON.stringify(error)}`); });
  }
  return emitter;
}

async function pino() {
  const stream = strictly(require('pino-elasticsearch')({
    index: 'logs-app', node: `http://127.0.0.1:${port}`, flushBytes: 20_000,
  }));
  let time;
  const logger = require('pino')({ base: { client: name }, timestamp: () => `,"time":"${time}"` }, stream);
  for (const row of rows) {
    time = row.timestamp;
    logger[row.level]({ service: row.service, seq: row.seq }, row.message);
  }
  const inserted = new Promise((resolve) => { stream.on('insert', resolve); });
  await new Promise((resolve) => stream.end(resolve));
  await inserted;
  console.log(JSON.stringify({ taken: rows.length }));
}

async function winstonElasticsearch() {
  const { ElasticsearchTransport } = require('winston-elasticsearch');
  const transport = strictly(new ElasticsearchTransport({
    index: 'logs-app',
    clientOpts: { node: `http://127.0.0.1:${port}` },
    transformer: ({ message, level, meta: { time, ...meta } }) => ({ '@timestamp': time, message, severity: level, ...meta }),
  }));
  const logger = strictly(require('winston').createLogger({ transports: [transport] }));
  for (const row of rows) {
    logger.log(row.level, row.message, { time: row.timestamp, service: row.service, client: name, seq: row.seq });
  }
  await transport.flush();
  console.log(JSON.stringify({ taken: rows.length }));
}

async function winstonSplunk() {
  const Transport = require('winston-splunk-httplogger');
  const transport = strictly(new Transport({ splunk: {
    token: 't',
    url: `http://127.0.0.1:${port}`,
    eventFormatter: ({ msg, meta }) => ({ ...meta, message: msg }),
  } }));
  const logger = strictly(require('winston').createLogger({ transports: [transport] }));
  let logged = 0;
  await new Promise((resolve) => {
    transport.on('logged', () => { if (++logged === rows.length) resolve(); });
    for (const row of rows) logger.log(row.level, row.message, { service: row.service, client: name, seq: row.seq });
  });
  console.log(JSON.stringify({ taken: rows.length }));
}

await { elasticsearch, splunk, pino, winstonElasticsearch, winstonSplunk }[client]();
