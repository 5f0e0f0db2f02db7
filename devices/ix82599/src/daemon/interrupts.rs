//! Interrupts by eventfd, as the client assigned, masked and unmasked them.

use std::os::fd::OwnedFd;

use ixgbe_spec::MSIX_VECTORS;
use rustix::io::Errno;

use crate::model::InterruptSink;
use crate::vfio_user::MSI_INDEX;
use crate::vfio_user::message::SetIrqs;

const VECTORS: usize = MSIX_VECTORS as usize;

/// Eventfds for the MSI-X vectors and the MSI vector that the client enabled; it enables one kind at a
/// time, and with MSI every interrupt is that of its one vector.
#[derive(Debug, Default)]
pub struct EventFds {
    msix: Vectors<VECTORS>,
    msi: Vectors<1>,
}

impl EventFds {
    /// No vector is assigned.
    pub fn new() -> Self {
        Self::default()
    }

    /// MSI-X vectors that wait to be unmasked: the pending bits.
    pub fn pending(&self) -> u64 {
        self.msix.pending
    }

    /// Carries out a request about vectors of either kind; their range was checked. Descriptors are
    /// assigned to the vectors in order; none at all takes the assigned ones away.
    ///
    /// # Errors
    /// `EINVAL` for a number of descriptors other than that of the vectors.
    pub fn set(&mut self, set: SetIrqs<'_>, fds: Vec<OwnedFd>) -> Result<(), Errno> {
        if set.index == MSI_INDEX {
            self.msi.set(set, fds)
        } else {
            self.msix.set(set, fds)
        }
    }
}

impl InterruptSink for EventFds {
    fn interrupt(&mut self, vector: u16) {
        if self.msi.fds[0].is_some() {
            self.msi.interrupt(0);
        } else {
            self.msix.interrupt(vector);
        }
    }
}

/// An eventfd for each vector of a kind.
#[derive(Debug)]
struct Vectors<const COUNT: usize> {
    fds: [Option<OwnedFd>; COUNT],
    masked: u64,
    /// Vectors that interrupted while they were masked.
    pending: u64,
}

impl<const COUNT: usize> Vectors<COUNT> {
    fn set(&mut self, set: SetIrqs<'_>, fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let vectors = set.start as usize..(set.start + set.count) as usize;
        if set.flags & SetIrqs::DATA_EVENTFD != 0 {
            if set.flags & SetIrqs::ACTION_TRIGGER == 0 {
                return Err(Errno::INVAL);
            }
            return self.assign(vectors, fds);
        }
        if set.flags & SetIrqs::ACTION_TRIGGER != 0 && set.count == 0 {
            *self = Self::default();
            return Ok(());
        }
        for (place, vector) in vectors.enumerate() {
            let chosen = set.flags & SetIrqs::DATA_NONE != 0
                || set.data.get(place).is_some_and(|byte| *byte != 0);
            if chosen {
                self.act(set.flags, vector);
            }
        }
        Ok(())
    }

    fn assign(&mut self, vectors: std::ops::Range<usize>, fds: Vec<OwnedFd>) -> Result<(), Errno> {
        if !fds.is_empty() && fds.len() != vectors.len() {
            return Err(Errno::INVAL);
        }
        // Whatever it is that the client sent, an interrupt must not wait for it.
        for fd in &fds {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let mut fds = fds.into_iter();
        for vector in vectors {
            self.fds[vector] = fds.next();
            self.flush(vector);
        }
        Ok(())
    }

    fn act(&mut self, flags: u32, vector: usize) {
        match flags & SetIrqs::ACTION {
            SetIrqs::ACTION_MASK => self.masked |= 1 << vector,
            SetIrqs::ACTION_UNMASK => {
                self.masked &= !(1 << vector);
                self.flush(vector);
            }
            _ => self.interrupt(vector as u16),
        }
    }

    /// Sends what is pending for a vector, if it can be sent.
    fn flush(&mut self, vector: usize) {
        if self.pending & 1 << vector != 0 && self.masked & 1 << vector == 0 {
            self.pending &= !(1 << vector);
            self.interrupt(vector as u16);
        }
    }
}

impl<const COUNT: usize> Default for Vectors<COUNT> {
    fn default() -> Self {
        Self {
            fds: [const { None }; COUNT],
            masked: 0,
            pending: 0,
        }
    }
}

impl<const COUNT: usize> Vectors<COUNT> {
    fn interrupt(&mut self, vector: u16) {
        let Some(fd) = self.fds.get(usize::from(vector)) else {
            return;
        };
        if self.masked & 1 << vector != 0 {
            self.pending |= 1 << vector;
        } else if let Some(fd) = fd {
            // A counter at its end (EAGAIN) is still readable: the interrupt is not lost.
            if let Err(error) = rustix::io::write(fd, &1u64.to_ne_bytes())
                && error != Errno::AGAIN
            {
                log::warn!("interrupt {vector} was not delivered: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::AsFd;

    fn request(flags: u32, start: u32, count: u32, data: &[u8]) -> SetIrqs<'_> {
        SetIrqs {
            flags,
            index: 2,
            start,
            count,
            data,
        }
    }

    /// A descriptor to look at and its copy for the device.
    fn pair() -> (OwnedFd, OwnedFd) {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let copy = fd.try_clone().unwrap();
        (fd, copy)
    }

    fn count(fd: impl AsFd) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(fd, &mut bytes) {
            Ok(_) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }

    const ASSIGN: u32 = SetIrqs::DATA_EVENTFD | SetIrqs::ACTION_TRIGGER;

    #[test]
    fn an_assigned_vector_interrupts_until_it_is_taken_away() {
        let mut fds = EventFds::new();
        let (one, copy) = pair();
        fds.set(request(ASSIGN, 5, 1, &[]), vec![copy]).unwrap();
        fds.interrupt(5);
        fds.interrupt(6);
        assert_eq!(count(&one), 1);
        fds.set(request(ASSIGN, 5, 1, &[]), vec![]).unwrap();
        fds.interrupt(5);
        assert_eq!(count(&one), 0);
    }

    #[test]
    fn a_masked_vector_is_kept_until_it_is_unmasked() {
        let mut fds = EventFds::new();
        let (one, copy) = pair();
        fds.set(request(ASSIGN, 0, 1, &[]), vec![copy]).unwrap();
        let mask = SetIrqs::DATA_NONE | SetIrqs::ACTION_MASK;
        fds.set(request(mask, 0, 1, &[]), vec![]).unwrap();
        fds.interrupt(0);
        assert_eq!((count(&one), fds.pending()), (0, 1));
        let unmask = SetIrqs::DATA_BOOL | SetIrqs::ACTION_UNMASK;
        fds.set(request(unmask, 0, 2, &[1, 0]), vec![]).unwrap();
        assert_eq!((count(&one), fds.pending()), (1, 0));
    }

    #[test]
    fn a_count_of_zero_takes_all_away() {
        let mut fds = EventFds::new();
        let (one, copy) = pair();
        fds.set(request(ASSIGN, 63, 1, &[]), vec![copy]).unwrap();
        let none = SetIrqs::DATA_NONE | SetIrqs::ACTION_TRIGGER;
        fds.set(request(none, 63, 1, &[]), vec![]).unwrap();
        assert_eq!(count(&one), 1, "a trigger by the client");
        fds.set(request(none, 0, 0, &[]), vec![]).unwrap();
        fds.interrupt(63);
        assert_eq!(count(&one), 0);
    }

    #[test]
    fn with_msi_every_interrupt_is_that_of_its_vector() {
        let mut fds = EventFds::new();
        let (one, copy) = pair();
        let msi = |flags, count| SetIrqs {
            index: MSI_INDEX,
            ..request(flags, 0, count, &[])
        };
        fds.set(msi(ASSIGN, 1), vec![copy]).unwrap();
        fds.interrupt(0);
        fds.interrupt(9);
        assert_eq!(count(&one), 2);
        let none = SetIrqs::DATA_NONE | SetIrqs::ACTION_TRIGGER;
        fds.set(msi(none, 0), vec![]).unwrap();
        fds.interrupt(0);
        assert_eq!(count(&one), 0);
    }

    #[test]
    fn a_wrong_number_of_descriptors_is_refused() {
        let mut fds = EventFds::new();
        let (_one, copy) = pair();
        assert_eq!(
            fds.set(request(ASSIGN, 0, 2, &[]), vec![copy]),
            Err(Errno::INVAL)
        );
    }
}
