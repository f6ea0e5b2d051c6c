//! Which addresses a provider may have. Checked for every address that is dialled, however its host was written.

use crate::base::CidrSet;
use crate::provider::address_allowed;
use std::net::IpAddr;

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
        address_allowed(ip, &self.private)
    }

    /// Whether a provider at this address may be reached by plain http: only where the configuration lists it.
    pub fn admits_plaintext(&self, ip: IpAddr) -> bool {
        self.private.contains(ip) && address_allowed(ip, &self.private)
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
