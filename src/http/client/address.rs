//! Which addresses a client may dial. Checked for every address that is dialled, however its host was written.

use crate::base::CidrSet;
use crate::provider::{address_allowed, address_denied_always};
use std::net::IpAddr;

/// The rule for one connection's address. Addresses of cloud metadata services are never dialled, whatever the rule.
#[derive(Clone, Debug)]
pub enum AddressRule {
    /// Whose URL comes through the API (providers): public addresses by TLS, and what the configuration lists as
    /// private, by plain http too.
    Upstream {
        /// The networks of the server's configuration that upstreams may use.
        private: CidrSet,
    },
    /// Whose URL stands in the server's own configuration (a key service): private networks too, and by plain http
    /// this machine alone.
    Configured,
}

impl Default for AddressRule {
    /// Public addresses alone.
    fn default() -> Self {
        Self::new(CidrSet::default())
    }
}

impl AddressRule {
    /// `private` are the networks of the server's configuration that upstreams may use, and by plain http.
    pub fn new(private: CidrSet) -> Self {
        Self::Upstream { private }
    }

    /// Whether a server at this address may be reached by https.
    pub fn admits(&self, ip: IpAddr) -> bool {
        match self {
            Self::Upstream { private } => address_allowed(ip, private),
            Self::Configured => !address_denied_always(ip),
        }
    }

    /// Whether a server at this address may be reached by plain http.
    pub fn admits_plaintext(&self, ip: IpAddr) -> bool {
        match self {
            Self::Upstream { private } => private.contains(ip) && address_allowed(ip, private),
            Self::Configured => ip.to_canonical().is_loopback(),
        }
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

    #[test]
    fn what_the_configuration_names_may_be_private_and_in_clear_only_on_this_machine() {
        let rule = AddressRule::Configured;
        for private in ["10.1.2.3", "192.168.1.1", "fd12::1", "127.0.0.1", "::1", "1.1.1.1", "100.64.0.9"] {
            assert!(rule.admits(private.parse().unwrap()), "{private}");
        }
        for clear in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(rule.admits_plaintext(clear.parse().unwrap()), "{clear}");
        }
        for tls_only in ["10.1.2.3", "1.1.1.1", "fd12::1", "64:ff9b::7f00:1", "0.0.0.0"] {
            assert!(!rule.admits_plaintext(tls_only.parse().unwrap()), "{tls_only}");
        }
        for never in
            ["169.254.169.254", "fd00:ec2::254", "::a9fe:a9fe", "0.0.0.0", "::", "224.0.0.1", "ff02::1"]
        {
            assert!(!rule.admits(never.parse().unwrap()), "{never}");
        }
    }
}
