//! Which addresses a provider may have. Checked for every address that is dialled, however its host was written.

use crate::base::CidrSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rule for one connection's address: public ones by TLS, and what the configuration lists as private.
///
/// Addresses of cloud metadata services are never dialled, whatever is listed.
#[derive(Clone, Debug, Default)]
pub struct AddressRule {
    private: CidrSet,
}

impl AddressRule {
    /// `private` are the networks of the server's configuration that upstreams may use, and by plain http.
    pub fn new(private: CidrSet) -> Self {
        Self { private }
    }

    /// Whether a provider at this address may be reached by https.
    pub fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !is_metadata(ip) && (self.private.contains(ip) || is_public(ip))
    }

    /// Whether a provider at this address may be reached by plain http: only where the configuration lists it.
    pub fn admits_plaintext(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !is_metadata(ip) && self.private.contains(ip)
    }
}

/// Where clouds serve credentials to whoever asks: AWS, GCP and Azure; AWS by v6; Alibaba; Oracle; Azure's host.
fn is_metadata(ip: IpAddr) -> bool {
    const V4: [Ipv4Addr; 5] = [
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::new(169, 254, 170, 2),
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(192, 0, 0, 192),
        Ipv4Addr::new(168, 63, 129, 16),
    ];
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(v4) => V4.contains(&v4),
        IpAddr::V6(v6) => v6 == V6 || embedded(v6).is_some_and(|v4| V4.contains(&v4)),
    }
}

/// Whether the address is on the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

/// Only `2000::/3` is handed out; of it `2001::/23` (Teredo and protocols) and the two documentation networks are
/// not hosts.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let documentation = (a == 0x2001 && b == 0xdb8) || (a == 0x3fff && b < 0x1000);
    a & 0xe000 == 0x2000 && !(a == 0x2001 && b < 0x200) && !documentation
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a == 10
        || (a == 100 && b & 0xc0 == 64)
        || a == 127
        || (a == 169 && b == 254)
        || (a == 172 && b & 0xf0 == 16)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && b & 0xfe == 18)
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224)
}

/// The v4 address that a translator would reach: NAT64 (`64:ff9b::/96`), 6to4 (`2002::/16`), v4-compatible.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_dialled_unless_listed() {
        let none = AddressRule::default();
        for denied in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "::7f00:1",
            "4000::1",
        ] {
            assert!(!none.admits(denied.parse().unwrap()), "{denied}");
        }
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1",
            "2a00::1",
            "2001:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(none.admits(public.parse().unwrap()), "{public}");
            assert!(!none.admits_plaintext(public.parse().unwrap()), "{public} by plain http");
        }
    }

    #[test]
    fn a_listed_network_is_dialled_but_never_a_metadata_service() {
        let all = AddressRule::new(CidrSet::parse(&["0.0.0.0/0", "::/0"]).unwrap());
        assert!(all.admits("10.0.0.1".parse().unwrap()) && all.admits_plaintext("fc00::1".parse().unwrap()));
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "169.254.170.2",
            "fd00:ec2::254",
        ] {
            let ip = never.parse().unwrap();
            assert!(!all.admits(ip) && !all.admits_plaintext(ip), "{never}");
        }
    }
}
