//! Which addresses Bitting dials. Checked on every address that is dialled, literal or resolved, at connect time.
//!
//! A network that the server's configuration lists as private may be dialled; metadata services never, listed or not.

use crate::base::CidrSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether Bitting may open a connection to the address.
pub fn address_allowed(ip: IpAddr, private: &CidrSet) -> bool {
    if address_denied_always(ip) {
        return false;
    }
    let ip = ip.to_canonical();
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
    };
    private.contains(ip) || !(is_internal(ip) || embedded.is_some_and(|v4| is_internal(v4) || is_nowhere(v4)))
}

/// Whether the address is one that nothing in any configuration opens: a metadata service of a cloud, in whatever
/// form, or no address of a server at all.
pub fn address_denied_always(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let inside = match ip {
        IpAddr::V4(_) => [None; 3],
        IpAddr::V6(v6) => v4_inside(v6),
    };
    is_nowhere(ip) || std::iter::once(ip).chain(inside.into_iter().flatten().map(IpAddr::V4)).any(is_metadata)
}

/// The metadata services of clouds: whoever reaches them holds the machine's identity.
fn is_metadata(ip: IpAddr) -> bool {
    const V4: [Ipv4Addr; 9] = [
        Ipv4Addr::new(169, 254, 169, 254), // AWS, Google, Azure, Oracle, and many more
        Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
        Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
        Ipv4Addr::new(169, 254, 0, 23),    // Tencent
        Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
        Ipv4Addr::new(100, 100, 100, 200), // Alibaba
        Ipv4Addr::new(100, 96, 0, 96),     // Volcano Engine
        Ipv4Addr::new(168, 63, 129, 16),   // Azure's host
        Ipv4Addr::new(192, 0, 0, 192),     // Oracle
    ];
    const V6: [Ipv6Addr; 5] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),   // AWS
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),    // AWS EKS pod identity
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),    // Google
        Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),     // Scaleway
        Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), // Linode
    ];
    match ip {
        IpAddr::V4(v4) => V4.contains(&v4),
        IpAddr::V6(v6) => V6.contains(&v6),
    }
}

/// Unspecified, multicast and broadcast addresses: no upstream lives there.
fn is_nowhere(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// Networks that are not the public internet.
fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || (a, b & 0xc0) == (100, 64)
                || (a, b, c) == (192, 0, 0)
                || (a, b, c) == (192, 88, 99)
                || (a, b & 0xfe) == (198, 18)
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Outside 2000::/3 nothing is public but the embedded forms, which are judged by what they embed.
            (a & 0xe000 != 0x2000 && embedded_v4(v6).is_none())
                || (a == 0x2001 && b < 0x0200)
                || (a, b) == (0x2001, 0x0db8)
                || (a, b & 0xf000) == (0x3fff, 0)
        }
    }
}

/// The v4 address that a translator (`64:ff9b::/96`) or a tunnel (`2002::/16`) would dial.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Every v4 address that a v6 one could stand for by some mechanism, however local: a network that lists it as private
/// does not know what the packet turns into.
fn v4_inside(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 3] {
    let [.., high, low] = v6.segments();
    let last = match v6.segments() {
        // Compatible and translated (SIIT) addresses; the translator's local prefixes (RFC 8215); ISATAP.
        [0, 0, 0, 0, 0 | 0xffff, 0, ..] | [0x64, 0xff9b, 1, ..] | [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => {
            Some(v4(high, low))
        }
        _ => None,
    };
    // Teredo writes the client's address with its bits turned over.
    let teredo = matches!(v6.segments(), [0x2001, 0, ..]).then(|| v4(!high, !low));
    [embedded_v4(v6), last, teredo]
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(ip: &str, private: &[&str]) -> bool {
        address_allowed(ip.parse().unwrap(), &CidrSet::parse(private).unwrap())
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        for public in [
            "1.1.1.1",
            "104.18.7.192",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::6810:7c0",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(allowed(public, &[]), "{public}");
        }
        for internal in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "100::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::",
            "64:ff9b::e000:1",
        ] {
            assert!(!allowed(internal, &[]), "{internal}");
        }
    }

    #[test]
    fn a_listed_network_is_dialled_and_no_other() {
        for (ip, private) in [
            ("127.0.0.1", "127.0.0.0/8"),
            ("10.1.2.3", "10.1.0.0/16"),
            ("::1", "::1/128"),
            ("fd12::5", "fd12::/64"),
            ("::ffff:10.1.2.3", "10.1.0.0/16"),
            ("64:ff9b::a00:1", "64:ff9b::/96"),
        ] {
            assert!(allowed(ip, &[private]), "{ip}");
        }
        assert!(!allowed("10.2.0.1", &["10.1.0.0/16"]));
        assert!(
            !allowed("64:ff9b::a01:203", &["10.1.0.0/16"]),
            "a translator is another way to the same place"
        );
    }

    #[test]
    fn metadata_services_are_never_dialled() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "169.254.170.23",
            "169.254.0.23",
            "169.254.42.42",
            "100.96.0.96",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "::a9fe:a9fe",               // compatible
            "::ffff:0:a9fe:a9fe",        // translated
            "64:ff9b:1::a9fe:a9fe",      // a translator's local prefix
            "64:ff9b:1:fffe::a9fe:a9fe", // another
            "fd12::5efe:a9fe:a9fe",      // ISATAP
            "fd12::200:5efe:a9fe:a9fe",  // ISATAP with the universal bit
            "2001:0:1234::5601:5601",    // Teredo
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "::",
        ] {
            assert!(address_denied_always(ip.parse().unwrap()), "{ip}");
            assert!(!allowed(ip, &["0.0.0.0/0", "::/0"]), "{ip}");
        }
        assert!(allowed("169.254.1.1", &["169.254.0.0/16"]));
    }
}
