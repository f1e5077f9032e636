//! The addresses a key or a listener takes requests from.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::Refusal;

/// Networks; an address must be in one of them. Never empty.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`, as a dual-stack socket shows IPv4 clients) is the IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// Reads networks (`10.0.0.0/8`) and addresses (`::1`).
    ///
    /// # Errors
    /// [`AllowListError`].
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<AllowList, AllowListError> {
        if texts.is_empty() {
            return Err(AllowListError::Empty);
        }
        let networks: Result<_, _> = texts.iter().map(|text| network(text.as_ref())).collect();
        networks.map(AllowList)
    }

    /// Whether requests are taken from this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether requests are taken from this address; `None`, one that a proxy does not tell, is in no network.
    ///
    /// # Errors
    /// [`Refusal::NotAllowedFrom`].
    pub fn check(&self, from: Option<IpAddr>) -> Result<(), Refusal> {
        match from.is_some_and(|address| self.contains(address)) {
            true => Ok(()),
            false => Err(Refusal::NotAllowedFrom),
        }
    }

    /// The networks as they are written.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(IpNet::to_string).collect()
    }
}

fn network(text: &str) -> Result<IpNet, AllowListError> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text
            .parse()
            .map_err(|_| AllowListError::NoNetwork(text.to_owned()))?,
    };
    if network.trunc() != network {
        return Err(AllowListError::HostBits {
            text: text.to_owned(),
            meant: network.trunc(),
        });
    }
    Ok(canonical(network))
}

/// A network of IPv4-mapped addresses is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    if let IpNet::V6(v6) = network
        && let Some(address) = v6.addr().to_ipv4_mapped()
        && let Some(bits) = v6.prefix_len().checked_sub(MAPPED_BITS)
    {
        return IpNet::V4(Ipv4Net::new(address, bits).expect("128 - 96 bits are what IPv4 has"));
    }
    network
}

/// Why a list is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowListError {
    /// It would allow nobody.
    Empty,
    /// An entry is neither network nor address.
    NoNetwork(String),
    /// Bits behind the prefix are set: is the address meant, or the network?
    HostBits {
        /// The entry.
        text: String,
        /// The network it is in.
        meant: IpNet,
    },
}

impl fmt::Display for AllowListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowListError::Empty => {
                f.write_str("an empty list would allow nobody; leave it out to allow everybody")
            }
            AllowListError::NoNetwork(text) => {
                write!(
                    f,
                    "`{text}` is no address and no network like 10.0.0.0/8 or 2001:db8::/32"
                )
            }
            AllowListError::HostBits { text, meant } => {
                write!(
                    f,
                    "`{text}` is an address within a network; write {meant} for the network"
                )
            }
        }
    }
}

impl std::error::Error for AllowListError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_the_addresses_of_its_networks_and_no_other() {
        let list = AllowList::parse(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]).unwrap();
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8:ffff::1",
            "::1",
            "::ffff:10.1.2.3",
            "::ffff:192.0.2.7",
        ] {
            assert!(list.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.0",
            "9.255.255.255",
            "192.0.2.8",
            "2001:db9::1",
            "::2",
            "127.0.0.1",
            "::ffff:11.0.0.1",
            "::10.1.2.3",
        ] {
            assert!(!list.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn an_ipv4_mapped_network_is_the_ipv4_network() {
        let mapped = AllowList::parse(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"]).unwrap();
        assert_eq!(mapped, AllowList::parse(&["10.0.0.0/8", "192.0.2.1/32"]).unwrap());
        assert_eq!(mapped.to_texts(), ["10.0.0.0/8", "192.0.2.1/32"]);
        assert!(mapped.contains("10.9.9.9".parse().unwrap()));
        // All of IPv6 is not all of IPv4.
        let v6 = AllowList::parse(&["::/0"]).unwrap();
        assert!(v6.contains("2001:db8::1".parse().unwrap()));
        assert!(!v6.contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn rejects_what_is_no_list() {
        assert_eq!(AllowList::parse::<&str>(&[]), Err(AllowListError::Empty));
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8 ", "::1/129"] {
            assert_eq!(
                AllowList::parse(&[text]),
                Err(AllowListError::NoNetwork(text.to_owned()))
            );
        }
        let error = AllowList::parse(&["10.1.2.3/8"]).unwrap_err();
        assert!(error.to_string().contains("write 10.0.0.0/8"), "{error}");
    }
}
