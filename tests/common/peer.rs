//! A client of gRPC that sends what grpcio does not: messages in any coding, and as fast as its window allows.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::runtime::Runtime;

use super::common::PATIENCE;

/// A connection of HTTP/2, which moves on while something of it is waited for.
pub struct Peer {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

/// How a call ended, and the messages before that.
#[derive(Debug)]
pub struct Ended {
    pub code: u16,
    /// It is told when to come again.
    pub has_details: bool,
    pub messages: Vec<Vec<u8>>,
}

impl Peer {
    /// A connection whose replies find a window of `window_bytes` for each stream.
    pub fn connect(port: u16, window_bytes: u32) -> Peer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let requests = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap();
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window_bytes);
            let (requests, connection) = builder.handshake(tcp).await.unwrap();
            tokio::spawn(connection);
            requests
        });
        Peer { runtime, requests }
    }

    /// Waits for something of the connection.
    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, what).await })
            .expect("it comes in time")
    }

    /// The same, but for so long at most.
    pub fn wait_for<T>(&self, longest: Duration, what: impl Future<Output = T>) -> Option<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(longest, what).await })
            .ok()
    }

    /// Begins a call.
    pub fn begin(
        &mut self,
        path: &str,
        metadata: &[(&str, &str)],
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let ready = self.requests.clone().ready();
        let mut requests = self.wait(ready).unwrap();
        requests.send_request(request, false).unwrap()
    }

    /// Makes a call of these frames, each a message behind its prefix.
    pub fn call(&mut self, path: &str, metadata: &[(&str, &str)], frames: &[Vec<u8>]) -> Ended {
        let (response, mut sender) = self.begin(path, metadata);
        sender.send_data(Bytes::from(frames.concat()), true).unwrap();
        self.wait(async {
            let (head, body) = response.await.unwrap().into_parts();
            ended(&head.headers, body).await
        })
    }
}

async fn ended(head: &HeaderMap, mut body: RecvStream) -> Ended {
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    // A call without a message has its status in its head.
    let trailers = body.trailers().await.unwrap().unwrap_or_else(|| head.clone());
    let mut messages = Vec::new();
    let mut rest = &received[..];
    while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        messages.push(after[..length].to_vec());
        rest = &after[length..];
    }
    Ended {
        code: trailers["grpc-status"].to_str().unwrap().parse().unwrap(),
        has_details: trailers.contains_key("grpc-status-details-bin"),
        messages,
    }
}

/// A message behind its prefix.
pub fn frame(message: &[u8], is_compressed: bool) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(is_compressed)], &length[..], message].concat()
}
