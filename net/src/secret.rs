//! What must not be guessable from outside: initial sequence numbers, timestamp offsets and
//! ephemeral ports, all derived from the configured secret; and the rate limits on what strangers
//! can make us send.

use crate::flow::FlowKey;
use core::hash::Hasher;
use ix_hal::Instant;
use siphasher::sip::SipHasher24;

/// Derives per-flow numbers from the secret.
pub(crate) struct Secret {
    key: [u8; 16],
}

/// What a flow's hash is for, so that one number says nothing about another.
#[derive(Clone, Copy)]
enum Purpose {
    SequenceAndTimestamp = 1,
    Port = 2,
    FlowTable = 3,
    Cookie = 4,
    Delay = 5,
}

impl Secret {
    /// Keeps the configured secret.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The initial sequence number and the timestamp offset of a flow that opens now: RFC 6528 3,
    /// with a clock of 4.096 us; RFC 7323 5.4.
    pub fn initial_sequence(&self, key: &FlowKey, now: Instant) -> (u32, u32) {
        let hash = self.hash(Purpose::SequenceAndTimestamp, key);
        let clock = (now.0 >> 12) as u32;
        ((hash as u32).wrapping_add(clock), (hash >> 32) as u32)
    }

    /// Where the search for a local port starts for a peer (RFC 6056 3.3.3).
    pub fn port_offset(&self, key: &FlowKey) -> u32 {
        self.hash(Purpose::Port, key) as u32
    }

    /// What makes up the SYN cookies of a flow: one number for all time (`stamp` 0), and one for
    /// each time stamp.
    pub fn cookie(&self, key: &FlowKey, stamp: u64) -> u32 {
        self.hash_with(Purpose::Cookie, key, &[stamp]) as u32
    }

    /// A number to spread answers by that everybody gives to the same question.
    pub fn spread(&self, now: Instant) -> u32 {
        self.hash_with(Purpose::Delay, &FlowKey::default(), &[now.0]) as u32
    }

    /// Two words of key for the flow table's hash.
    pub fn flow_table_key(&self) -> [u64; 2] {
        let word = |low| {
            let mut key = FlowKey::default();
            key.remote.low = low;
            self.hash(Purpose::FlowTable, &key)
        };
        [word(1), word(2)]
    }

    fn hash(&self, purpose: Purpose, key: &FlowKey) -> u64 {
        self.hash_with(purpose, key, &[])
    }

    fn hash_with(&self, purpose: Purpose, key: &FlowKey, more: &[u64]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(key.remote.high);
        hasher.write_u64(key.remote.low);
        // Own addresses are numbered as they come, so that 24 bits are not used up.
        let own = u64::from(key.own() & 0xff_ffff) << 8;
        hasher.write_u64(u64::from(key.ports()) << 32 | own | purpose as u64);
        for word in more {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }
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
    fn rate_limit_starts_afresh_each_second() {
        let mut limit = RateLimit::new(2);
        let allowed = |limit: &mut RateLimit, now| limit.allows(Instant(now));
        assert!(allowed(&mut limit, 0) && allowed(&mut limit, 1));
        assert!(!allowed(&mut limit, 2));
        assert!(allowed(&mut limit, 1 << 30));
    }
}
