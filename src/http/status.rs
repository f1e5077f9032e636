//! The status codes Ringhouse answers with.

/// Status of a reply. RFC 9110 section 15; 431 and 429 are from RFC 6585.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// Rows are where the named ack level says they are.
    Ok = 200,
    /// Rows are in memory; the process may still lose them.
    Accepted = 202,
    /// As 200, without a body.
    NoContent = 204,
    /// The request or all of its rows are malformed.
    BadRequest = 400,
    /// No key, or none that is known.
    Unauthorized = 401,
    /// A key that does not reach this.
    Forbidden = 403,
    /// Path or table that is not served.
    NotFound = 404,
    /// Known path, other method.
    MethodNotAllowed = 405,
    /// The client sent too little in the time it has.
    RequestTimeout = 408,
    /// A request with the same Idempotency-Key is not answered yet.
    Conflict = 409,
    /// A body was needed and its length is not given.
    LengthRequired = 411,
    /// Body or line above the limit.
    ContentTooLarge = 413,
    /// Request line above the limit.
    UriTooLong = 414,
    /// Content-Encoding that is not supported.
    UnsupportedMediaType = 415,
    /// An expectation other than `100-continue`.
    ExpectationFailed = 417,
    /// Over the client's quota.
    TooManyRequests = 429,
    /// Head above the limits.
    HeaderFieldsTooLarge = 431,
    /// A defect of ours.
    InternalServerError = 500,
    /// Transfer coding or method that is not implemented.
    NotImplemented = 501,
    /// Full or draining; try again later.
    ServiceUnavailable = 503,
    /// HTTP version other than 1.0 and 1.1.
    VersionNotSupported = 505,
}

impl Status {
    /// The status of an ingest reply: success when at least one row was accepted, 400 when none was.
    ///
    /// `durable` says whether the ack level reached outlives the process; without it success is a 202.
    pub fn of_rows(accepted: u64, durable: bool) -> Status {
        match (accepted, durable) {
            (0, _) => Status::BadRequest,
            (_, true) => Status::Ok,
            (_, false) => Status::Accepted,
        }
    }

    /// Every status, in the order of the codes.
    pub const ALL: [Status; 21] = [
        Status::Ok,
        Status::Accepted,
        Status::NoContent,
        Status::BadRequest,
        Status::Unauthorized,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::Conflict,
        Status::LengthRequired,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::UnsupportedMediaType,
        Status::ExpectationFailed,
        Status::TooManyRequests,
        Status::HeaderFieldsTooLarge,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::ServiceUnavailable,
        Status::VersionNotSupported,
    ];

    /// The status with this code, if it is one of ours.
    pub fn from_code(code: u16) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The three-digit code.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The status line with its line end.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.1 200 OK\r\n",
            Status::Accepted => "HTTP/1.1 202 Accepted\r\n",
            Status::NoContent => "HTTP/1.1 204 No Content\r\n",
            Status::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Status::Unauthorized => "HTTP/1.1 401 Unauthorized\r\n",
            Status::Forbidden => "HTTP/1.1 403 Forbidden\r\n",
            Status::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Status::Conflict => "HTTP/1.1 409 Conflict\r\n",
            Status::LengthRequired => "HTTP/1.1 411 Length Required\r\n",
            Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Status::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Status::UnsupportedMediaType => "HTTP/1.1 415 Unsupported Media Type\r\n",
            Status::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Status::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Status::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Status::InternalServerError => "HTTP/1.1 500 Internal Server Error\r\n",
            Status::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Status::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Status::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_acknowledged_with_200_or_202_and_refused_with_400() {
        assert_eq!(Status::of_rows(3, true), Status::Ok);
        assert_eq!(Status::of_rows(3, false), Status::Accepted);
        assert_eq!(Status::of_rows(0, true), Status::BadRequest);
        assert_eq!(Status::of_rows(0, false), Status::BadRequest);
    }

    #[test]
    fn finds_each_status_by_its_code_and_no_other() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        assert!(Status::ALL.is_sorted_by_key(|status| status.code()));
        assert_eq!([0, 201, 418, 999].map(Status::from_code), [None; 4]);
    }
}
