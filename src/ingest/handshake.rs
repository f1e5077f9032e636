//! The TLS handshake of a connection, before its first request.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::runtime::Connection;
use crate::tls::Certificates;

use super::Core;
use super::connection::linger;

/// Makes a connection TLS; `None` when that failed, and the connection is over.
///
/// Runs in the connection's own task: a client that stalls holds its place until `head_deadline_ms` and delays nobody. A
/// core that drains waits for none.
pub(super) async fn shake_hands(
    core: &Rc<Core>,
    certificates: &Certificates,
    mut connection: Connection,
) -> Option<Connection> {
    if core.tls_connections.get() > core.limits.tls_connections_per_core {
        core.metrics.connections_refused.add(1);
        return None;
    }
    let deadline_ms = core.clock.now_ms() + core.limits.head_deadline_ms;
    connection.watch().set_deadline(deadline_ms);
    let result = {
        let mut handshake = pin!(connection.accept_tls(certificates.config()));
        poll_fn(|cx| match core.draining.get() {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            false => handshake.as_mut().poll(cx),
        })
        .await
    };
    let Err(error) = result else {
        return Some(connection);
    };
    core.metrics.tls_handshakes_failed.add(1);
    tracing::debug!(core = core.index, %error, "no TLS connection");
    // It has been told why; an unread byte of it would make the kernel take that back.
    if error.kind() == io::ErrorKind::InvalidData {
        linger(core, &mut connection).await;
    }
    None
}
