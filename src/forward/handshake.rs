//! Lets in who knows the shared key, and a user's password where users are named: HELO, PING, PONG.

use std::fmt::Write;

use sha2::{Digest, Sha512};

use super::msgpack::{Head, Reader, Value, put_text};

/// What a client must know.
#[derive(Clone, Default)]
pub struct Secrets {
    /// `shared_key`
    pub shared_key: String,
    /// Names and passwords; with none of them anyone who knows the key is let in.
    pub users: Vec<(String, String)>,
}

/// Not shown: it would end in a log.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// The server's side of one connection's handshake.
#[derive(Debug)]
pub struct Handshake<'s> {
    secrets: &'s Secrets,
    hostname: &'s str,
    nonce: [u8; 16],
    auth: [u8; 16],
}

/// What came of a PING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Messages may come.
    Welcome,
    /// The connection ends behind the PONG; why, as the client is told.
    Refused(&'static str),
}

impl<'s> Handshake<'s> {
    /// With 32 bytes that nobody can foretell.
    pub fn new(secrets: &'s Secrets, hostname: &'s str, random: [u8; 32]) -> Handshake<'s> {
        let (nonce, auth) = random.split_at(16);
        Handshake {
            secrets,
            hostname,
            nonce: nonce.try_into().expect("half of 32"),
            auth: auth.try_into().expect("half of 32"),
        }
    }

    /// Appends HELO, the first message of the connection.
    pub fn put_helo(&self, out: &mut Vec<u8>) {
        out.push(0x92);
        put_text(b"HELO", out);
        out.push(0x83);
        put_text(b"nonce", out);
        put_bytes(&self.nonce, out);
        put_text(b"auth", out);
        // Empty: no user is asked for.
        put_bytes(
            if self.secrets.users.is_empty() {
                b""
            } else {
                &self.auth
            },
            out,
        );
        put_text(b"keepalive", out);
        out.push(0xc3);
    }

    /// Judges a PING, whose end was found, and appends the PONG.
    pub fn answer(&self, ping: &[u8], out: &mut Vec<u8>) -> Verdict {
        let (salt, verdict) = match Ping::parse(ping) {
            Some(ping) => (ping.salt, self.judge(&ping)),
            None => (&b""[..], Verdict::Refused("the first message is no PING")),
        };
        let (welcome, reason) = match verdict {
            Verdict::Welcome => (0xc3, ""),
            Verdict::Refused(reason) => (0xc2, reason),
        };
        out.push(0x95);
        put_text(b"PONG", out);
        out.push(welcome);
        put_text(reason.as_bytes(), out);
        put_text(self.hostname.as_bytes(), out);
        // Who does not know the key is not shown that the server does.
        let digest = match verdict {
            Verdict::Welcome => hex_digest(&[
                salt,
                self.hostname.as_bytes(),
                &self.nonce,
                self.secrets.shared_key.as_bytes(),
            ]),
            Verdict::Refused(_) => String::new(),
        };
        put_text(digest.as_bytes(), out);
        verdict
    }

    fn judge(&self, ping: &Ping<'_>) -> Verdict {
        let expected = hex_digest(&[
            ping.salt,
            ping.hostname,
            &self.nonce,
            self.secrets.shared_key.as_bytes(),
        ]);
        if !is_same(expected.as_bytes(), ping.digest) {
            return Verdict::Refused("shared_key mismatch");
        }
        if self.secrets.users.is_empty() {
            return Verdict::Welcome;
        }
        // Every user is looked at, so that the time says nothing of the names.
        let known = self.secrets.users.iter().fold(false, |known, (user, password)| {
            let expected = hex_digest(&[&self.auth, user.as_bytes(), password.as_bytes()]);
            let is_user = is_same(user.as_bytes(), ping.user);
            known | (is_user & is_same(expected.as_bytes(), ping.password))
        });
        match known {
            true => Verdict::Welcome,
            false => Verdict::Refused("username/password mismatch"),
        }
    }
}

/// `["PING", hostname, salt, digest, user, password digest]`
struct Ping<'b> {
    hostname: &'b [u8],
    salt: &'b [u8],
    digest: &'b [u8],
    user: &'b [u8],
    password: &'b [u8],
}

impl<'b> Ping<'b> {
    fn parse(message: &'b [u8]) -> Option<Ping<'b>> {
        let mut reader = Reader::new(message);
        let Value::Array(6) = reader.read()? else {
            return None;
        };
        let mut bytes = || match reader.read()? {
            Value::Bytes(bytes) => Some(bytes),
            Value::Plain(Head::Nil) => Some(&b""[..]),
            _ => None,
        };
        (bytes()? == b"PING").then_some(())?;
        Some(Ping {
            hostname: bytes()?,
            salt: bytes()?,
            digest: bytes()?,
            user: bytes()?,
            password: bytes()?,
        })
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend([0xc4, bytes.len() as u8]);
    out.extend_from_slice(bytes);
}

/// SHA-512 of the parts one after the other, in lower-case hexadecimal.
fn hex_digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Compares in a time that depends on the lengths alone.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}
