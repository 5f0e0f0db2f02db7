//! A Linux TAP device as the other end: raw frames, no packet information, no virtio header, no
//! offloads, so that each frame is complete and has its checksums.
//!
//! Three kinds of `ioctl` are needed that no safe interface offers; the unsafe code of this module
//! is confined to `ioctls`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice};

use super::{Wire, WireError};

/// How to open a TAP device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// Create it, bring it up with this MTU, and let it vanish with the process; otherwise it must
    /// exist, and stays as it is.
    pub create_with_mtu: Option<u32>,
}

/// Why a TAP device could not be opened; each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Linux would not take the name.
    #[error("`{0}` is not an interface name: use 1 to 15 letters, digits, `-`, `_` or `.`")]
    BadName(String),
    /// To be opened but not there.
    #[error("no interface `{0}`: create it (`ip tuntap add {0} mode tap`) or pass --create-tap")]
    Missing(String),
    /// To be created but there.
    #[error("interface `{0}` exists already: choose another name or leave --create-tap out")]
    Exists(String),
    /// Another process has it open.
    #[error("TAP `{0}` is in use by another process: stop that one or choose another name")]
    Busy(String),
    /// Not allowed.
    #[error(
        "no permission to open TAP `{0}`: run as root, or have root create it for this user \
         (`ip tuntap add {0} mode tap user NAME`)"
    )]
    Permission(String),
    /// No TAP driver.
    #[error("cannot open /dev/net/tun ({0}): load the kernel module (`modprobe tun`)")]
    NoDriver(Errno),
    /// Anything else.
    #[error("{action} of TAP `{name}` failed ({error}): check that it is a TAP with one queue")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// The operating system's answer.
        error: Errno,
    },
}

/// How often the interface is looked at, whether somebody has brought it up or down.
const LOOK_NS: u64 = 100_000_000;

/// An open TAP device.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    /// A socket, to ask for the interface's state.
    control: OwnedFd,
    name: String,
    /// The interface was up when it was last looked at.
    up: bool,
    next_look_ns: u64,
    /// The interface was deleted under us.
    gone: bool,
}

impl Tap {
    /// Opens or creates a TAP device.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn open(config: &TapConfig) -> Result<Self, TapError> {
        let name = &config.name;
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=15).contains(&name.len())
            || !name.bytes().all(valid)
            || name == "."
            || name == ".."
        {
            return Err(TapError::BadName(name.clone()));
        }
        let io = |action| {
            move |error: Errno| match error {
                Errno::PERM | Errno::ACCESS => TapError::Permission(name.clone()),
                Errno::BUSY if config.create_with_mtu.is_some() => TapError::Exists(name.clone()),
                Errno::BUSY => TapError::Busy(name.clone()),
                error => TapError::Io {
                    action,
                    name: name.clone(),
                    error,
                },
            }
        };
        let control = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
            .map_err(io("opening the control socket"))?;
        let exists = netdevice::name_to_index(&control, name).is_ok();
        match (exists, config.create_with_mtu) {
            (false, None) => return Err(TapError::Missing(name.clone())),
            (true, Some(_)) => return Err(TapError::Exists(name.clone())),
            (true, None) | (false, Some(_)) => {}
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open("/dev/net/tun", flags, Mode::empty()) {
            Err(Errno::PERM | Errno::ACCESS) => return Err(TapError::Permission(name.clone())),
            other => other.map_err(TapError::NoDriver)?,
        };
        ioctls::attach(&file, name, config.create_with_mtu.is_some()).map_err(io("attaching"))?;
        ioctls::disable_offloads(&file).map_err(io("switching the offloads off"))?;
        if let Some(mtu) = config.create_with_mtu {
            ioctls::set_mtu(&control, name, mtu).map_err(io("setting the MTU"))?;
            ioctls::bring_up(&control, name).map_err(io("bringing up"))?;
        }
        let up = ioctls::is_up(&control, name).map_err(io("looking at the state"))?;
        Ok(Self {
            file,
            control,
            name: name.clone(),
            up,
            next_look_ns: 0,
            gone: false,
        })
    }
}

impl Wire for Tap {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        match rustix::io::write(&self.file, frame) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Err(WireError::Full),
            // The interface is not up.
            Err(Errno::IO) => Err(WireError::Down),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        match rustix::io::read(&self.file, frame) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::BADFD) => {
                if !std::mem::replace(&mut self.gone, true) {
                    log::warn!("the TAP interface was deleted: the link is down from now on");
                }
                Err(WireError::Down)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As a cable whose other end is switched off: no signal while the interface is down.
    fn link_up(&self) -> bool {
        self.up && !self.gone
    }

    fn advance(&mut self, now_ns: u64) {
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns + LOOK_NS;
            // It cannot be asked when it is gone, which reading finds out.
            self.up = ioctls::is_up(&self.control, &self.name).unwrap_or(false);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        (!self.gone).then_some(self.next_look_ns)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Requests to the TUN driver (linux/if_tun.h) and to interfaces (linux/sockios.h).
#[expect(unsafe_code, reason = "ioctl has no safe interface")]
mod ioctls {
    use std::os::fd::AsFd;

    use rustix::io::Errno;
    use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl};

    const TUNSETIFF: Opcode = 0x4004_54ca;
    const TUNSETOFFLOAD: Opcode = 0x4004_54d0;
    const SIOCGIFFLAGS: Opcode = 0x8913;
    const SIOCSIFFLAGS: Opcode = 0x8914;
    const SIOCSIFMTU: Opcode = 0x8922;

    const IFF_TAP: u16 = 0x0002;
    const IFF_NO_PI: u16 = 0x1000;
    const IFF_TUN_EXCL: u16 = 0x8000;
    const IFF_UP: u16 = 0x0001;

    /// `struct ifreq`: the interface's name and a union, whose first bytes are used here.
    #[repr(C)]
    struct Ifreq {
        name: [u8; 16],
        value: [u8; 24],
    }

    impl Ifreq {
        /// The caller made sure that the name is at most 15 bytes long.
        fn new(name: &str, value: &[u8]) -> Self {
            let mut request = Self {
                name: [0; 16],
                value: [0; 24],
            };
            request.name[..name.len()].copy_from_slice(name.as_bytes());
            request.value[..value.len()].copy_from_slice(value);
            request
        }
    }

    /// Attaches the file to an interface; with `create`, fails if the interface exists.
    pub(super) fn attach(file: impl AsFd, name: &str, create: bool) -> Result<(), Errno> {
        let exclusive = if create { IFF_TUN_EXCL } else { 0 };
        let flags = IFF_TAP | IFF_NO_PI | exclusive;
        let mut request = Ifreq::new(name, &flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is.
        unsafe { ioctl(file, Updater::<TUNSETIFF, Ifreq>::new(&mut request)) }
    }

    /// Takes all offloads back, so that the kernel completes checksums and cuts segments.
    pub(super) fn disable_offloads(file: impl AsFd) -> Result<(), Errno> {
        // SAFETY: TUNSETOFFLOAD takes an integer, no memory.
        unsafe { ioctl(file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(0)) }
    }

    pub(super) fn set_mtu(control: impl AsFd, name: &str, mtu: u32) -> Result<(), Errno> {
        let mut request = Ifreq::new(name, &mtu.to_ne_bytes());
        // SAFETY: SIOCSIFMTU reads one `ifreq`, which `request` is.
        unsafe { ioctl(control, Updater::<SIOCSIFMTU, Ifreq>::new(&mut request)) }
    }

    pub(super) fn is_up(control: impl AsFd, name: &str) -> Result<bool, Errno> {
        flags(control, name).map(|flags| flags & IFF_UP != 0)
    }

    fn flags(control: impl AsFd, name: &str) -> Result<u16, Errno> {
        let mut request = Ifreq::new(name, &[]);
        // SAFETY: SIOCGIFFLAGS reads and writes one `ifreq`, which `request` is.
        unsafe { ioctl(control, Updater::<SIOCGIFFLAGS, Ifreq>::new(&mut request)) }?;
        Ok(u16::from_ne_bytes([request.value[0], request.value[1]]))
    }

    pub(super) fn bring_up(control: impl AsFd, name: &str) -> Result<(), Errno> {
        let flags = flags(&control, name)? | IFF_UP;
        let mut request = Ifreq::new(name, &flags.to_ne_bytes());
        // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is.
        unsafe { ioctl(control, Updater::<SIOCSIFFLAGS, Ifreq>::new(&mut request)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_linux_would_not_take_are_refused_at_once() {
        for name in ["", "sixteen-letters-", "a/b", "..", "tap 0", "tap%d"] {
            let config = TapConfig {
                name: name.into(),
                create_with_mtu: None,
            };
            assert!(matches!(Tap::open(&config), Err(TapError::BadName(_))));
        }
    }

    #[test]
    fn a_missing_interface_is_named_with_what_to_do() {
        let config = TapConfig {
            name: "ixnosuchtap".into(),
            create_with_mtu: None,
        };
        let message = Tap::open(&config).unwrap_err().to_string();
        assert!(message.contains("ixnosuchtap"), "{message}");
        assert!(message.contains("--create-tap"), "{message}");
    }
}
