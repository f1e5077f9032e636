//! Finds the token in a request, in every form that shippers send one.
//!
//! | form | sent by |
//! |---|---|
//! | `Authorization: Bearer T` | OTLP exporters, our own clients (RFC 6750) |
//! | `Authorization: Splunk T`, `?token=T` | HTTP Event Collector |
//! | `Authorization: Basic base64(user:T)` | Elasticsearch and Loki clients (RFC 7617), browsers |
//! | `Authorization: ApiKey base64(id:T)`, `ApiKey T` | Elasticsearch clients |
//! | `Authorization: T` | Cribl |
//! | `X-API-Key: T`, `Api-Key: T` | LogTide and others |
//! | `DD-API-KEY: T`, `?dd-api-key=T` | Datadog agents |
//!
//! gRPC sends the same headers as metadata. A token may be sent in several places, two tokens may not: which one
//! decides would be up to the order in which they are looked for.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Refusal;
use super::token::{TOKEN_BYTES_MAX, Token};
use crate::http::head::Head;
use crate::http::uri::percent_decode;

/// Bytes of `user:token` after decoding.
const PAIR_BYTES_MAX: usize = 2 * TOKEN_BYTES_MAX;

/// RFC 7617 asks for padding; not all clients send it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The one token of a request.
///
/// # Errors
/// [`Refusal::Missing`], [`Refusal::Malformed`] or [`Refusal::Ambiguous`].
pub fn token_of(head: &Head<'_>) -> Result<Token, Refusal> {
    let mut credentials = Credentials::default();
    for (name, value) in head.headers() {
        credentials.header(name, value)?;
    }
    credentials.query(head.query)?;
    credentials.token()
}

/// Gathers what was sent. For heads that are no [`Head`]: of HTTP/2, of the admin pages.
#[derive(Debug, Default)]
pub struct Credentials {
    found: Option<Token>,
}

impl Credentials {
    /// Looks at one header; those of other names are left alone.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::Ambiguous`].
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            7 if is("api-key") => self.add(Token::new(value)),
            9 if is("x-api-key") => self.add(Token::new(value)),
            10 if is("dd-api-key") => self.add(Token::new(value)),
            13 if is("authorization") => self.add(authorization(value)),
            _ => Ok(()),
        }
    }

    /// Looks at the parameters of a query, percent-encoded and without its `?`.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::Ambiguous`].
    pub fn query(&mut self, query: &str) -> Result<(), Refusal> {
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if matches!(name, "token" | "dd-api-key") {
                let mut scratch = [0; TOKEN_BYTES_MAX];
                let decoded = percent_decode(value, &mut scratch).ok();
                self.add(decoded.and_then(|text| Token::new(text.as_bytes())))?;
            }
        }
        Ok(())
    }

    /// The token that was found.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub fn token(self) -> Result<Token, Refusal> {
        self.found.ok_or(Refusal::Missing)
    }

    fn add(&mut self, token: Option<Token>) -> Result<(), Refusal> {
        let token = token.ok_or(Refusal::Malformed)?;
        match &self.found {
            Some(found) if *found != token => Err(Refusal::Ambiguous),
            _ => {
                self.found = Some(token);
                Ok(())
            }
        }
    }
}

fn authorization(value: &[u8]) -> Option<Token> {
    let Some(blank) = memchr::memchr(b' ', value) else {
        return Token::new(value);
    };
    let (scheme, rest) = (&value[..blank], value[blank..].trim_ascii());
    let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
    if is("bearer") || is("splunk") {
        return Token::new(rest);
    }
    let mut pair = [0; PAIR_BYTES_MAX];
    if is("basic") {
        return secret_of_pair(rest, &mut pair).and_then(Token::new);
    }
    if is("apikey") {
        // A plain key is hardly ever base64 of visible characters with a colon among them; one of ours never, it has a `_`.
        return Token::new(secret_of_pair(rest, &mut pair).unwrap_or(rest));
    }
    None
}

/// What is behind the first colon of base64 text, if that holds nothing but visible ASCII.
fn secret_of_pair<'p>(text: &[u8], pair: &'p mut [u8; PAIR_BYTES_MAX]) -> Option<&'p [u8]> {
    let length = BASE64.decode_slice(text, pair).ok()?;
    let pair = &pair[..length];
    let colon = memchr::memchr(b':', pair)?;
    pair.iter().all(u8::is_ascii_graphic).then(|| &pair[colon + 1..])
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::http::head::{Parse, parse_head};
    use crate::limits::Limits;

    fn token_in(target: &str, headers: &[&str]) -> Result<Token, Refusal> {
        let mut head = format!("POST {target} HTTP/1.1\r\nHost: x\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        match parse_head(head.as_bytes(), &Limits::default()) {
            Ok(Parse::Complete(_, head)) => token_of(&head),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    fn sent(target: &str, headers: &[&str]) -> Result<String, Refusal> {
        token_in(target, headers).map(|token| token.expose().to_owned())
    }

    const T: &str = "rh_0123456789-abcdefghijklmnopqrstuvwxyzABCDEF";

    #[test]
    fn finds_the_token_in_every_form() {
        let pair = |text: &str| BASE64_STANDARD.encode(text);
        for header in [
            format!("Authorization: Bearer {T}"),
            format!("authorization: bearer   {T}  "),
            format!("Authorization: Splunk {T}"),
            format!("Authorization: Basic {}", pair(&format!("elastic:{T}"))),
            format!("Authorization: Basic {}", pair(&format!(":{T}"))),
            format!(
                "AUTHORIZATION: BASIC {}",
                BASE64_STANDARD_NO_PAD.encode(format!("u:{T}"))
            ),
            format!("Authorization: ApiKey {}", pair(&format!("VuaCfGcBCdbkQm:{T}"))),
            format!("Authorization: ApiKey {T}"),
            format!("Authorization: {T}"),
            format!("X-API-Key: {T}"),
            format!("x-api-key:{T}"),
            format!("Api-Key: {T}"),
            format!("DD-API-KEY: {T}"),
        ] {
            assert_eq!(sent("/ingest", &[&header]), Ok(T.to_owned()), "{header}");
        }
        for target in ["/x?token=", "/x?a=b&token=", "/x?dd-api-key="] {
            assert_eq!(sent(&format!("{target}{T}&c"), &[]), Ok(T.to_owned()), "{target}");
        }
        assert_eq!(sent("/x?token=rh%5Fa%2Bb", &[]), Ok("rh_a+b".to_owned()));
    }

    #[test]
    fn a_password_may_hold_colons_and_a_key_that_looks_like_base64_is_taken_as_it_is() {
        let header = format!("Authorization: Basic {}", BASE64_STANDARD.encode("user:a:b"));
        assert_eq!(sent("/", &[&header]), Ok("a:b".to_owned()));
        let hex = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            sent("/", &[&format!("Authorization: ApiKey {hex}")]),
            Ok(hex.to_owned())
        );
    }

    #[test]
    fn without_a_token_it_is_missing() {
        for headers in [
            &[][..],
            &["Authorisation: Bearer x"],
            &["X-Api-Keys: x"],
            &["Cookie: token=x"],
        ] {
            assert_eq!(
                sent("/ingest?tokens=x&Token=x", headers),
                Err(Refusal::Missing),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn rejects_what_holds_no_token() {
        let basic = |text: &[u8]| format!("Authorization: Basic {}", BASE64_STANDARD.encode(text));
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for header in [
            "Authorization:".to_owned(),
            "Authorization: Bearer a b".to_owned(),
            "Authorization: Digest username=x".to_owned(),
            "Authorization: Basic".to_owned() + " !!",
            "X-API-Key:".to_owned(),
            "X-API-Key: a b".to_owned(),
            format!("DD-API-KEY: {long}"),
            basic(b"no colon"),
            basic(b"nocolon"),
            basic(b"user:"),
            basic(b"user:\xff"),
            basic("user:".repeat(200).as_bytes()),
        ] {
            assert_eq!(sent("/", &[&header]), Err(Refusal::Malformed), "{header}");
        }
        for query in [
            "token=",
            "token",
            "token=%",
            "token=%00",
            "token=a%20b",
            &format!("token={long}"),
        ] {
            assert_eq!(
                sent(&format!("/?{query}"), &[]),
                Err(Refusal::Malformed),
                "{query}"
            );
        }
    }

    #[test]
    fn one_token_in_two_places_is_taken_and_two_tokens_are_refused() {
        let bearer = format!("Authorization: Bearer {T}");
        let key = format!("X-API-Key: {T}");
        assert_eq!(
            sent(&format!("/?token={T}"), &[&bearer, &key, &bearer]),
            Ok(T.to_owned())
        );
        for (target, headers) in [
            ("/", &[bearer.as_str(), "X-API-Key: other"][..]),
            ("/", &[bearer.as_str(), "Authorization: Bearer other"]),
            ("/?token=other", &[bearer.as_str()]),
            ("/?token=a&token=b", &[]),
            ("/?token=a&dd-api-key=b", &[]),
        ] {
            assert_eq!(
                sent(target, headers),
                Err(Refusal::Ambiguous),
                "{target} {headers:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_a_token_is_visible_ascii(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut credentials = Credentials::default();
            if credentials.header(b"Authorization", &value).is_ok() {
                let token = credentials.token().expect("it was found");
                prop_assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn every_user_and_token_come_back_from_their_pair(user in "[!-9;-~]{0,40}", token in "[!-~]{1,200}") {
            let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{token}")));
            let mut credentials = Credentials::default();
            credentials.header(b"Authorization", value.as_bytes()).expect("it is well formed");
            let found = credentials.token().expect("it was found");
            prop_assert_eq!(found.expose(), token);
        }
    }
}
