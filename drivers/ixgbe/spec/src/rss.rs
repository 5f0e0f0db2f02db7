//! The Toeplitz hash of receive side scaling (7.1.2.8.1): bit by bit as defined, and by table for
//! the packet path.

/// Bytes of the hash key (8.2.3.7.14).
pub const RSS_KEY_BYTES: usize = 40;
/// Entries of the redirection table, indexed by the low 7 bits of the hash (7.1.2.8).
pub const RETA_ENTRIES: usize = 128;
/// Bytes hashed of a TCP or UDP frame over IPv4: source and destination address, source and
/// destination port (7.1.2.8.1).
pub const IPV4_INPUT_BYTES: usize = 12;
/// Bytes hashed of a TCP or UDP frame over IPv6 (7.1.2.8.1).
pub const IPV6_INPUT_BYTES: usize = 36;

/// The hash of `input` under `key`. Input beyond the 36 bytes that the key has bits for is
/// ignored.
pub const fn toeplitz(key: &[u8; RSS_KEY_BYTES], input: &[u8]) -> u32 {
    let mut hash = 0;
    let mut byte = 0;
    while byte < input.len() && byte < IPV6_INPUT_BYTES {
        hash ^= byte_hash(key, byte, input[byte]);
        byte += 1;
    }
    hash
}

/// What the byte `value` at place `byte` of the input adds to the hash: for each bit that is set,
/// the 32 bits of the key that begin at that bit.
const fn byte_hash(key: &[u8; RSS_KEY_BYTES], byte: usize, value: u8) -> u32 {
    let window = (key[byte] as u64) << 32
        | (key[byte + 1] as u64) << 24
        | (key[byte + 2] as u64) << 16
        | (key[byte + 3] as u64) << 8
        | key[byte + 4] as u64;
    let mut hash = 0;
    let mut bit = 0;
    while bit < 8 {
        if value & (0x80 >> bit) != 0 {
            hash ^= (window >> (8 - bit)) as u32;
        }
        bit += 1;
    }
    hash
}

/// The hash of inputs of up to `BYTES` bytes (at most [`IPV6_INPUT_BYTES`]) under one key, by a
/// table of 1 KiB a byte: one load and one exclusive or for each byte of input.
#[derive(Clone, Debug)]
pub struct ToeplitzTable<const BYTES: usize> {
    hashes: [[u32; 256]; BYTES],
}

impl<const BYTES: usize> ToeplitzTable<BYTES> {
    const FITS_THE_KEY: () = assert!(BYTES <= IPV6_INPUT_BYTES);

    /// Builds the table.
    pub const fn new(key: &[u8; RSS_KEY_BYTES]) -> Self {
        let () = Self::FITS_THE_KEY;
        let mut hashes = [[0; 256]; BYTES];
        let mut byte = 0;
        while byte < BYTES {
            let mut value = 0;
            while value < 256 {
                hashes[byte][value] = byte_hash(key, byte, value as u8);
                value += 1;
            }
            byte += 1;
        }
        Self { hashes }
    }

    /// The hash of an input of full length.
    #[inline]
    pub fn hash(&self, input: &[u8; BYTES]) -> u32 {
        self.hash_prefix(input)
    }

    /// The hash of an input; what is beyond `BYTES` is ignored.
    #[inline]
    pub fn hash_prefix(&self, input: &[u8]) -> u32 {
        self.hashes
            .iter()
            .zip(input)
            .fold(0, |hash, (table, &value)| hash ^ table[usize::from(value)])
    }
}

/// The hash input of a TCP or UDP frame over IPv4, as it came in: the receiver's own address is
/// the destination. Addresses and ports are numbers in host order.
#[inline]
pub const fn ipv4_input(
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
) -> [u8; IPV4_INPUT_BYTES] {
    let [s0, s1, s2, s3] = source.to_be_bytes();
    let [d0, d1, d2, d3] = destination.to_be_bytes();
    let [p0, p1] = source_port.to_be_bytes();
    let [q0, q1] = destination_port.to_be_bytes();
    [s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1]
}

/// The same of a frame over IPv6.
#[inline]
pub const fn ipv6_input(
    source: [u8; 16],
    destination: [u8; 16],
    source_port: u16,
    destination_port: u16,
) -> [u8; IPV6_INPUT_BYTES] {
    let mut input = [0; IPV6_INPUT_BYTES];
    let (addresses, ports) = input.split_at_mut(32);
    let (sources, destinations) = addresses.split_at_mut(16);
    sources.copy_from_slice(&source);
    destinations.copy_from_slice(&destination);
    let (source_ports, destination_ports) = ports.split_at_mut(2);
    source_ports.copy_from_slice(&source_port.to_be_bytes());
    destination_ports.copy_from_slice(&destination_port.to_be_bytes());
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    /// The key of the verification suite (7.1.2.8.3).
    const KEY: [u8; RSS_KEY_BYTES] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, hash of the addresses, hash with the ports (7.1.2.8.3).
    const IPV4: [(&str, u16, &str, u16, u32, u32); 5] = [
        (
            "161.142.100.80",
            1766,
            "66.9.149.187",
            2794,
            0x323e_8fc2,
            0x51cc_c178,
        ),
        (
            "65.69.140.83",
            4739,
            "199.92.111.2",
            14230,
            0xd718_262a,
            0xc626_b0ea,
        ),
        (
            "12.22.207.184",
            38024,
            "24.19.198.95",
            12898,
            0xd2d0_a5de,
            0x5c2b_394a,
        ),
        (
            "209.142.163.6",
            2217,
            "38.27.205.30",
            48228,
            0x8298_9176,
            0xafc7_327f,
        ),
        (
            "202.188.127.2",
            1303,
            "153.39.163.191",
            44251,
            0x5d18_09c5,
            0x10e8_28a2,
        ),
    ];

    const IPV6: [(&str, u16, &str, u16, u32, u32); 3] = [
        (
            "3ffe:2501:200:3::1",
            1766,
            "3ffe:2501:200:1fff::7",
            2794,
            0x2cc1_8cd5,
            0x4020_7d3d,
        ),
        (
            "ff02::1",
            4739,
            "3ffe:501:8::260:97ff:fe40:efab",
            14230,
            0x0f0c_461c,
            0xdde5_1bbf,
        ),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    #[test]
    fn ipv4_vectors_of_the_verification_suite_hold() {
        let table = ToeplitzTable::<IPV4_INPUT_BYTES>::new(&KEY);
        for (destination, destination_port, source, source_port, addresses, ports) in IPV4 {
            let source: Ipv4Addr = source.parse().unwrap();
            let destination: Ipv4Addr = destination.parse().unwrap();
            let input = ipv4_input(
                source.to_bits(),
                destination.to_bits(),
                source_port,
                destination_port,
            );
            assert_eq!(toeplitz(&KEY, &input[..8]), addresses);
            assert_eq!(toeplitz(&KEY, &input), ports);
            assert_eq!(table.hash(&input), ports);
            assert_eq!(table.hash_prefix(&input[..8]), addresses);
        }
    }

    #[test]
    fn ipv6_vectors_of_the_verification_suite_hold() {
        let table = ToeplitzTable::<IPV6_INPUT_BYTES>::new(&KEY);
        for (destination, destination_port, source, source_port, addresses, ports) in IPV6 {
            let source: Ipv6Addr = source.parse().unwrap();
            let destination: Ipv6Addr = destination.parse().unwrap();
            let mut input = [0; IPV6_INPUT_BYTES];
            input[..16].copy_from_slice(&source.octets());
            input[16..32].copy_from_slice(&destination.octets());
            input[32..34].copy_from_slice(&source_port.to_be_bytes());
            input[34..].copy_from_slice(&destination_port.to_be_bytes());
            assert_eq!(toeplitz(&KEY, &input[..32]), addresses);
            assert_eq!(toeplitz(&KEY, &input), ports);
            assert_eq!(table.hash(&input), ports);
            assert_eq!(table.hash_prefix(&input[..32]), addresses);
        }
    }

    #[test]
    fn input_beyond_the_key_is_ignored() {
        let input = [0xa5; 64];
        assert_eq!(
            toeplitz(&KEY, &input),
            toeplitz(&KEY, &input[..IPV6_INPUT_BYTES])
        );
    }
}
