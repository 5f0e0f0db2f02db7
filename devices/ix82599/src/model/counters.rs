//! What went through the device, and what was dropped and why: for people, beside the statistics
//! registers, which are the guest's.

use std::fmt;

/// Defines the counters with what each is called in a line of text.
macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: $text:literal),+ $(,)?) => {
        /// Counters since the device was made. Printed, those that are zero are left out.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64),+
        }

        impl Counters {
            /// What the first counter is called that has moved since `before`, of those that tell why
            /// a frame was dropped on its way in.
            pub(super) fn drop_since(&self, before: &Counters) -> Option<&'static str> {
                let all = [$(($text, self.$field != before.$field)),+];
                all.into_iter().find(|(text, moved)| *moved && text.starts_with("in: ")).map(|(text, _)| text)
            }
        }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut separator = "";
                $(if self.$field != 0 {
                    write!(f, "{separator}{} {}", $text, self.$field)?;
                    separator = ", ";
                })+
                if separator.is_empty() { f.write_str("nothing happened") } else { Ok(()) }
            }
        }
    };
}

counters! {
    /// Frames written to guest memory.
    rx_frames: "frames in",
    /// Bytes in them.
    rx_bytes: "bytes in",
    /// Frames given to the wire.
    tx_frames: "frames out",
    /// Bytes in them.
    tx_bytes: "bytes out",
    /// Messages sent.
    interrupts: "interrupts",
    /// Resets of any kind.
    resets: "resets",
    /// Received while the receive path was off.
    rx_disabled: "in: dropped with reception off",
    /// Received for another station.
    rx_filtered: "in: filtered by address",
    /// Received shorter than a header or longer than allowed.
    rx_bad_length: "in: dropped for length",
    /// Received for a queue that is not enabled.
    rx_queue_disabled: "in: dropped for a disabled queue",
    /// Received for a queue without descriptors that asks to drop.
    rx_no_descriptor: "in: dropped without descriptor",
    /// Received while the packet buffer was full.
    rx_missed: "in: missed with packet buffer full",
    /// Received for a queue that has no usable buffer size, or too few descriptors for the frame.
    rx_unusable_ring: "in: dropped for an unusable ring",
    /// The wire failed.
    rx_wire_errors: "in: wire errors",
    /// Transmit descriptors of a reserved type.
    tx_bad_descriptor: "out: reserved descriptors",
    /// Frames of no bytes, or too short or too long for the wire.
    tx_bad_length: "out: dropped for length",
    /// Frames whose context makes no sense for them.
    tx_bad_context: "out: dropped for context",
    /// Frames that ask for an offload that is not modelled (SCTP, IPsec).
    tx_unsupported: "out: dropped for unsupported offload",
    /// Frames whose data could not be read.
    tx_unreadable: "out: dropped for unreadable data",
    /// Frames that the wire refused.
    tx_refused: "out: refused by the wire",
    /// Descriptor rings that could not be reached; the queue stops.
    ring_faults: "rings out of reach",
    /// Writes to guest memory that went nowhere.
    write_faults: "writes out of reach",
    /// Tail registers set to a descriptor that the ring does not have.
    bad_tails: "tails outside of the ring",
    /// Messages of a virtual function's driver.
    mailbox_messages: "messages",
    /// Those that nobody knows, or not in the version agreed on.
    mailbox_unknown: "messages refused as unknown",
    /// Those that came before the first.
    mailbox_unheard: "messages refused before RESET",
    /// Those that asked for what the owner of the card does not give.
    mailbox_forbidden: "messages refused by policy",
    /// Those that make no sense.
    mailbox_senseless: "messages refused as senseless",
    /// Writes to registers that are not modelled.
    unknown_writes: "writes to unknown registers",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_printed() {
        assert_eq!(Counters::default().to_string(), "nothing happened");
        let counters = Counters {
            rx_frames: 3,
            rx_filtered: 1,
            ..Counters::default()
        };
        assert_eq!(
            counters.to_string(),
            "frames in 3, in: filtered by address 1"
        );
    }
}
