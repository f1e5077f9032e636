// Sends records from standard input with OpenTelemetry's SDK: send.mjs ENDPOINT none|gzip CLIENT.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// The packages are where the test has installed them.
const require = createRequire(`${process.cwd()}/`);
const { DiagConsoleLogger, DiagLogLevel, ROOT_CONTEXT, diag, trace } = require('@opentelemetry/api');
const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-http');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');

const [url, compression, client] = process.argv.slice(2);
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

// Bytes are written as {"bytes": [...]}.
function value(written) {
  if (Array.isArray(written)) return written.map(value);
  if (written === null || typeof written !== 'object') return written;
  if (Object.keys(written).join() === 'bytes') return Uint8Array.from(written.bytes);
  return Object.fromEntries(Object.entries(written).map(([key, inner]) => [key, value(inner)]));
}

function time(nanos) {
  const second = 1_000_000_000n;
  return [Number(BigInt(nanos) / second), Number(BigInt(nanos) % second)];
}

const rows = readFileSync(0, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
for (const service of new Set(rows.map((row) => row.service))) {
  const own = rows.filter((row) => row.service === service);
  const resource = resourceFromAttributes(
    { 'service.name': service, client, cpus: 4 },
    { schemaUrl: 'urn:resource' },
  );
  const exporter = new OTLPLogExporter({ url, compression });
  const processor = new BatchLogRecordProcessor({ exporter, maxQueueSize: own.length + 512 });
  const provider = new LoggerProvider({ resource, processors: [processor] });
  const logger = provider.getLogger('sender', '1.2.3', { schemaUrl: 'urn:scope' });
  for (const row of own) {
    const { trace: traceId, span: spanId, flags: traceFlags } = row;
    logger.emit({
      timestamp: time(row.time),
      observedTimestamp: time(row.observed),
      severityNumber: row.severity_number,
      severityText: row.severity_text,
      body: value(row.body),
      attributes: value(row.attributes),
      eventName: row.event || undefined,
      context: traceId
        ? trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags })
        : ROOT_CONTEXT,
    });
  }
  await provider.forceFlush();
  await provider.shutdown();
}
