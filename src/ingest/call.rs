//! Calls of gRPC that are not one message of rows and its reply.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::access;
use crate::catalog::Lookup;
use crate::grpc::frame::{FrameError, put_message};
use crate::grpc::health::{self, Serving};
use crate::grpc::reflection;
use crate::grpc::reply::{put_failure, put_success, trailers};
use crate::http::body::BodyError;
use crate::http::encodings::Encoding;
use crate::http::head::Framing;
use crate::http::status::Status;

use super::Core;
use super::body::Failure;
use super::connection::{Next, Plan, Session};
use super::http2::Stream;
use super::link::Link;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
    /// `logs.LogService/HealthCheck`.
    LogsHealth,
    /// `ServerReflectionInfo`, of both versions, which have the same messages.
    Reflection,
    /// `ringhouse.v1.Ingest/Stream`.
    Rows,
}

impl Call {
    /// The call at a path.
    pub(super) fn at(path: &str) -> Option<Call> {
        Some(match path {
            "/grpc.health.v1.Health/Check" => Call::HealthCheck,
            "/grpc.health.v1.Health/Watch" => Call::HealthWatch,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Call::Reflection,
            "/logs.LogService/HealthCheck" => Call::LogsHealth,
            "/ringhouse.v1.Ingest/Stream" => Call::Rows,
            _ => return None,
        })
    }
}

/// A call's end that is not OK.
pub(super) struct Refusal {
    pub status: Status,
    pub sentence: String,
    /// Seconds after which it may come again, where those are not `retry_after_s`.
    pub retry_after_s: Option<u32>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::new(failure.status(), failure.to_string())
    }
}

impl From<access::Refusal> for Refusal {
    fn from(refusal: access::Refusal) -> Refusal {
        let over_quota = refusal.over_quota();
        Refusal {
            retry_after_s: over_quota.and_then(|over| u32::try_from(over.retry_after_s).ok()),
            ..Refusal::new(refusal.status(), refusal.to_string())
        }
    }
}

impl Refusal {
    pub(super) fn new(status: Status, sentence: impl Into<String>) -> Refusal {
        Refusal {
            status,
            sentence: sentence.into(),
            retry_after_s: None,
        }
    }

    pub(super) fn malformed() -> Refusal {
        let sentence = "the message is not the protobuf message it should be";
        Refusal::new(Status::BadRequest, sentence)
    }

    pub(super) fn draining() -> Refusal {
        Refusal::new(Status::ServiceUnavailable, "the server is shutting down")
    }
}

impl Session<'_> {
    /// Serves a call to its end.
    pub(super) async fn call(&mut self, call: Call, plan: &Plan) -> io::Result<Next> {
        match call {
            Call::HealthCheck => self.check(plan).await?,
            Call::HealthWatch => self.watch_health(plan).await?,
            Call::LogsHealth => self.logs_health(plan).await?,
            Call::Reflection => self.reflect(plan.encoding).await?,
            Call::Rows => unreachable!("it has a table"),
        }
        Ok(Next::Close)
    }

    async fn check(&mut self, plan: &Plan) -> io::Result<()> {
        let asked = match self.health_request(plan).await? {
            Ok(serving) => serving,
            Err(refusal) => return self.refuse_call(&refusal).await,
        };
        match asked {
            Serving::Unknown => {
                let refusal = Refusal::new(Status::NotFound, "no such service is here");
                self.refuse_call(&refusal).await
            }
            serving => {
                put_success(&mut self.out, |out| serving.put(out));
                self.core.metrics.request(Status::Ok.code());
                self.flush().await
            }
        }
    }

    async fn logs_health(&mut self, plan: &Plan) -> io::Result<()> {
        // Its request has no fields.
        if let Err(failure) = self.receive_message(Framing::OnlyMessage, plan.encoding).await? {
            return self.refuse_call(&failure.into()).await;
        }
        let core = self.core;
        put_success(&mut self.out, |out| {
            health::put_logs_health(core.serving(), core.clock.unix_ns(), out);
        });
        core.metrics.request(Status::Ok.code());
        self.flush().await
    }

    async fn watch_health(&mut self, plan: &Plan) -> io::Result<()> {
        let asked = match self.health_request(plan).await? {
            Ok(serving) => serving,
            Err(refusal) => return self.refuse_call(&refusal).await,
        };
        let core = self.core;
        self.begin_replies()?;
        let mut told = None;
        loop {
            let changed = core.health_changed.notified();
            let now = match asked {
                Serving::Unknown => Serving::Unknown,
                _ => core.serving(),
            };
            if told.replace(now) != Some(now) {
                self.send_message(|out| now.put(out)).await?;
            }
            if core.draining.get() {
                return self.end_call(Some(&Refusal::draining()));
            }
            let mut changed = pin!(changed);
            poll_fn(|cx| match changed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => self.stream().poll_reset(cx).map(Err),
            })
            .await?;
        }
    }

    async fn health_request(&mut self, plan: &Plan) -> io::Result<Result<Serving, Refusal>> {
        let source = match self.receive_message(Framing::OnlyMessage, plan.encoding).await? {
            Ok(source) => source,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let asked = health::service(source.text(&self.buffer).0);
        Ok(match asked {
            Err(_) => Err(Refusal::malformed()),
            Ok("") => Ok(self.core.serving()),
            Ok(name) if reflection::services().any(|service| service == name) => Ok(self.core.serving()),
            Ok(_) => Ok(Serving::Unknown),
        })
    }

    async fn reflect(&mut self, encoding: Encoding) -> io::Result<()> {
        self.begin_replies()?;
        loop {
            let source = match self.receive_message(Framing::OneMessage, encoding).await? {
                Ok(source) => source,
                Err(Failure::Body(BodyError::Message(FrameError::None))) => return self.end_call(None),
                Err(failure) => return self.end_call(Some(&failure.into())),
            };
            let mut response = Vec::new();
            if reflection::put_response(source.text(&self.buffer).0, &mut response).is_err() {
                return self.end_call(Some(&Refusal::malformed()));
            }
            drop(source);
            self.send_message(|out| out.extend_from_slice(&response)).await?;
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        match &mut self.connection {
            Link::Stream(stream) => stream,
            Link::Connection(_) => unreachable!("a call comes by a stream"),
        }
    }

    /// Sends the fields that stand before the first of many replies.
    pub(super) fn begin_replies(&mut self) -> io::Result<()> {
        let mut response = Response::new(());
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(
            "grpc-accept-encoding",
            HeaderValue::from_static("identity,gzip,deflate,zstd"),
        );
        self.core.metrics.request(Status::Ok.code());
        self.stream().begin(response, false)
    }

    /// Sends one of many replies.
    pub(super) async fn send_message(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut message = Vec::new();
        put_message(&mut message, put);
        let deadline_ms = self.core.coarse_ms.get() + self.core.limits.reply_deadline_ms;
        let stream = self.stream();
        stream.watch().set_deadline(deadline_ms);
        stream.send(Bytes::from(message), false).await
    }

    /// Ends a call after the replies it had.
    pub(super) fn end_call(&mut self, refusal: Option<&Refusal>) -> io::Result<()> {
        let mut fields = HeaderMap::new();
        match refusal {
            None => {
                fields.insert("grpc-status", HeaderValue::from_static("0"));
            }
            Some(refusal) => {
                let retry_after_s = self.retry_after_s(refusal);
                for (name, value) in trailers(refusal.status, &refusal.sentence, retry_after_s) {
                    let value = HeaderValue::from_bytes(&value).map_err(io::Error::other)?;
                    fields.insert(HeaderName::from_static(name), value);
                }
            }
        }
        self.stream().finish(fields)
    }

    /// Ends a call that had no reply.
    pub(super) async fn refuse_call(&mut self, refusal: &Refusal) -> io::Result<()> {
        let retry_after_s = self.retry_after_s(refusal);
        put_failure(&mut self.out, refusal.status, &refusal.sentence, retry_after_s);
        self.core.metrics.request(refusal.status.code());
        self.flush().await
    }

    fn retry_after_s(&self, refusal: &Refusal) -> u32 {
        refusal.retry_after_s.unwrap_or(self.core.limits.retry_after_s)
    }
}

impl Core {
    /// Whether this core takes rows now. What it does not know of others `/readyz` does.
    fn serving(&self) -> Serving {
        let default = self.catalog.default_table();
        let table = self.catalog.lookup(Some(&default.database), Some(&default.table));
        match (self.draining.get(), self.log_error.get(), table) {
            (false, None, Lookup::Found(_)) => Serving::Serving,
            _ => Serving::NotServing,
        }
    }
}
