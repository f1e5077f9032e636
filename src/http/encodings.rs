//! TODO
/// Content coding of a body. RFC 9110 section 8.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952; also sent as `x-gzip`.
    Gzip,
    /// RFC 1950, or RFC 1951 without its wrapper as some clients send it.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The coding of a Content-Encoding token, in any case.
    pub fn from_token(token: &[u8]) -> Option<Encoding> {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        match token.len() {
            8 if is("identity") => Some(Encoding::Identity),
            4 if is("gzip") => Some(Encoding::Gzip),
            6 if is("x-gzip") => Some(Encoding::Gzip),
            7 if is("deflate") => Some(Encoding::Deflate),
            4 if is("zstd") => Some(Encoding::Zstd),
            _ => None,
        }
    }
}
