//! The device as a whole.

use ix_hal::{DmaSlice, MbufGeometry};
use ix_nic::{Redirect, Rss};

use crate::Error;
use crate::control::{self, Control};
use crate::queue_pair::{QueueMemory, QueuePair};
use crate::ring::Ring;
use crate::rx::RxQueue;
use crate::transport::{Features, NO_VECTOR, Transport, Window, wait};
use crate::tx::TxQueue;

/// Most queue pairs that the driver opens: as many as the other drivers.
pub const MAX_QUEUES: u32 = 16;

/// Least MTU that IPv4 allows (RFC 791).
const MIN_MTU: u32 = 68;
const ETHERNET: u32 = 14;

/// The device's own configuration (5.1.4).
mod config {
    pub(super) const MAC: u32 = 0;
    pub(super) const STATUS: u32 = 6;
    pub(super) const MAX_VIRTQUEUE_PAIRS: u32 = 8;
    pub(super) const MTU: u32 = 10;
    pub(super) const RSS_MAX_KEY_SIZE: u32 = 17;
    pub(super) const RSS_MAX_TABLE_LENGTH: u32 = 18;
    pub(super) const SUPPORTED_HASH_TYPES: u32 = 20;
}

/// Configuration of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queue pairs, 1 to [`MAX_QUEUES`].
    pub queues: u32,
    /// Longest IP packet in bytes.
    pub mtu: u32,
    /// Spreading of received flows, where there are several.
    pub rss: Rss,
}

impl Config {
    /// `queues` queue pairs evenly used, MTU 1500.
    pub fn new(queues: u32) -> Self {
        Self {
            queues,
            mtu: 1500,
            rss: Rss::even(queues),
        }
    }
}

/// Configuration of a queue pair.
#[derive(Clone, Copy, Debug)]
pub struct QueueConfig {
    /// MSI-X vector of its receive interrupt.
    pub vector: u16,
    /// The pool that its receive buffers come from.
    pub pool: MbufGeometry,
}

/// A device whose features are negotiated. `D` waits that many microseconds, at least.
#[derive(Debug)]
pub struct VirtioNet<W, D> {
    transport: Transport<W>,
    delay: D,
    features: Features,
    control: Control,
    config: Config,
    mac: [u8; 6],
    /// A bit for each queue pair that is open.
    opened: u32,
}

impl<W: Window, D: FnMut(u32)> VirtioNet<W, D> {
    /// Words of memory that the control queue takes.
    pub const CONTROL_WORDS: usize = control::WORDS;

    /// Resets the device and initialises all but its queue pairs (3.1.1).
    pub fn new(
        transport: Transport<W>,
        config: Config,
        control_memory: DmaSlice,
        mut delay: D,
    ) -> Result<Self, Error> {
        config.rss.check(config.queues)?;
        transport.reset(&mut delay)?;
        let features = choose(transport.greet(), config.queues)?;
        transport.accept(features)?;
        let pairs = check(&transport, features, &config)?;
        let mac: [u8; 6] =
            core::array::from_fn(|at| transport.device.read8(config::MAC + at as u32));
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(Error::StationAddress(mac));
        }
        // 5.1.2: behind all queue pairs that the device has, in use or not.
        let number = 2 * pairs as u16;
        let mut control = Control::new(control_memory, number)?;
        let notify = transport.enable_queue(number, &control.ring, NO_VECTOR)?;
        control.set_notify(notify);
        Ok(Self {
            transport,
            delay,
            features,
            control,
            config,
            mac,
            opened: 0,
        })
    }

    /// Opens a queue pair. All are to be open before [`VirtioNet::start`].
    pub fn open(
        &mut self,
        number: u32,
        config: QueueConfig,
        memory: QueueMemory,
    ) -> Result<QueuePair<W>, Error> {
        if number >= self.config.queues || self.opened & 1 << number != 0 {
            return Err(Error::QueueInUse(number));
        }
        let max_frame = self.config.mtu + ETHERNET;
        let bytes = config.pool.size();
        if bytes < max_frame as usize || bytes > usize::from(u16::MAX) {
            let mtu = self.config.mtu;
            let max = mtu;
            return Err(Error::Mtu { mtu, max, bytes });
        }
        let has_hash = self.features.contains(Features::HASH_REPORT);
        let queue = 2 * number as u16;
        let rx_ring = self.ring(queue, &memory.rx_ring, memory.rx_size)?;
        let tx_ring = self.ring(queue + 1, &memory.tx_ring, memory.tx_size)?;
        let rx = RxQueue::new(rx_ring, memory.rx_headers, has_hash, &config.pool)?;
        let (rooms, rooms_bus) = (memory.rooms, memory.rooms_bus);
        let mut tx = TxQueue::new(tx_ring, rooms, rooms_bus, has_hash, max_frame)?;
        tx.segments = self.features.contains(SEGMENTS);
        tx.ecn = self.features.contains(Features::HOST_ECN);
        let transport = &self.transport;
        let pair = QueuePair {
            transport: transport.clone(),
            rx_notify: transport.enable_queue(queue, &rx.ring, config.vector)?,
            tx_notify: transport.enable_queue(queue + 1, &tx.ring, NO_VECTOR)?,
            rx,
            tx,
            number,
            mac: self.mac,
        };
        self.opened |= 1 << number;
        Ok(pair)
    }

    /// A queue as long as memory and device allow.
    fn ring(&self, queue: u16, memory: &DmaSlice, most: u16) -> Result<Ring, Error> {
        let max = self.transport.queue_size(queue);
        Ring::new(memory, most.min(max))
    }

    /// The device is live from now on: filters are set, and flows spread.
    pub fn start(&mut self) -> Result<(), Error> {
        self.transport.go();
        if self.features.contains(Features::CTRL_RX) {
            self.control.set_filters(&self.transport, &mut self.delay)?;
        }
        self.spread()
    }

    fn spread(&mut self) -> Result<(), Error> {
        let Config { queues, rss, .. } = &self.config;
        if !self.features.contains(Features::RSS) {
            return Ok(());
        }
        let control = &mut self.control;
        control.set_rss(&self.transport, rss, *queues, &mut self.delay)
    }

    /// Waits until the link is up.
    pub fn wait_for_link(&mut self, timeout_us: u32) -> Result<(), Error> {
        let transport = &self.transport;
        wait("the link is down", timeout_us, &mut self.delay, || {
            link_is_up(transport)
        })
    }

    /// Stops the device, so that it no longer touches memory.
    pub fn shut_down(mut self) -> Result<(), Error> {
        self.transport.reset(&mut self.delay)
    }

    /// The station address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }
}

impl<W: Window, D: FnMut(u32)> Redirect for VirtioNet<W, D> {
    type Error = Error;

    fn rss(&self) -> &Rss {
        &self.config.rss
    }

    /// The acknowledgement of the command says that the device has taken note.
    fn redirect(&mut self, groups: u128, queue: u32) -> Result<(), Error> {
        let rss = self.config.rss.redirected(groups, queue);
        rss.check(self.config.queues)?;
        self.config.rss = rss;
        self.spread()
    }
}

/// Cutting over both IP versions, which is what the engine asks for.
const SEGMENTS: Features = Features::HOST_TSO4.union(Features::HOST_TSO6);
/// What nothing works without.
const NEEDED: Features = Features::VERSION_1
    .union(Features::CSUM)
    .union(Features::MAC)
    .union(Features::STATUS)
    .union(Features::CTRL_VQ);
/// What is taken where it is offered.
const WELCOME: Features = SEGMENTS
    .union(Features::HOST_ECN)
    .union(Features::MTU)
    .union(Features::CTRL_RX)
    .union(Features::ACCESS_PLATFORM);
/// What several queue pairs need.
const STEERING: Features = Features::MQ
    .union(Features::RSS)
    .union(Features::HASH_REPORT);

/// Of what is offered, what the driver takes.
fn choose(offered: Features, queues: u32) -> Result<Features, Error> {
    let missing = NEEDED.difference(offered);
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    let mut features = NEEDED | offered & WELCOME;
    if queues > 1 {
        let missing = STEERING.difference(offered);
        if !missing.is_empty() {
            return Err(Error::Unsteered { queues, missing });
        }
        features |= STEERING;
    }
    Ok(features)
}

/// Checks that the device can do what it is to; the queue pairs that it has.
fn check<W: Window>(
    transport: &Transport<W>,
    features: Features,
    config: &Config,
) -> Result<u32, Error> {
    let device = &transport.device;
    let (mtu, queues) = (config.mtu, config.queues);
    let max = match features.contains(Features::MTU) {
        true => u32::from(device.read16(config::MTU)),
        false => u32::from(u16::MAX) - ETHERNET,
    };
    if !(MIN_MTU..=max).contains(&mtu) {
        return Err(Error::Mtu { mtu, max, bytes: 0 });
    }
    if !features.contains(Features::RSS) {
        return Ok(1);
    }
    let pairs = u32::from(device.read16(config::MAX_VIRTQUEUE_PAIRS));
    let max = pairs.min(MAX_QUEUES);
    if queues > max {
        return Err(Error::QueueCount { queues, max });
    }
    let key = device.read8(config::RSS_MAX_KEY_SIZE);
    let table = device.read16(config::RSS_MAX_TABLE_LENGTH);
    let hashes = device.read32(config::SUPPORTED_HASH_TYPES);
    let Rss { key: own_key, reta } = &config.rss;
    let is_rich = usize::from(key) >= own_key.len()
        && usize::from(table) >= reta.len()
        && hashes & control::HASH_TYPES == control::HASH_TYPES;
    match is_rich {
        true => Ok(pairs),
        false => Err(Error::Unsteered {
            queues,
            missing: Features::RSS,
        }),
    }
}

/// Link status, in the first bit (5.1.4).
pub(crate) fn link_is_up<W: Window>(transport: &Transport<W>) -> bool {
    transport.device.read16(config::STATUS) & 1 != 0
}
