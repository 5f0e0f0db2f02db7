//! Statistics registers (8.2.3.23): cleared by reading, stopping at their largest value.

use ixgbe_spec::register as reg;

use super::register::QueueCounter;

/// Defines a field-less enum of counters with the offsets of their registers.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident: $offsets:ty { $($counter:ident = $at:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($counter),+ }

        impl $name {
            pub(super) const ALL: [Self; [$(stringify!($counter)),+].len()] =
                [$(Self::$counter),+];
        }

        impl $name {
            fn places(self) -> $offsets {
                match self { $(Self::$counter => $at),+ }
            }
        }
    };
}

counters! {
    /// A 32-bit counter. Those that the model never increments (errors that cannot happen on its
    /// wires) read zero.
    Counter: u32 {
        Crcerrs = reg::CRCERRS, Illerrc = reg::ILLERRC, Errbc = reg::ERRBC, Mspdc = reg::MSPDC,
        Mlfc = reg::MLFC, Mrfc = reg::MRFC, Rlec = reg::RLEC, Ssvpc = reg::SSVPC,
        Lxontxc = reg::LXONTXC, Lxofftxc = reg::LXOFFTXC, Lxonrxcnt = reg::LXONRXCNT,
        Lxoffrxcnt = reg::LXOFFRXCNT, Prc64 = reg::PRC64, Prc127 = reg::PRC127,
        Prc255 = reg::PRC255, Prc511 = reg::PRC511, Prc1023 = reg::PRC1023,
        Prc1522 = reg::PRC1522, Gprc = reg::GPRC, Bprc = reg::BPRC, Mprc = reg::MPRC,
        Gptc = reg::GPTC, Ruc = reg::RUC, Rfc = reg::RFC, Roc = reg::ROC, Rjc = reg::RJC,
        Mngprc = reg::MNGPRC, Mngpdc = reg::MNGPDC, Mngptc = reg::MNGPTC, Tpr = reg::TPR,
        Tpt = reg::TPT, Ptc64 = reg::PTC64, Ptc127 = reg::PTC127, Ptc255 = reg::PTC255,
        Ptc511 = reg::PTC511, Ptc1023 = reg::PTC1023, Ptc1522 = reg::PTC1522, Mptc = reg::MPTC,
        Bptc = reg::BPTC, Xec = reg::XEC, Rxdgpc = reg::RXDGPC, Rxnfgpc = reg::RXNFGPC,
        Txdgpc = reg::TXDGPC, Fccrc = reg::FCCRC, Fcoerpdc = reg::FCOERPDC,
        Rxmpc0 = reg::rxmpc(0), Rxmpc1 = reg::rxmpc(1), Rxmpc2 = reg::rxmpc(2),
        Rxmpc3 = reg::rxmpc(3), Rxmpc4 = reg::rxmpc(4), Rxmpc5 = reg::rxmpc(5),
        Rxmpc6 = reg::rxmpc(6), Rxmpc7 = reg::rxmpc(7),
    }
}

counters! {
    /// A 36-bit counter in two registers, low half and high four bits.
    WideCounter: (u32, u32) {
        Gorc = (reg::GORCL, reg::GORCH), Gotc = (reg::GOTCL, reg::GOTCH),
        Tor = (reg::TORL, reg::TORH), Rxdgbc = (reg::RXDGBCL, reg::RXDGBCH),
        Rxnfgbc = (reg::RXNFGBCL, reg::RXNFGBCH), Txdgbc = (reg::TXDGBCL, reg::TXDGBCH),
    }
}

impl Counter {
    /// Offset of the register.
    pub(super) fn offset(self) -> u32 {
        self.places()
    }
}

impl WideCounter {
    /// Offsets of the low and the high register.
    pub(super) fn offsets(self) -> (u32, u32) {
        self.places()
    }
}

const WIDE_MAX: u64 = (1 << 36) - 1;
const SETS: usize = reg::QUEUE_COUNTERS as usize;

/// Counters of one of the sets that queues are mapped to.
#[derive(Clone, Copy, Debug, Default)]
struct QueueSet {
    rx_frames: u32,
    rx_dropped: u32,
    rx_bytes: u64,
    tx_frames: u32,
    tx_bytes: u64,
}

/// All statistics registers.
#[derive(Debug)]
pub(super) struct Statistics {
    counters: [u32; Counter::ALL.len()],
    wide: [u64; WideCounter::ALL.len()],
    sets: [QueueSet; SETS],
    /// RQSMR: set of each receive queue.
    rqsmr: [u32; 32],
    /// TQSM: set of each transmit queue.
    tqsm: [u32; 32],
}

impl Statistics {
    pub(super) fn new() -> Self {
        Self {
            counters: [0; Counter::ALL.len()],
            wide: [0; WideCounter::ALL.len()],
            sets: [QueueSet::default(); SETS],
            rqsmr: [0; 32],
            tqsm: [0; 32],
        }
    }

    pub(super) fn count(&mut self, counter: Counter) {
        let value = &mut self.counters[counter as usize];
        *value = value.saturating_add(1);
    }

    fn add(&mut self, counter: WideCounter, bytes: u64) {
        let value = &mut self.wide[counter as usize];
        *value = (*value + bytes).min(WIDE_MAX);
    }

    /// A frame came in, whatever will become of it; `wire_bytes` includes the FCS.
    pub(super) fn received_any(&mut self, wire_bytes: usize) {
        self.count(Counter::Tpr);
        self.add(WideCounter::Tor, wire_bytes as u64);
        self.count(match wire_bytes {
            0..=64 => Counter::Prc64,
            65..=127 => Counter::Prc127,
            128..=255 => Counter::Prc255,
            256..=511 => Counter::Prc511,
            512..=1023 => Counter::Prc1023,
            1024.. => Counter::Prc1522,
        });
        self.count(Counter::Rxnfgpc);
        self.add(WideCounter::Rxnfgbc, wire_bytes as u64);
    }

    /// A frame passed the filters.
    pub(super) fn received_good(&mut self, destination: Destination, wire_bytes: usize) {
        self.count(Counter::Gprc);
        self.add(WideCounter::Gorc, wire_bytes as u64);
        match destination {
            Destination::Unicast => {}
            Destination::Multicast => self.count(Counter::Mprc),
            Destination::Broadcast => self.count(Counter::Bprc),
        }
    }

    /// A frame was written to memory.
    pub(super) fn delivered(&mut self, queue: usize, wire_bytes: usize) {
        self.count(Counter::Rxdgpc);
        self.add(WideCounter::Rxdgbc, wire_bytes as u64);
        let set = &mut self.sets[set_of(&self.rqsmr, queue)];
        set.rx_frames = set.rx_frames.saturating_add(1);
        set.rx_bytes = (set.rx_bytes + wire_bytes as u64).min(WIDE_MAX);
    }

    /// A frame was dropped for want of a descriptor.
    pub(super) fn dropped(&mut self, queue: usize) {
        let set = &mut self.sets[set_of(&self.rqsmr, queue)];
        set.rx_dropped = set.rx_dropped.saturating_add(1);
    }

    /// A frame went out; `wire_bytes` includes the FCS.
    pub(super) fn sent(&mut self, queue: usize, destination: Destination, wire_bytes: usize) {
        self.count(Counter::Gptc);
        self.count(Counter::Tpt);
        self.count(Counter::Txdgpc);
        self.add(WideCounter::Gotc, wire_bytes as u64);
        self.add(WideCounter::Txdgbc, wire_bytes as u64);
        self.count(match wire_bytes {
            0..=64 => Counter::Ptc64,
            65..=127 => Counter::Ptc127,
            128..=255 => Counter::Ptc255,
            256..=511 => Counter::Ptc511,
            512..=1023 => Counter::Ptc1023,
            1024.. => Counter::Ptc1522,
        });
        match destination {
            Destination::Unicast => {}
            Destination::Multicast => self.count(Counter::Mptc),
            Destination::Broadcast => self.count(Counter::Bptc),
        }
        let set = &mut self.sets[set_of(&self.tqsm, queue)];
        set.tx_frames = set.tx_frames.saturating_add(1);
        set.tx_bytes = (set.tx_bytes + wire_bytes as u64).min(WIDE_MAX);
    }

    pub(super) fn take(&mut self, counter: Counter) -> u32 {
        std::mem::take(&mut self.counters[counter as usize])
    }

    /// A counter that stays.
    pub(super) fn peek(&self, counter: Counter) -> u32 {
        self.counters[counter as usize]
    }

    pub(super) fn low(&self, counter: WideCounter) -> u32 {
        self.wide[counter as usize] as u32
    }

    /// The high bits; clears the counter, whose low half is read first.
    pub(super) fn take_high(&mut self, counter: WideCounter) -> u32 {
        (std::mem::take(&mut self.wide[counter as usize]) >> 32) as u32
    }

    pub(super) fn take_queue(&mut self, counter: QueueCounter, set: u8) -> u32 {
        let set = &mut self.sets[usize::from(set) % SETS];
        match counter {
            QueueCounter::Qprc => std::mem::take(&mut set.rx_frames),
            QueueCounter::Qprdc => std::mem::take(&mut set.rx_dropped),
            QueueCounter::QbrcLow => set.rx_bytes as u32,
            QueueCounter::QbrcHigh => (std::mem::take(&mut set.rx_bytes) >> 32) as u32,
            QueueCounter::Qptc => std::mem::take(&mut set.tx_frames),
            QueueCounter::QbtcLow => set.tx_bytes as u32,
            QueueCounter::QbtcHigh => (std::mem::take(&mut set.tx_bytes) >> 32) as u32,
        }
    }

    /// RQSMR registers.
    pub(super) fn rqsmr(&mut self, index: u8) -> &mut u32 {
        &mut self.rqsmr[usize::from(index) % 32]
    }

    /// TQSM registers.
    pub(super) fn tqsm(&mut self, index: u8) -> &mut u32 {
        &mut self.tqsm[usize::from(index) % 32]
    }
}

/// Kind of a destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Unicast,
    Multicast,
    Broadcast,
}

impl Destination {
    /// Of a frame's first six bytes.
    pub(super) fn of(mac: [u8; 6]) -> Self {
        if mac == [0xff; 6] {
            Self::Broadcast
        } else if mac[0] & 1 != 0 {
            Self::Multicast
        } else {
            Self::Unicast
        }
    }
}

/// Four queues share a mapping register, a byte each, of which the low four bits count.
fn set_of(map: &[u32; 32], queue: usize) -> usize {
    (map[queue / 4 % 32] >> (8 * (queue % 4)) & 0xf) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_cleared_by_reading_and_stop_at_their_end() {
        let mut statistics = Statistics::new();
        statistics.counters[Counter::Gprc as usize] = u32::MAX;
        statistics.count(Counter::Gprc);
        assert_eq!(statistics.take(Counter::Gprc), u32::MAX);
        assert_eq!(statistics.take(Counter::Gprc), 0);
    }

    #[test]
    fn a_wide_counter_is_cleared_by_its_high_half() {
        let mut statistics = Statistics::new();
        statistics.add(WideCounter::Gorc, (5 << 32) + 7);
        assert_eq!(statistics.low(WideCounter::Gorc), 7);
        assert_eq!(statistics.low(WideCounter::Gorc), 7);
        assert_eq!(statistics.take_high(WideCounter::Gorc), 5);
        assert_eq!(statistics.low(WideCounter::Gorc), 0);
        statistics.add(WideCounter::Gorc, u64::from(u32::MAX) << 8);
        assert_eq!(statistics.take_high(WideCounter::Gorc), 0xf);
    }

    #[test]
    fn queues_count_in_the_set_they_are_mapped_to() {
        let mut statistics = Statistics::new();
        *statistics.rqsmr(1) = 0x0000_0300;
        statistics.delivered(5, 64);
        statistics.delivered(4, 64);
        statistics.dropped(5);
        assert_eq!(statistics.take_queue(QueueCounter::Qprc, 3), 1);
        assert_eq!(statistics.take_queue(QueueCounter::Qprdc, 3), 1);
        assert_eq!(statistics.take_queue(QueueCounter::QbrcLow, 3), 64);
        assert_eq!(statistics.take_queue(QueueCounter::Qprc, 0), 1);
    }
}
