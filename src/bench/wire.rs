//! How requests go over a connection, and how they are answered there.

/// What is spoken on the load's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1: a head before each body, replies in the order of the requests.
    Http1,
    /// HTTP/2 by prior knowledge: a stream for each request, replies in any order.
    Http2,
    /// gRPC: a stream of HTTP/2 for each call, with one message.
    Grpc,
    /// Fluent Forward: messages with a chunk each, acknowledged in their order.
    Forward,
    /// Bytes on end, which nobody answers: a request is done with when the socket has taken it.
    OneWay,
}

impl Wire {
    /// Name in results.
    pub fn name(self) -> &'static str {
        match self {
            Wire::Http1 => "HTTP/1.1",
            Wire::Http2 => "HTTP/2",
            Wire::Grpc => "gRPC",
            Wire::Forward | Wire::OneWay => "TCP",
        }
    }
}
