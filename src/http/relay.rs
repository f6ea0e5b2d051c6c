//! The PROXY protocol, version 2: a load balancer that passes bytes on says for whom it connects.
//!
//! The header stands before everything else on a connection, TLS too. It is read strictly, to its last byte and none
//! beyond, and only from peers that are asked for it: whoever else sends one sends what is no HTTP. Version 1, a line of
//! text without a length, is not read.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// For whom a relay connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    /// For itself, as health checks do, or for somebody whose address it does not know.
    Itself,
    /// For this client.
    Client(SocketAddr),
}

/// Why a connection's first bytes are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// Something else stands there, or version 1.
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    NoHeader,
    /// Neither LOCAL nor PROXY.
    #[error("the PROXY protocol header has the unknown command {0}")]
    Command(u8),
    /// Not TCP over IP, nor a Unix stream.
    #[error("the PROXY protocol header has the address family and transport {0:#04x}, which is not TCP")]
    Family(u8),
    /// Too short for its addresses, or longer than anybody needs.
    #[error("the PROXY protocol header says it is {0} bytes long")]
    Length(u16),
    /// The fields behind the addresses do not fill the header.
    #[error("a field of the PROXY protocol header does not fit into it")]
    Field,
    /// The header is not what was sent.
    #[error("the checksum of the PROXY protocol header is wrong")]
    Checksum,
    /// The connection ended or broke.
    #[error("the connection ended before its PROXY protocol header did: {0}")]
    Io(#[from] io::Error),
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// Addresses and fields; a relay that adds a client's certificate stays below it.
const REST_BYTES_MAX: u16 = 4096;
/// Two paths of Unix sockets.
const UNIX_BYTES: usize = 216;
const CHECKSUM_FIELD: u8 = 0x03;

/// Reads the header and nothing behind it. Not cancel safe: what was read of it is lost.
pub(super) async fn read<T: AsyncRead + Unpin>(stream: &mut T) -> Result<Relayed, RelayError> {
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await?;
    if !header.starts_with(SIGNATURE) || header[12] >> 4 != 2 {
        return Err(RelayError::NoHeader);
    }
    let rest = u16::from_be_bytes([header[14], header[15]]);
    if rest > REST_BYTES_MAX {
        return Err(RelayError::Length(rest));
    }
    header.resize(FIXED_BYTES + usize::from(rest), 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    parse(&header, rest)
}

/// A whole header of the right version.
fn parse(header: &[u8], rest_bytes: u16) -> Result<Relayed, RelayError> {
    let (command, family, rest) = (header[12] & 0x0f, header[13], &header[FIXED_BYTES..]);
    let too_short = || RelayError::Length(rest_bytes);
    let (client, fields) = match (command, family) {
        // What follows these says nothing, whatever it is.
        (0, _) | (1, 0x00) => return Ok(Relayed::Itself),
        (1, 0x11) => {
            let (ip, port, fields) = source::<4>(rest).ok_or_else(too_short)?;
            (Relayed::Client(SocketAddr::from((Ipv4Addr::from(ip), port))), fields)
        }
        (1, 0x21) => {
            let (ip, port, fields) = source::<16>(rest).ok_or_else(too_short)?;
            (Relayed::Client(SocketAddr::from((Ipv6Addr::from(ip), port))), fields)
        }
        (1, 0x31) => (Relayed::Itself, rest.get(UNIX_BYTES..).ok_or_else(too_short)?),
        (1, family) => return Err(RelayError::Family(family)),
        (command, _) => return Err(RelayError::Command(command)),
    };
    check_fields(header, fields)?;
    Ok(client)
}

/// The source's address and port out of source, destination, source port, destination port; and what follows.
fn source<const N: usize>(rest: &[u8]) -> Option<([u8; N], u16, &[u8])> {
    let (source, behind) = rest.split_first_chunk::<N>()?;
    let (_destination, behind) = behind.split_first_chunk::<N>()?;
    let ([high, low, _, _], fields) = behind.split_first_chunk::<4>()?;
    Some((*source, u16::from_be_bytes([*high, *low]), fields))
}

/// The fields fill the header, and a checksum among them is right.
fn check_fields(header: &[u8], mut fields: &[u8]) -> Result<(), RelayError> {
    while !fields.is_empty() {
        let ([kind, high, low], behind) = fields.split_first_chunk::<3>().ok_or(RelayError::Field)?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = behind.split_at_checked(len).ok_or(RelayError::Field)?;
        if *kind == CHECKSUM_FIELD {
            let given: [u8; 4] = value.try_into().map_err(|_| RelayError::Field)?;
            // It is made with zeros in its own place.
            let at = header.len() - behind.len() - value.len();
            let zeroed = [&header[..at], &[0; 4], behind].concat();
            if crc32c(&zeroed) != u32::from_be_bytes(given) {
                return Err(RelayError::Checksum);
            }
        }
        fields = behind;
    }
    Ok(())
}

/// Castagnoli's, which the protocol asks for.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header as relays write it.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    fn v4(fields: &[u8]) -> Vec<u8> {
        header(0x21, 0x11, &[&[203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb], fields].concat())
    }

    fn v6(source: Ipv6Addr, port: u16) -> Vec<u8> {
        header(0x21, 0x21, &[&source.octets()[..], &[0; 16], &port.to_be_bytes(), &[1, 0xbb]].concat())
    }

    /// What is read, and what is left behind it.
    async fn read_all(bytes: &[u8]) -> (Result<Relayed, String>, usize) {
        let mut left = bytes;
        let read = read(&mut left).await.map_err(|error| error.to_string());
        (read, left.len())
    }

    #[tokio::test]
    async fn a_header_is_read_to_its_end_and_no_further() {
        let client = |text: &str| Ok(Relayed::Client(text.parse().unwrap()));
        let v6 = v6("2001:db8::7".parse().unwrap(), 443);
        for (bytes, expected) in [
            (v4(&[]), client("203.0.113.7:12345")),
            (v4(&[4, 0, 2, 0, 0, 0xea, 0, 0]), client("203.0.113.7:12345")),
            (v6, client("[2001:db8::7]:443")),
            (header(0x20, 0, &[]), Ok(Relayed::Itself)),
            (header(0x20, 0x11, &[1, 2, 3]), Ok(Relayed::Itself)),
            (header(0x21, 0, &[9; 40]), Ok(Relayed::Itself)),
            (header(0x21, 0x31, &[0; 216]), Ok(Relayed::Itself)),
        ] {
            let text = [&bytes[..], b"GET / HTTP/1.1"].concat();
            assert_eq!(read_all(&text).await, (expected, 14), "{bytes:?}");
            let (cut, _) = read_all(&bytes[..bytes.len() - 1]).await;
            assert!(cut.unwrap_err().contains("ended before"), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_of_version_2_is_refused() {
        let mut broken = v4(&[]);
        broken[4] = b' ';
        for (bytes, word) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 443\r\n".to_vec(), "does not begin"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "does not begin"),
            (broken, "does not begin"),
            (header(0x11, 0x11, &[0; 12]), "does not begin"),
            (header(0x22, 0x11, &[0; 12]), "unknown command"),
            (header(0x21, 0x12, &[0; 12]), "which is not TCP"),
            (header(0x21, 0x41, &[0; 12]), "which is not TCP"),
            (header(0x21, 0x11, &[0; 11]), "11 bytes long"),
            (header(0x21, 0x21, &[0; 12]), "12 bytes long"),
            (header(0x21, 0x31, &[0; 215]), "215 bytes long"),
            (header(0x21, 0x11, &[0; 4097]), "4097 bytes long"),
            (v4(&[4]), "does not fit"),
            (v4(&[4, 0, 9, 1]), "does not fit"),
            (v4(&[3, 0, 1, 1]), "does not fit"),
        ] {
            let (read, _) = read_all(&bytes).await;
            let error = read.unwrap_err();
            assert!(error.contains(word), "{bytes:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_checksum_is_held_against_the_header() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let mut bytes = v4(&[4, 0, 0, 3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 7]);
        let sum = crc32c(&bytes).to_be_bytes();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&sum);
        assert!(read_all(&bytes).await.0.is_ok());
        bytes[16] ^= 1;
        assert!(read_all(&bytes).await.0.unwrap_err().contains("checksum"));
    }

    proptest! {
        /// Every address comes out as it went in, and no bytes make the reader fail otherwise than by an error.
        #[test]
        fn any_address_is_read_and_any_bytes_are_survived(
            ip in any::<u128>(), port in any::<u16>(),
            junk in proptest::collection::vec(any::<u8>(), 0..64), command in any::<u8>(), family in any::<u8>(),
        ) {
            let ip = Ipv6Addr::from(ip);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (read, left) = runtime.block_on(read_all(&v6(ip, port)));
            prop_assert_eq!((read, left), (Ok(Relayed::Client((ip, port).into())), 0));
            let _ = runtime.block_on(read_all(&header(command, family, &junk)));
            let _ = runtime.block_on(read_all(&junk));
        }
    }
}
