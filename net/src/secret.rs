//! What must not be guessable from outside: initial sequence numbers, timestamp offsets and
//! ephemeral ports, all derived from the configured secret; and the rate limits on what strangers
//! can make us send.

use crate::flow::FlowKey;
use crate::siphash::SipHash13;
use core::hash::Hasher;
use ix_hal::Instant;
use siphasher::sip::SipHasher24;

/// Derives per-flow numbers from the secret.
pub(crate) struct Secret {
    key: [u8; 16],
    /// For what each connection needs.
    sequence: SipHash13,
}

/// What a flow's hash is for, so that one number says nothing about another.
#[derive(Clone, Copy)]
enum Purpose {
    SequenceKey = 1,
    Port = 2,
    FlowTable = 3,
    Cookie = 4,
    Delay = 5,
}

impl Secret {
    /// Keeps the configured secret.
    pub fn new(key: [u8; 16]) -> Self {
        let sequence = SipHash13::new(two_words(&key, Purpose::SequenceKey));
        Self { key, sequence }
    }

    /// The initial sequence number and the timestamp offset of a flow that opens now: RFC 6528 3,
    /// with a clock of 4.096 us; RFC 7323 5.4.
    #[inline(always)]
    pub fn initial_sequence(&self, key: &FlowKey, now: Instant) -> (u32, u32) {
        let ports = u64::from(key.ports());
        // The length of the message tells the families apart.
        let hash = match key.remote.ipv4() {
            Some(remote) => self
                .sequence
                .hash([u64::from(remote) << 32 | ports], key.own().into()),
            None => {
                // Own addresses are numbered as they come, so that 24 bits are not used up.
                let own = u64::from(key.own() & 0xff_ffff);
                self.sequence
                    .hash([key.remote.high, key.remote.low], own << 32 | ports)
            }
        };
        let clock = (now.0 >> 12) as u32;
        ((hash as u32).wrapping_add(clock), (hash >> 32) as u32)
    }

    /// Where the search for a local port starts for a peer (RFC 6056 3.3.3).
    pub fn port_offset(&self, key: &FlowKey) -> u32 {
        hash(&self.key, Purpose::Port, key, &[]) as u32
    }

    /// What makes up the SYN cookies of a flow: one number for all time (`stamp` 0), and one for
    /// each time stamp.
    pub fn cookie(&self, key: &FlowKey, stamp: u64) -> u32 {
        hash(&self.key, Purpose::Cookie, key, &[stamp]) as u32
    }

    /// A number to spread answers by that everybody gives to the same question.
    pub fn spread(&self, now: Instant) -> u32 {
        hash(&self.key, Purpose::Delay, &FlowKey::default(), &[now.0]) as u32
    }

    /// Two words of key for the flow table's hash.
    pub fn flow_table_key(&self) -> [u64; 2] {
        two_words(&self.key, Purpose::FlowTable)
    }
}

/// Two words that follow from the secret.
fn two_words(secret: &[u8; 16], purpose: Purpose) -> [u64; 2] {
    [1, 2].map(|low| {
        let mut key = FlowKey::default();
        key.remote.low = low;
        hash(secret, purpose, &key, &[])
    })
}

fn hash(secret: &[u8; 16], purpose: Purpose, key: &FlowKey, more: &[u64]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write_u64(key.remote.high);
    hasher.write_u64(key.remote.low);
    let own = u64::from(key.own() & 0xff_ffff) << 8;
    hasher.write_u64(u64::from(key.ports()) << 32 | own | purpose as u64);
    for word in more {
        hasher.write_u64(*word);
    }
    hasher.finish()
}

/// At most so many in each second.
pub(crate) struct RateLimit {
    per_second: u32,
    used: u32,
    second: u64,
}

impl RateLimit {
    /// A limit of `per_second`.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            used: 0,
            second: 0,
        }
    }

    /// Whether one more is within the limit; counts it if so.
    pub fn allows(&mut self, now: Instant) -> bool {
        // Seconds of 2^30 ns serve as well and need no division.
        let second = now.0 >> 30;
        if second != self.second {
            self.second = second;
            self.used = 0;
        }
        let allowed = self.used < self.per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::IpAddress;

    #[test]
    fn sequence_numbers_of_a_flow_grow_with_the_clock_and_differ_between_flows() {
        let secret = Secret::new([7; 16]);
        let key = FlowKey::new(IpAddress::from_ipv4(1), 2, 0, 3);
        let other = FlowKey::new(IpAddress::from_ipv4(1), 2, 0, 4);
        let (first, offset) = secret.initial_sequence(&key, Instant(0));
        let (later, same) = secret.initial_sequence(&key, Instant(4096 * 100));
        assert_eq!(later.wrapping_sub(first), 100);
        assert_eq!(offset, same);
        assert_ne!(secret.initial_sequence(&other, Instant(0)), (first, offset));
        let elsewhere = Secret::new([8; 16]);
        assert_ne!(
            elsewhere.initial_sequence(&key, Instant(0)),
            (first, offset)
        );
    }

    #[test]
    fn sequence_numbers_depend_on_every_part_of_the_flow() {
        let secret = Secret::new([7; 16]);
        for high in [0, 1 << 61] {
            let base = IpAddress::from_ipv4(1);
            let remote = IpAddress::from_words(high, base.low);
            let number = |key: FlowKey| secret.initial_sequence(&key, Instant(0));
            let numbers = [
                number(FlowKey::new(remote, 2, 4, 3)),
                number(FlowKey::new(remote, 2, 5, 3)),
                number(FlowKey::new(remote, 2, 4, 2)),
                number(FlowKey::new(remote, 3, 4, 3)),
                number(FlowKey::new(
                    IpAddress::from_words(high, base.low + 1),
                    2,
                    4,
                    3,
                )),
            ];
            for (at, number) in numbers.iter().enumerate() {
                assert!(
                    numbers[..at]
                        .iter()
                        .all(|before| { before.0 != number.0 && before.1 != number.1 })
                );
            }
        }
    }

    #[test]
    fn rate_limit_starts_afresh_each_second() {
        let mut limit = RateLimit::new(2);
        let allowed = |limit: &mut RateLimit, now| limit.allows(Instant(now));
        assert!(allowed(&mut limit, 0) && allowed(&mut limit, 1));
        assert!(!allowed(&mut limit, 2));
        assert!(allowed(&mut limit, 1 << 30));
    }
}
