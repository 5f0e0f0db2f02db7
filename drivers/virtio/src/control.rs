//! The control queue (5.1.6.5): commands to the device, one at a time.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use ix_hal::DmaSlice;
use ix_nic::Rss;

use crate::Error;
use crate::ring::{NEXT, Ring, WRITE};
use crate::transport::{Delay, Transport, Window, wait};

/// Descriptors of the queue: a command takes three.
const SIZE: u16 = 4;
/// Words of the ring.
const RING_WORDS: usize = Ring::words(SIZE);
/// Words behind it: class and command, acknowledgement, and the longest data.
const COMMAND_AT: usize = RING_WORDS;
const ACK_AT: usize = RING_WORDS + 1;
const DATA_AT: usize = RING_WORDS + 2;
const DATA_WORDS: usize = RSS_CONFIG_BYTES.div_ceil(8);
/// What the queue needs.
pub(crate) const WORDS: usize = DATA_AT + DATA_WORDS;

/// How long the device may take for a command: it may be a program among others.
const COMMAND_TIMEOUT_US: u32 = 5_000_000;
/// In place of an acknowledgement: none yet.
const NO_ACK: u64 = 0xff;

const CLASS_RX: u8 = 0;
const RX_PROMISC: u8 = 0;
const RX_ALLMULTI: u8 = 1;
const CLASS_MQ: u8 = 4;
const MQ_RSS_CONFIG: u8 = 1;

/// Hash types (5.1.6.4.1): TCP and UDP by addresses and ports, over both IP versions.
pub(crate) const HASH_TYPES: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5;
const RETA_ENTRIES: usize = 128;
const KEY_BYTES: usize = 40;
/// Bytes of `struct virtio_net_rss_config` with a whole table and key (5.1.6.5.7).
const RSS_CONFIG_BYTES: usize = 4 + 2 + 2 + 2 * RETA_ENTRIES + 2 + 1 + KEY_BYTES;

/// The queue, and the memory of the command under way.
#[derive(Debug)]
pub(crate) struct Control {
    pub ring: Ring,
    memory: DmaSlice,
    /// Where it is told of commands.
    notify: u32,
    number: u16,
}

impl Control {
    /// A queue that the device does not know yet.
    pub(crate) fn new(memory: DmaSlice, number: u16) -> Result<Self, Error> {
        if memory.words() < WORDS {
            return Err(Error::Memory("control queue"));
        }
        Ok(Self {
            ring: Ring::new(&memory, SIZE)?,
            memory,
            notify: 0,
            number,
        })
    }

    /// Says where it is told of commands.
    pub(crate) fn set_notify(&mut self, notify: u32) {
        self.notify = notify;
    }

    /// Lets in what is for this station and for groups, and nothing else: which groups, the engine
    /// knows.
    pub(crate) fn set_filters<W: Window>(
        &mut self,
        transport: &Transport<W>,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        let promiscuous = [CLASS_RX, RX_PROMISC];
        self.run(transport, promiscuous, &[0], "promiscuous mode off", delay)?;
        let groups = [CLASS_RX, RX_ALLMULTI];
        self.run(transport, groups, &[1], "all groups on", delay)
    }

    /// Spreads flows over `queues` queue pairs; what is not hashed comes to the first.
    pub(crate) fn set_rss<W: Window>(
        &mut self,
        transport: &Transport<W>,
        rss: &Rss,
        queues: u32,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        let mut config = [0; RSS_CONFIG_BYTES];
        let (head, rest) = config.split_at_mut(8);
        let (table, tail) = rest.split_at_mut(2 * RETA_ENTRIES);
        head[..4].copy_from_slice(&HASH_TYPES.to_le_bytes());
        head[4..6].copy_from_slice(&(RETA_ENTRIES as u16 - 1).to_le_bytes());
        for (entry, queue) in table.as_chunks_mut().0.iter_mut().zip(rss.reta) {
            *entry = u16::from(queue).to_le_bytes();
        }
        tail[..2].copy_from_slice(&(queues as u16).to_le_bytes());
        tail[2] = KEY_BYTES as u8;
        tail[3..].copy_from_slice(&rss.key);
        self.run(transport, [CLASS_MQ, MQ_RSS_CONFIG], &config, "RSS", delay)
    }

    /// Runs a command, and waits until the device has acknowledged it.
    fn run<W: Window>(
        &mut self,
        transport: &Transport<W>,
        command: [u8; 2],
        data: &[u8],
        name: &'static str,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        let words = self.memory.pairs().as_flattened();
        words[COMMAND_AT].store(u64::from(u16::from_le_bytes(command)), Relaxed);
        words[ACK_AT].store(NO_ACK, Relaxed);
        for (word, bytes) in words[DATA_AT..].iter().zip(data.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Relaxed);
        }
        let bus_of = |word: usize| self.memory.bus() + 8 * word as u64;
        self.ring.describe(0, bus_of(COMMAND_AT), 2, NEXT, 1);
        let data_len = data.len() as u32;
        self.ring.describe(1, bus_of(DATA_AT), data_len, NEXT, 2);
        self.ring.describe(2, bus_of(ACK_AT), 1, WRITE, 0);
        self.ring.post(0);
        self.ring.publish();
        if self.ring.wants_notice() {
            transport.notify.write16(self.notify, self.number);
        }
        let what = "a command is not acknowledged";
        wait(what, COMMAND_TIMEOUT_US, delay, || self.ring.waiting() != 0)?;
        self.ring.take();
        match words[ACK_AT].load(Acquire) as u8 {
            0 => Ok(()),
            _ => Err(Error::Command(name)),
        }
    }
}
