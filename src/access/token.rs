//! The token a sender shows: how it is made, and the digest by which it is known here.

use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a token. Those made here have 46; others' API keys and HEC tokens are of this order.
pub const TOKEN_BYTES_MAX: usize = 256;

/// What begins the tokens made here, so that a scanner for leaked secrets recognises them.
const PREFIX: &str = "rh_";

/// 256 bits: as many as the digest keeps. They make 43 characters.
const RANDOM_BYTES: usize = 32;

/// A token as it was sent: 1 to [`TOKEN_BYTES_MAX`] bytes of visible ASCII. Never printed.
#[derive(Clone, Copy)]
pub struct Token {
    bytes: [u8; TOKEN_BYTES_MAX],
    length: usize,
}

impl Token {
    /// Makes a new one from the system's random numbers.
    ///
    /// # Errors
    /// The system gives none.
    pub fn random() -> io::Result<Token> {
        let mut random = [0; RANDOM_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        Ok(Token::new(text.as_bytes()).expect("base64 is visible ASCII, 46 bytes of it"))
    }

    /// Takes a token; `None` when it is empty, too long, or holds anything but visible ASCII.
    pub fn new(text: &[u8]) -> Option<Token> {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; TOKEN_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Some(Token {
            bytes,
            length: text.len(),
        })
    }

    /// The token itself; whoever calls this must not print it, but for once to the one who asked for it to be made.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("visible ASCII is UTF-8")
    }

    /// The value of an `Authorization` header that shows it; not to be printed either.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.expose())
    }

    /// What it is known by.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.as_bytes()).into())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// In constant time, as for [`TokenDigest`].
impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// SHA-256 of a token: all that is kept of it.
///
/// One round of a fast hash is enough, and a slow one (argon2, bcrypt) is not wanted on the way of every request. Slow hashes
/// protect passwords, which people choose from few; a token is 256 random bits, and who holds its digest can no more
/// find it than guess it. For the same reason no salt is needed: no two tokens are equal.
///
/// Digests are compared in constant time. That a map finds them by their first bytes tells a sender nothing: to learn
/// from the time it takes, they would have to choose tokens by their digests' first bytes, and would learn of a digest,
/// not of a token.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl PartialEq for TokenDigest {
    fn eq(&self, other: &TokenDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let head = self.0.first_chunk().expect("a digest has 32 bytes");
        state.write_u64(u64::from_ne_bytes(*head));
    }
}

/// As written in the key file: `sha256:` and 64 hexadecimal digits.
const DIGEST_PREFIX: &str = "sha256:";

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DIGEST_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDigest;

impl fmt::Display for NoDigest {
    // Without the text: it may be a token that was put in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "it must be `sha256:` and 64 hexadecimal digits, as `ringhouse keys new` and `ringhouse keys hash` print them",
        )
    }
}

impl std::error::Error for NoDigest {}

impl FromStr for TokenDigest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<TokenDigest, NoDigest> {
        let digits = text.strip_prefix(DIGEST_PREFIX).ok_or(NoDigest)?.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return Err(NoDigest);
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or(NoDigest);
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
        }
        Ok(TokenDigest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_long_random_and_its_own() {
        let (first, second) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.expose().len(), PREFIX.len() + 43);
        assert!(first.expose().starts_with("rh_"));
        assert_eq!(Token::new(first.expose().as_bytes()), Some(first));
    }

    #[test]
    fn a_digest_is_the_sha_256_of_the_text() {
        // FIPS 180-2, appendix B.1.
        let digest = Token::new(b"abc").unwrap().digest();
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.replace("ba78", "BA78").parse(), Ok(digest));
        assert_ne!(Token::new(b"abd").unwrap().digest(), digest);
    }

    #[test]
    fn rejects_what_is_no_digest() {
        let good = Token::new(b"abc").unwrap().digest().to_string();
        let foreign = good.replace("sha256", "sha512");
        for text in [
            "",
            "sha256:",
            "sha256:00",
            &good[7..],
            &good[..70],
            &format!("{good}0"),
            &foreign,
        ] {
            assert_eq!(text.parse::<TokenDigest>(), Err(NoDigest), "{text}");
        }
        assert_eq!(good.replace("ba78", "gx78").parse::<TokenDigest>(), Err(NoDigest));
        assert_eq!(
            good.replace("ba78", "\u{e9}78").parse::<TokenDigest>(),
            Err(NoDigest)
        );
    }

    #[test]
    fn rejects_what_is_no_token() {
        assert_eq!(
            Token::new(&[b'x'; TOKEN_BYTES_MAX]).map(|token| token.length),
            Some(TOKEN_BYTES_MAX)
        );
        for text in [
            &b""[..],
            b"a b",
            b"a\tb",
            b"a\0",
            b"\xc3\xa9",
            &[b'x'; TOKEN_BYTES_MAX + 1],
        ] {
            assert_eq!(Token::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new(b"rh_secret").unwrap();
        assert_eq!(format!("{token:?} {:?}", Some(token)), "*** Some(***)");
    }
}
