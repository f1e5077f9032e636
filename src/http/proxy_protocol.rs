//! Reads the PROXY protocol header with which a load balancer says whose connection it passes on.
//!
//! Source: `doc/proxy-protocol.txt` of HAProxy, sections 2.1 (version 1, text) and 2.2 (version 2, binary). Nothing is
//! repaired: a header that two readers could take differently is refused, as in the HTTP head behind it. That is why it is
//! read here: the parser there is for it takes `+80` for a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::http::head::Parse;

/// Bytes of a header of version 1 with its CRLF. Section 2.1: two IPv6 addresses of 39 and two ports of 5 digits.
pub const V1_BYTES_MAX: usize = 107;

/// Bytes of a header of version 2. The protocol allows 16 + 65,535; two UNIX paths of 108 bytes, the certificate's names
/// and a checksum stay far below this.
pub const V2_BYTES_MAX: usize = 4096;

/// What begins a header of version 2. No HTTP request, no TLS handshake and no header of version 1 begins so.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length of the rest.
const V2_FIXED_BYTES: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A client's with this address.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The proxy's own, a health check: its address is the connection's.
    Local,
    /// A client's without an internet address: a UNIX socket, or one the proxy does not know.
    Unaddressed,
}

impl Header {
    /// The address of whoever sends, where `connection` is that of the connection's other end; `None` when the proxy
    /// does not say.
    pub fn peer(&self, connection: SocketAddr) -> Option<SocketAddr> {
        match self {
            Header::Proxied { source, .. } => Some(*source),
            Header::Local => Some(connection),
            Header::Unaddressed => None,
        }
    }
}

/// Why there is no header. The connection ends without a reply: who speaks here is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// The connection begins with something else.
    NoHeader,
    /// Version 1 without CRLF in its first [`V1_BYTES_MAX`] bytes.
    TooLong,
    /// Version 1 with a line end other than CRLF, or bytes that are not visible ASCII.
    LineEnd,
    /// Version 1 that names neither TCP4, TCP6 nor UNKNOWN.
    Protocol,
    /// Version 1 whose address is none of its family.
    Address,
    /// Version 1 whose port is not 0 to 65535 without leading zeros.
    Port,
    /// Version 1 with more or fewer fields.
    Fields,
    /// The binary signature, then another version than 2.
    Version,
    /// Version 2 with a command other than LOCAL and PROXY.
    Command,
    /// Version 2 with a family or transport that does not exist.
    Family,
    /// Version 2 that is too short for the addresses of its family.
    TooShort,
    /// Version 2 longer than [`V2_BYTES_MAX`].
    TooManyTlvs,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyError::NoHeader => {
                "the connection does not begin with a PROXY protocol header; only a proxy that sends one may connect here"
            }
            ProxyError::TooLong => {
                return write!(f, "the PROXY header has no CRLF within {V1_BYTES_MAX} bytes");
            }
            ProxyError::LineEnd => "the PROXY header is not one line of visible ASCII that ends in CRLF",
            ProxyError::Protocol => "the PROXY header names neither TCP4, TCP6 nor UNKNOWN",
            ProxyError::Address => "an address in the PROXY header is none of its family",
            ProxyError::Port => "a port in the PROXY header is no number from 0 to 65535",
            ProxyError::Fields => "the PROXY header is not two addresses and two ports, each behind one blank",
            ProxyError::Version => "the binary PROXY header is not of version 2",
            ProxyError::Command => "the binary PROXY header's command is neither LOCAL nor PROXY",
            ProxyError::Family => "the binary PROXY header names an address family or transport that does not exist",
            ProxyError::TooShort => "the binary PROXY header is too short for its addresses",
            ProxyError::TooManyTlvs => {
                return write!(f, "the binary PROXY header is longer than {V2_BYTES_MAX} bytes");
            }
        })
    }
}

impl std::error::Error for ProxyError {}

/// Parses the header at the start of a connection. `Complete` says how many bytes it took; the client's begin there.
///
/// `received` may hold more than the header. Never asks for more than [`V2_BYTES_MAX`] bytes.
///
/// # Errors
/// [`ProxyError`]; of a text header once its line has ended, of a binary one within its first 16 bytes.
pub fn parse_proxy_header(received: &[u8]) -> Result<Parse<Header>, ProxyError> {
    let begins = |with: &[u8]| {
        let length = received.len().min(with.len());
        received[..length] == with[..length]
    };
    if begins(V2_SIGNATURE) {
        parse_v2(received)
    } else if begins(b"PROXY ") {
        parse_v1(received)
    } else {
        Err(ProxyError::NoHeader)
    }
}

/// How many bytes the header has at least beyond those received, of which [`parse_proxy_header`] says that they are partial.
/// Who reads no more than these leaves every byte behind the header to whoever speaks next, TLS for one.
///
/// Version 2 takes three reads. Version 1 takes one a byte for its last twenty or thirty, for only its line end
/// tells its length.
pub fn bytes_certain(received: &[u8]) -> usize {
    let known = match received {
        // The shortest headers of each kind, down to `PROXY UNKNOWN` with its CRLF.
        [b'P', ..] if received.starts_with(b"PROXY TCP4") => "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len(),
        [b'P', ..] if received.starts_with(b"PROXY TCP6") => "PROXY TCP6 :: :: 0 0\r\n".len(),
        [b'\r', ..] if received.len() >= V2_FIXED_BYTES => {
            V2_FIXED_BYTES + usize::from(u16::from_be_bytes([received[14], received[15]]))
        }
        [b'\r', ..] => V2_FIXED_BYTES,
        _ => "PROXY UNKNOWN\r\n".len(),
    };
    known.saturating_sub(received.len()).max(1)
}

fn parse_v1(received: &[u8]) -> Result<Parse<Header>, ProxyError> {
    let seen = &received[..received.len().min(V1_BYTES_MAX)];
    let is_field = |byte: &u8| (b' '..=b'~').contains(byte);
    let Some(end) = seen.iter().position(|byte| !is_field(byte)) else {
        return if seen.len() < V1_BYTES_MAX {
            Ok(Parse::Partial)
        } else {
            Err(ProxyError::TooLong)
        };
    };
    match &seen[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if seen.len() < V1_BYTES_MAX => return Ok(Parse::Partial),
        [b'\r'] => return Err(ProxyError::TooLong),
        _ => return Err(ProxyError::LineEnd),
    }
    let line = std::str::from_utf8(&seen[..end]).expect("visible ASCII is UTF-8");
    let mut fields = line.split(' ').skip(1);
    let header = match fields.next() {
        Some("TCP4") => v1_addresses::<Ipv4Addr>(fields)?,
        Some("TCP6") => v1_addresses::<Ipv6Addr>(fields)?,
        // Section 2.1: whatever follows up to the line's end is ignored.
        Some("UNKNOWN") => Header::Unaddressed,
        _ => return Err(ProxyError::Protocol),
    };
    Ok(Parse::Complete(end + 2, header))
}

fn v1_addresses<'a, A>(mut fields: impl Iterator<Item = &'a str>) -> Result<Header, ProxyError>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut field = || fields.next().ok_or(ProxyError::Fields);
    let (source, destination) = (field()?, field()?);
    let (source_port, destination_port) = (field()?, field()?);
    if fields.next().is_some() {
        return Err(ProxyError::Fields);
    }
    let address = |text: &str, port: &str| {
        let address: A = text.parse().map_err(|_| ProxyError::Address)?;
        Ok(SocketAddr::new(address.into(), v1_port(port)?))
    };
    Ok(Header::Proxied {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
    })
}

fn v1_port(text: &str) -> Result<u16, ProxyError> {
    let is_canonical = text == "0" || !text.starts_with('0');
    if !is_canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ProxyError::Port);
    }
    text.parse().map_err(|_| ProxyError::Port)
}

fn parse_v2(received: &[u8]) -> Result<Parse<Header>, ProxyError> {
    let byte = |at: usize| received.get(at).copied();
    let is_local = match byte(12) {
        None => return Ok(Parse::Partial),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(version) if version >> 4 == 2 => return Err(ProxyError::Command),
        Some(_) => return Err(ProxyError::Version),
    };
    // Family in the high half, transport in the low one: 0 unspecified, 1 stream, 2 datagram.
    let address_bytes = match byte(13) {
        None => return Ok(Parse::Partial),
        // Section 2.2: the receiver of LOCAL discards what follows, whatever it is.
        _ if is_local => 0,
        Some(0x11 | 0x12) => 2 * (4 + 2),
        Some(0x21 | 0x22) => 2 * (16 + 2),
        Some(0x31 | 0x32) => 2 * 108,
        // Unspecified as a whole, or a half of it: no address can be taken from it.
        Some(0x00 | 0x01 | 0x02 | 0x10 | 0x20 | 0x30) => 0,
        Some(_) => return Err(ProxyError::Family),
    };
    let (Some(high), Some(low)) = (byte(14), byte(15)) else {
        return Ok(Parse::Partial);
    };
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes < address_bytes {
        return Err(ProxyError::TooShort);
    }
    let length = V2_FIXED_BYTES + rest_bytes;
    if length > V2_BYTES_MAX {
        return Err(ProxyError::TooManyTlvs);
    }
    let Some(header) = received.get(..length) else {
        return Ok(Parse::Partial);
    };
    let addresses = &header[V2_FIXED_BYTES..];
    let header = match received[13] >> 4 {
        _ if is_local => Header::Local,
        1 if address_bytes > 0 => v2_addresses::<4>(addresses),
        2 if address_bytes > 0 => v2_addresses::<16>(addresses),
        _ => Header::Unaddressed,
    };
    // What follows the addresses are TLVs; none of them says who may send.
    Ok(Parse::Complete(length, header))
}

/// Source and destination address of `N` bytes each, then their ports.
fn v2_addresses<const N: usize>(bytes: &[u8]) -> Header
where
    IpAddr: From<[u8; N]>,
{
    let address = |at: usize| -> [u8; N] { bytes[at..at + N].try_into().expect("the length was compared") };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    Header::Proxied {
        source: SocketAddr::new(IpAddr::from(address(0)), port(2 * N)),
        destination: SocketAddr::new(IpAddr::from(address(N)), port(2 * N + 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(line: &str) -> Result<Parse<Header>, ProxyError> {
        parse_proxy_header(line.as_bytes())
    }

    /// A header of version 2; `rest` is everything behind the length.
    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[version_command, family][..], &length, rest].concat()
    }

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdb, 0x20, 0x01, 0xbb];

    fn tcp6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let destination: Ipv6Addr = "2001:db8::2".parse().unwrap();
        [&source.octets()[..], &destination.octets(), &[0, 1, 0xff, 0xff]].concat()
    }

    /// Every header that is taken, and what it says.
    fn good() -> Vec<(Vec<u8>, Header)> {
        let v4 = proxied("192.0.2.1:56096", "198.51.100.7:443");
        let v6 = proxied("[2001:db8::1]:1", "[2001:db8::2]:65535");
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
        let tlv = [&TCP4[..], &[0x02, 0, 3, b'a', b'b', b'c']].concat();
        let text = |line: &str| line.as_bytes().to_vec();
        vec![
            (text("PROXY TCP4 192.0.2.1 198.51.100.7 56096 443\r\n"), v4),
            (text("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), v6),
            (
                text("PROXY TCP4 192.0.2.1 198.51.100.7 0 0\r\n"),
                proxied("192.0.2.1:0", "198.51.100.7:0"),
            ),
            (text(longest), proxied(all_ones, all_ones)),
            (text("PROXY UNKNOWN\r\n"), Header::Unaddressed),
            (text(&unknown), Header::Unaddressed),
            (v2(0x21, 0x11, &TCP4), v4),
            (v2(0x21, 0x12, &TCP4), v4),
            (v2(0x21, 0x11, &tlv), v4),
            (v2(0x21, 0x21, &tcp6()), v6),
            (v2(0x21, 0x22, &tcp6()), v6),
            (v2(0x21, 0x31, &[b'/'; 216]), Header::Unaddressed),
            (v2(0x21, 0x00, &[]), Header::Unaddressed),
            (v2(0x21, 0x00, b"anything"), Header::Unaddressed),
            (v2(0x20, 0x00, &[]), Header::Local),
            (v2(0x20, 0x11, &TCP4), Header::Local),
            (v2(0x20, 0xff, b"discarded"), Header::Local),
            (
                v2(0x21, 0x11, &[&TCP4[..], &[4; V2_BYTES_MAX - 16 - 12]].concat()),
                v4,
            ),
        ]
    }

    #[test]
    fn every_header_is_read_and_what_follows_is_left() {
        for (bytes, header) in good() {
            let name = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(
                parse_proxy_header(&bytes),
                Ok(Parse::Complete(bytes.len(), header)),
                "{name:?}"
            );
            let followed = [&bytes[..], b"POST /ingest HTTP/1.1\r\n"].concat();
            assert_eq!(
                parse_proxy_header(&followed),
                Ok(Parse::Complete(bytes.len(), header)),
                "{name:?}"
            );
        }
    }

    #[test]
    fn every_prefix_of_a_header_asks_for_more() {
        for (bytes, _) in good() {
            for length in 0..bytes.len() {
                let name = String::from_utf8_lossy(&bytes[..length]).into_owned();
                assert_eq!(
                    parse_proxy_header(&bytes[..length]),
                    Ok(Parse::Partial),
                    "{name:?}"
                );
            }
        }
    }

    #[test]
    fn who_reads_no_more_than_is_certain_ends_where_the_header_does() {
        for (bytes, header) in good() {
            let sent = [&bytes[..], b"POST /ingest HTTP/1.1\r\n"].concat();
            let (mut read, mut reads) = (0, 0);
            let found = loop {
                match parse_proxy_header(&sent[..read]) {
                    Ok(Parse::Partial) => read += bytes_certain(&sent[..read]),
                    other => break other,
                }
                reads += 1;
            };
            assert_eq!(found, Ok(Parse::Complete(bytes.len(), header)));
            assert_eq!(read, bytes.len());
            assert!(reads <= 3 || bytes[0] == b'P', "{reads}");
        }
    }

    #[test]
    fn rejects_what_is_no_header_at_its_first_byte() {
        for text in [
            "G",
            "GET / HTTP/1.1\r\n",
            "\n",
            "proxy TCP4",
            "PROXY\tTCP4",
            "\r\n\r\n\0\r\nQUIX",
            "\x16\x03\x01",
        ] {
            assert_eq!(v1(text), Err(ProxyError::NoHeader), "{text:?}");
        }
    }

    #[test]
    fn rejects_a_text_header_two_readers_could_take_differently() {
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
        let endless = "PROXY TCP4 ".to_owned() + &"1".repeat(500);
        for (line, error) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n", ProxyError::LineEnd),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\r\n", ProxyError::LineEnd),
            ("PROXY TCP4 192.0.2.1\t198.51.100.7 1 2\r\n", ProxyError::LineEnd),
            ("PROXY TCP4 192.0.2.1\0 198.51.100.7 1 2\r\n", ProxyError::LineEnd),
            ("PROXY \u{e9}\r\n", ProxyError::LineEnd),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n", ProxyError::Fields),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n", ProxyError::Fields),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n", ProxyError::Fields),
            ("PROXY TCP4\r\n", ProxyError::Fields),
            ("PROXY TCP4  192.0.2.1 198.51.100.7 1\r\n", ProxyError::Address),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::Address),
            ("PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n", ProxyError::Port),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 +80 2\r\n", ProxyError::Port),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 080 2\r\n", ProxyError::Port),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n", ProxyError::Port),
            ("PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n", ProxyError::Protocol),
            ("PROXY unknown\r\n", ProxyError::Protocol),
            ("PROXY \r\n", ProxyError::Protocol),
            (&longer, ProxyError::TooLong),
            (&endless, ProxyError::TooLong),
        ] {
            assert_eq!(v1(line), Err(error), "{line:?}");
        }
    }

    #[test]
    fn rejects_a_binary_header_of_another_version_command_family_or_length() {
        for (bytes, error) in [
            (v2(0x11, 0x11, &TCP4), ProxyError::Version),
            (v2(0x31, 0x11, &TCP4), ProxyError::Version),
            (v2(0x22, 0x11, &TCP4), ProxyError::Command),
            (v2(0x2f, 0x11, &TCP4), ProxyError::Command),
            (v2(0x21, 0x13, &TCP4), ProxyError::Family),
            (v2(0x21, 0x41, &TCP4), ProxyError::Family),
            (v2(0x21, 0x11, &TCP4[..11]), ProxyError::TooShort),
            (v2(0x21, 0x21, &TCP4), ProxyError::TooShort),
            (v2(0x21, 0x31, &[0; 215]), ProxyError::TooShort),
            (v2(0x21, 0x11, &[0; V2_BYTES_MAX - 15]), ProxyError::TooManyTlvs),
            (v2(0x20, 0x00, &[0; 65_535]), ProxyError::TooManyTlvs),
        ] {
            assert_eq!(parse_proxy_header(&bytes), Err(error), "{:?}", &bytes[12..16]);
            // What is wrong is known with the fixed part: nobody waits for 64 KiB of it.
            assert_eq!(parse_proxy_header(&bytes[..16]), Err(error));
        }
    }

    #[test]
    fn the_peer_is_the_client_or_for_a_health_check_the_proxy_itself() {
        let connection: SocketAddr = "10.0.0.1:9".parse().unwrap();
        let client: SocketAddr = "192.0.2.1:1".parse().unwrap();
        assert_eq!(
            proxied("192.0.2.1:1", "198.51.100.7:2").peer(connection),
            Some(client)
        );
        assert_eq!(Header::Local.peer(connection), Some(connection));
        assert_eq!(Header::Unaddressed.peer(connection), None);
    }
}
