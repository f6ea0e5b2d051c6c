//! The address of the client behind trusted proxies, against a reading that takes hops apart character by character. The
//! first byte says which networks are trusted and who the peer is; the rest are the lines of `X-Forwarded-For`.

#![no_main]

use bitting::base::{CidrSet, client_ip};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TRUSTED: [&[&str]; 4] = [
    &[],
    &["10.0.0.0/8"],
    &["10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120", "fe80::/10"],
    &["0.0.0.0/0"],
];
const PEERS: [&str; 5] = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "198.51.100.9", "fe80::1"];

/// Whether a network as written above holds an address: bit by bit.
fn is_in(network: &str, ip: IpAddr) -> bool {
    let (base, prefix) = network.split_once('/').expect("all are written so");
    let (base, mut prefix): (IpAddr, u32) = (base.parse().expect("it is"), prefix.parse().expect("it is"));
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    if base.is_ipv4() {
        prefix += 96;
    }
    (bits(base) ^ bits(ip)).leading_zeros() >= prefix
}

fn is_port(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.trim_start_matches('0').len() <= 5
        && text.parse::<u32>().is_ok_and(|port| port < 65_536)
}

fn v4(text: &str) -> Option<Ipv4Addr> {
    let octets: Vec<&str> = text.split('.').collect();
    let octet = |text: &str| {
        let is_plain = matches!(text.len(), 1..=3) && text.bytes().all(|byte| byte.is_ascii_digit());
        let has_zero = text.len() > 1 && text.starts_with('0');
        text.parse::<u8>().ok().filter(|_| is_plain && !has_zero)
    };
    let octets: Option<Vec<u8>> = octets.into_iter().map(octet).collect();
    <[u8; 4]>::try_from(octets?).ok().map(Ipv4Addr::from)
}

fn v6(text: &str) -> Option<Ipv6Addr> {
    let groups = |text: &str, is_end: bool| -> Option<Vec<u16>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let parts: Vec<&str> = text.split(':').collect();
        let mut groups = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if is_end && at + 1 == parts.len() && part.contains('.') {
                let bits = v4(part)?.to_bits();
                groups.extend([u16::try_from(bits >> 16).ok()?, u16::try_from(bits & 0xffff).ok()?]);
                continue;
            }
            let is_group = matches!(part.len(), 1..=4) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            groups.push(u16::from_str_radix(part, 16).ok().filter(|_| is_group)?);
        }
        Some(groups)
    };
    let all = match text.split_once("::") {
        None => groups(text, true)?,
        Some((before, after)) => {
            let (before, after) = (groups(before, false)?, groups(after, true)?);
            let missing = 8_usize.checked_sub(before.len() + after.len()).filter(|missing| *missing > 0)?;
            [before, vec![0; missing], after].concat()
        }
    };
    <[u16; 8]>::try_from(all).ok().map(Ipv6Addr::from)
}

/// One hop: a v4 address or that and a port; a v6 address, with a zone or not, in brackets or not, and then with a port
/// or not.
fn hop(text: &str) -> Option<IpAddr> {
    if !text.contains('[') && text.matches(':').count() < 2 {
        let (address, port) =
            text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port)));
        return v4(address).filter(|_| port.is_none_or(is_port)).map(IpAddr::V4);
    }
    let bare = match text.strip_prefix('[') {
        None => text,
        Some(rest) => {
            let (inside, behind) = rest.split_once(']')?;
            if !behind.is_empty() && !behind.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            inside
        }
    };
    let address = bare.split('%').next()?;
    v6(address).map(|ip| IpAddr::V6(ip).to_canonical())
}

fn plainly(peer: IpAddr, trusted: &[&str], lines: &[&str]) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| is_in(network, ip));
    let mut client = Some(peer.to_canonical());
    let joined = lines.join(",");
    let mut hops: Vec<&str> = if lines.is_empty() { Vec::new() } else { joined.split(',').collect() };
    while client.is_some_and(is_trusted) {
        client = hops.pop().and_then(|text| hop(text.trim()));
    }
    client
}

fuzz_target!(|input: &[u8]| {
    let [first, rest @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let networks = TRUSTED[usize::from(*first) % TRUSTED.len()];
    let peer: IpAddr = PEERS[usize::from(first >> 2) % PEERS.len()].parse().expect("it is an address");
    let lines: Vec<&str> = text.lines().collect();
    let trusted = CidrSet::parse(networks).expect("they are networks");
    let client = client_ip(peer, &trusted, lines.iter().copied());
    assert_eq!(client, plainly(peer, networks, &lines));
    assert!(client.is_none_or(|ip| !trusted.contains(ip) && ip == ip.to_canonical()));
});
