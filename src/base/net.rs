//! Networks and the address of the client behind trusted proxies.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A set of networks in CIDR notation, v4 and v6. The empty set holds no address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet(Vec<IpNetwork>);

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrSetError {
    /// Not an address or `address/prefix`.
    #[error("{0:?} is not a network; write one like \"10.20.0.0/16\" or \"2001:db8::/32\"")]
    Syntax(String),
    /// Bits are set beyond the prefix.
    #[error("{given:?} has host bits set; did you mean \"{network}\"?")]
    HostBits {
        /// What was written.
        given: String,
        /// The network that contains it.
        network: IpNetwork,
    },
}

impl CidrSet {
    /// Reads networks; a bare address is a network of one. Host bits are refused.
    ///
    /// # Errors
    /// The index of the first text that is not a network, and why.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, (usize, CidrSetError)> {
        let one = |(index, text): (usize, &S)| parse_network(text.as_ref()).map_err(|error| (index, error));
        texts.iter().enumerate().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the address is in one of the networks. `::ffff:a.b.c.d` counts as `a.b.c.d`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(ip))
    }

    /// Whether each of the other's networks lies in one of these.
    pub fn covers(&self, other: &Self) -> bool {
        let lies_in = |inner: &IpNetwork, outer: &IpNetwork| {
            outer.prefix() <= inner.prefix() && outer.contains(inner.network())
        };
        other.0.iter().all(|inner| self.0.iter().any(|outer| lies_in(inner, outer)))
    }

    /// Whether the set holds no network.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks, in canonical form and in the order given.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> {
        self.0.iter().copied()
    }
}

fn parse_network(text: &str) -> Result<IpNetwork, CidrSetError> {
    let syntax = || CidrSetError::Syntax(text.to_owned());
    // `IpNetwork` would also read a dotted netmask; the contract says CIDR.
    if text
        .split_once('/')
        .is_some_and(|(_, prefix)| prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(syntax());
    }
    let given: IpNetwork = text.parse().map_err(|_| syntax())?;
    let network = IpNetwork::new(given.network(), given.prefix()).map_err(|_| syntax())?;
    if given.ip() != network.ip() {
        return Err(CidrSetError::HostBits { given: text.to_owned(), network });
    }
    Ok(match network {
        IpNetwork::V6(v6) if v6.prefix() >= 96 => match v6.ip().to_ipv4_mapped() {
            Some(v4) => IpNetwork::new(IpAddr::V4(v4), v6.prefix() - 96).map_err(|_| syntax())?,
            None => network,
        },
        _ => network,
    })
}

impl Serialize for CidrSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for CidrSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Fails element by element, so that an error's path names the index.
        struct Network(IpNetwork);
        impl<'de> Deserialize<'de> for Network {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                parse_network(&text).map(Network).map_err(serde::de::Error::custom)
            }
        }
        Ok(Self(Vec::<Network>::deserialize(deserializer)?.into_iter().map(|network| network.0).collect()))
    }
}

/// The client's address: the peer itself, or, when the peer is a trusted proxy, the right-most
/// address of `X-Forwarded-For` that is not a trusted proxy.
///
/// `forwarded` are the values of all `X-Forwarded-For` lines in order. `None` when a trusted proxy
/// names no client that can be read: such a request has no address and fits no allow list.
pub fn client_ip<'a>(
    peer: IpAddr,
    trusted: &CidrSet,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return Some(peer);
    }
    for hop in forwarded.rev().flat_map(|line| line.rsplit(',')) {
        let ip = parse_hop(hop.trim())?;
        if !trusted.contains(ip) {
            return Some(ip);
        }
    }
    None
}

/// An address as proxies write it: bare, with a port, in brackets, with a zone.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    if let Ok(ip) = hop.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Ok(socket) = hop.parse::<SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    // What is left is a v6 address: with a zone, in brackets, in brackets with a port.
    let bare = match hop.strip_prefix('[') {
        None => hop,
        Some(rest) => {
            let (inside, behind) = rest.split_once(']')?;
            // The standard library would also read "+443".
            let is_port =
                |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
            (behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port)).then_some(inside)?
        }
    };
    let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    bare.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_and_junk_are_refused_with_the_index() {
        let error = CidrSet::parse(&["10.0.0.0/8", "10.1.2.3/16"]).unwrap_err();
        assert_eq!(error.0, 1);
        assert!(error.1.to_string().contains("10.1.0.0/16"), "{}", error.1);
        for bad in ["", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/", "example.com", "1.2.3", "::/129"] {
            assert!(matches!(CidrSet::parse(&[bad]), Err((0, CidrSetError::Syntax(_)))), "{bad}");
        }
    }

    #[test]
    fn mapped_addresses_match_their_v4_networks() {
        let set = CidrSet::parse(&["10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120"]).unwrap();
        assert!(set.contains(ip("::ffff:10.1.1.1")) && set.contains(ip("192.0.2.9")));
        assert!(set.contains(ip("2001:db8::5")) && !set.contains(ip("11.0.0.1")));
        assert!(!CidrSet::default().contains(ip("10.0.0.1")));
    }

    #[test]
    fn a_hop_is_an_address_however_proxies_write_it_and_nothing_else() {
        for (hop, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:443", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("fe80::7%eth0", "fe80::7"),
            ("[fe80::7%eth0]", "fe80::7"),
            ("[fe80::7%eth0]:443", "fe80::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ] {
            assert_eq!(parse_hop(hop), Some(ip(address)), "{hop}");
        }
        for hop in [
            "",
            "unknown",
            "_hidden",
            "203.0.113.7.",
            "203.0.113",
            "203.0.113.07",
            "203.0.113.7%eth0",
            "[203.0.113.7]",
            "203.0.113.7:",
            "203.0.113.7:99999",
            "[2001:db8::7",
            "2001:db8::7]",
            "[2001:db8::7]443",
            "[2001:db8::7]:x",
            "[2001:db8::7]:+443",
            "[2001:db8::7]:65536",
            "3405803783",
            "0xcb007107",
            "203.0.113.7 198.51.100.1",
            "\"203.0.113.7\"",
            "for=203.0.113.7",
            "localhost",
        ] {
            assert_eq!(parse_hop(hop), None, "{hop}");
        }
    }

    #[test]
    fn only_a_trusted_peer_is_believed_and_the_rightmost_untrusted_hop_counts() {
        let trusted = CidrSet::parse(&["10.0.0.0/8"]).unwrap();
        let of = |peer: &str, lines: &[&str]| client_ip(ip(peer), &trusted, lines.iter().copied());
        assert_eq!(of("192.0.2.1", &["198.51.100.7"]), Some(ip("192.0.2.1")));
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"]), Some(ip("198.51.100.7")));
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "198.51.100.7:1234, 10.0.0.2"]), Some(ip("198.51.100.7")));
        assert_eq!(of("10.0.0.1", &["[2001:db8::1%eth0]"]), Some(ip("2001:db8::1")));
        for unreadable in [&[][..], &["10.0.0.3"], &["198.51.100.7, unknown"], &["198.51.100.7,"]] {
            assert_eq!(of("10.0.0.1", unreadable), None, "{unreadable:?}");
        }
    }
}
