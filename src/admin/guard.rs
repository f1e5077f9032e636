//! Who may read the admin pages.

use super::{AdminState, listener, refuse};
use crate::access::{Access, Credentials, Refusal};
use crate::http::reply::CHALLENGE;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens the pages to those with an admin key, or to all.
#[derive(Debug)]
pub struct Guard {
    /// The keys.
    pub access: Arc<Access>,
    require_key: bool,
    refused: [AtomicU64; Refusal::LABELS.len()],
}

impl Guard {
    /// A guard that asks for a key of `access`, or for none.
    pub fn new(access: Arc<Access>, require_key: bool) -> Guard {
        Guard {
            access,
            require_key,
            refused: Default::default(),
        }
    }

    /// Requests refused so far, by reason, only those that occurred.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let counts = Refusal::LABELS.into_iter().zip(&self.refused);
        counts
            // Relaxed: a count orders nothing.
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn admit(&self, request: &Request, from: IpAddr) -> Result<(), Refusal> {
        if !self.require_key {
            return Ok(());
        }
        let mut credentials = Credentials::default();
        for (name, value) in request.headers() {
            credentials.header(name.as_str().as_bytes(), value.as_bytes())?;
        }
        credentials.query(request.uri().query().unwrap_or_default())?;
        self.access.admit_admin(credentials, from)
    }
}

/// Address of a connection's other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, listener::Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, listener::Bounded>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

/// Lets a request through, or answers it.
///
/// Whether the process lives and takes rows is told to all, as a status without the page: those who restart it and send it
/// traffic (Kubernetes, a load balancer) ask without a key.
pub(super) async fn check(
    State(state): State<Arc<AdminState>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match state.guard.admit(&request, peer.ip()) {
        Ok(()) => next.run(request).await,
        Err(_) if matches!(request.uri().path(), "/livez" | "/readyz") => {
            next.run(request).await.status().into_response()
        }
        Err(refusal) => {
            state.guard.refused[refusal.index()].fetch_add(1, Ordering::Relaxed);
            let status = StatusCode::from_u16(refusal.status().code()).expect("ours are among HTTP's");
            let mut response = refuse(status, &refusal.to_string());
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static(CHALLENGE);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}
