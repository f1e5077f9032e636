//! Carries one connection of the client library to ClickHouse through TLS.
//!
//! `clickhouse-rs` opens its own TCP connection and speaks TLS through OpenSSL alone, which would bring a second TLS
//! library with other roots and other rules. So it is given a port of loopback that takes one connection, for as long as
//! this lives in memory of one process and nowhere else: what it sends there leaves the machine inside TLS only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use crate::tls::{self, Trust};

/// Connects to the server, so that what is wrong with it is told here, and then waits for one connection at the address it
/// returns, no longer than `patience`. The relay ends with either connection, or with the event loop.
///
/// # Errors
/// No connection, or a server that is not who it should be, in words for the operator.
pub(super) async fn open(
    endpoint: &Endpoint,
    trust: &Trust,
    patience: Duration,
) -> Result<SocketAddr, String> {
    let config = trust.config().map_err(|error| error.to_string())?;
    let name = tls::server_name(&endpoint.host).map_err(|error| error.to_string())?;
    let socket = TcpStream::connect(endpoint.authority())
        .await
        .map_err(|error| error.to_string())?;
    let server = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|error| tls::explained(error).to_string())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let authority = endpoint.authority();
    tokio::spawn(async move {
        // Whatever ends it, the library sees the end of its connection, and no more. In TLS 1.3 a server says only now what it
        // thinks of our certificate.
        if let Err(error) = serve(listener, server, patience).await.map_err(tls::explained)
            && error.kind() == io::ErrorKind::InvalidData
        {
            tracing::warn!(endpoint = %authority, %error, "the connection to ClickHouse broke");
        }
    });
    Ok(address)
}

async fn serve(
    listener: TcpListener,
    mut server: TlsStream<TcpStream>,
    patience: Duration,
) -> io::Result<()> {
    let (mut client, _) = tokio::time::timeout(patience, listener.accept()).await??;
    // Nobody else gets in.
    drop(listener);
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
