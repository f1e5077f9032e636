//! Syslog over UDP: datagrams are taken many at a time, and wait in the kernel while the log is behind.

use std::io;
use std::rc::Rc;

use crate::batch::Span;
use crate::runtime::{self, DatagramSocket};
use crate::syslog::{Messages, trimmed};

use super::port::Port;
use super::stream::{ROWS_MAX, RowsOf};
use super::{ACCEPT_BACKOFF, Core};

/// What a datagram has at most: 65,535 less the headers of IPv4 and UDP, or a little more over IPv6.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Takes datagrams until the core drains, and then those that are there already.
pub(super) async fn receive(core: &Rc<Core>, port: &Port, socket: DatagramSocket) {
    let mut dropped = 0;
    let mut buffer = vec![0; core.limits.datagram_buffer_bytes].into_boxed_slice();
    let mut spans = Vec::with_capacity(ROWS_MAX);
    let mut rows = RowsOf::new(port, &core.limits);
    loop {
        let draining = core.draining.get();
        if !draining {
            let drained = async {
                core.drain_started.notified().await;
                Ok(())
            };
            if let Err(error) = runtime::first(drained, socket.readable()).await {
                tracing::warn!(core = core.index, %error, "cannot receive datagrams");
                runtime::sleep(ACCEPT_BACKOFF).await;
            }
        }
        while let Some(table) = core.table_of_port(port, None).await {
            // Before they are read: here they would be neither in the log nor in the kernel.
            core.wait_for_log(&table).await;
            let filled = fill(core, port, &socket, &mut buffer, &mut spans);
            if let Err(error) = &filled {
                tracing::debug!(core = core.index, %error, "a datagram was not received");
            }
            let dropped_before = std::mem::replace(&mut dropped, socket.dropped());
            // 32 bits there, and they wrap.
            let dropped_now = dropped.wrapping_sub(dropped_before);
            core.metrics.datagrams_dropped.add(u64::from(dropped_now));
            let Ok(count @ 1..) = filled else { break };
            core.metrics.datagrams.add(count as u64);
            let bytes: u64 = spans.iter().map(|span| span.len() as u64).sum();
            core.metrics.bytes_wire.add(bytes);
            core.metrics.bytes_decoded.add(bytes);
            for _ in 0..reject_long(&mut spans, core.limits.line_bytes_max) {
                rows.reject_too_long(core, &table);
            }
            let messages = Messages {
                bytes: &buffer,
                spans: &spans,
            };
            rows.push(core, &table, &messages, None).await;
            runtime::yield_if_needed().await;
        }
        if draining {
            break;
        }
    }
}

/// Receives what is there, as much as fits; how many datagrams came. Those without a message leave no span.
fn fill(
    core: &Core,
    port: &Port,
    socket: &DatagramSocket,
    buffer: &mut [u8],
    spans: &mut Vec<Span>,
) -> io::Result<usize> {
    spans.clear();
    let (mut at, mut count) = (0, 0);
    while count < ROWS_MAX && buffer.len() - at >= DATAGRAM_BYTES_MAX {
        match socket.receive(&mut buffer[at..]) {
            Ok(Some((bytes, from))) => {
                count += 1;
                if let Some(allow) = &port.allow
                    && let Err(refusal) = allow.check(from)
                {
                    core.metrics.refuse(&refusal);
                    continue;
                }
                let message = trimmed(&buffer[at..at + bytes]);
                if !message.is_empty() {
                    spans.push(Span::new(at, at + message.len()));
                }
                at += bytes;
            }
            Ok(None) => break,
            // What came before is taken first; the error comes again if it stays.
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Drops the spans that are too long; how many there were.
fn reject_long(spans: &mut Vec<Span>, bytes_max: usize) -> usize {
    let count = spans.len();
    spans.retain(|span| span.len() <= bytes_max);
    count - spans.len()
}
