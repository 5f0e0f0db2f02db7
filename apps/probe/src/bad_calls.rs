//! Batched calls that make no sense: the kernel must answer each with the right error, and go on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ix_abi::area::{CALL_COUNT, CALLS, SCATTER_GATHER, WAKE_NS};
use ix_abi::{CALL_CAPACITY, CallNumber, Error, SCATTER_GATHER_CAPACITY, SENDV_MAX, call};
use libix::{Area, BootBlock, Kernel};

/// A call as it lies in the array.
type Words = [u64; call::WORDS];

/// Handles that no kernel gave us.
const FORGED: [u64; 6] = [
    0,
    1,
    0xffff,
    0x1234_5678_9abc_def0,
    i64::MAX as u64,
    u64::MAX,
];

/// Numbers, counts and arguments out of range.
pub fn calls() -> Result<(), String> {
    let mut kernel = kernel()?;
    for number in [0, 14, 77, u32::MAX] {
        let words = [u64::from(number), 0, 0, 0];
        expect(&mut kernel, words, Error::Invalid)?;
    }
    for port in [0, 65_536, 0x8000_0000, u64::from(u32::MAX)] {
        for number in [CallNumber::Listen, CallNumber::Unlisten] {
            expect(&mut kernel, words(number, port, [0; 3]), Error::Invalid)?;
        }
    }
    let listen = words(CallNumber::Listen, 7, [0; 3]);
    expect_result(&mut kernel, listen, 0)?;
    expect(&mut kernel, listen, Error::InUse)?;
    expect_result(&mut kernel, words(CallNumber::Unlisten, 7, [0; 3]), 0)?;

    let last = SCATTER_GATHER_CAPACITY as u64;
    let most = SENDV_MAX as u64;
    for (entries, first) in [
        (0, 0),
        (most + 1, 0),
        (u64::from(u32::MAX), 0),
        (1, last),
        (most, last - most + 1),
        (1, u64::MAX),
    ] {
        let sendv = words(CallNumber::Sendv, entries, [0, first, 0]);
        expect(&mut kernel, sendv, Error::Invalid)?;
    }
    // Neither ::1 nor ff02::1 is another host, nor is 224.0.0.1.
    let mapped = 0xffff_0000_0000;
    for (high, low) in [(0, 1), (0xff02 << 48, 1), (0, mapped | 0xe000_0001)] {
        let connect = words(CallNumber::Connect, 7, [1, high, low]);
        expect(&mut kernel, connect, Error::Invalid)?;
    }
    overlong_batches(&mut kernel)
}

/// Call counts beyond the array: what is in it is executed, the rest does not exist.
fn overlong_batches(kernel: &mut impl Kernel) -> Result<(), String> {
    for count in [CALL_CAPACITY as u64 + 1, 1 << 32, u64::MAX] {
        let calls: Vec<Words> = (0..CALL_CAPACITY).map(|_| [u64::MAX, 0, 0, 1]).collect();
        for (index, result) in ask(kernel, &calls, count).into_iter().enumerate() {
            if result != Error::Invalid.to_result() {
                return Err(format!("call {index} of {count} nonsense calls: {result}"));
            }
        }
    }
    Ok(())
}

/// Every call that takes a handle, with handles that are none.
pub fn handles() -> Result<(), String> {
    static BYTE: [u8; 1] = [1];
    let mut kernel = kernel()?;
    let area = kernel.area();
    store(area, SCATTER_GATHER, BYTE.as_ptr() as u64);
    store(area, SCATTER_GATHER + 1, BYTE.len() as u64);
    for handle in FORGED {
        for (number, small, argument) in [
            (CallNumber::Accept, 0, 1),
            (CallNumber::Sendv, 1, 0),
            (CallNumber::RecvDone, 0, 1),
            (CallNumber::Shutdown, 0, 0),
            (CallNumber::Close, 0, 0),
            (CallNumber::Abort, 0, 0),
        ] {
            let words = words(number, small, [handle, argument, 0]);
            expect(&mut kernel, words, Error::BadHandle)?;
        }
    }
    Ok(())
}

/// Scatter-gather entries that lie outside of what the application may send from.
pub fn pointers() -> Result<(), String> {
    static BYTES: [u8; 8] = [0; 8];
    let mut kernel = kernel()?;
    let area = kernel.area();
    let boot = BootBlock::new(area);
    let ours = BYTES.as_ptr() as u64;
    for (address, bytes) in [
        (0, 8),
        (0x1000, 8),
        (0xffff_ffff_8020_0000, 8),
        (0x8000_0000_0000, 8),
        (u64::MAX - 3, 8),
        (ours, 0),
        (ours, 1 << 40),
        (ours, u64::MAX),
        (boot.heap_base() + boot.heap_bytes() - 4, 8),
        (boot.heap_base() + boot.heap_bytes(), 1),
        (boot.mbuf_base() - 4, 8),
        (0x10_0000_0000, 8),
    ] {
        store(area, SCATTER_GATHER, address);
        store(area, SCATTER_GATHER + 1, bytes);
        let sendv = words(CallNumber::Sendv, 1, [FORGED[3], 0, 0]);
        expect(&mut kernel, sendv, Error::BadAddress)
            .map_err(|what| format!("{address:#x} + {bytes:#x}: {what}"))?;
    }
    Ok(())
}

fn kernel() -> Result<impl Kernel, String> {
    libix::kernel().map_err(|error| format!("{error}"))
}

fn words(number: CallNumber, small: u64, [handle, argument, last]: [u64; 3]) -> Words {
    [number as u64 | small << 32, handle, argument, last]
}

fn expect(kernel: &mut impl Kernel, words: Words, error: Error) -> Result<(), String> {
    expect_result(kernel, words, error.to_result())
}

fn expect_result(kernel: &mut impl Kernel, words: Words, expected: i64) -> Result<(), String> {
    match ask(kernel, &[words], 1)[..] {
        [result] if result == expected => Ok(()),
        ref results => Err(format!(
            "call {words:x?} gave {results:?}, expected {expected}"
        )),
    }
}

/// Makes the calls, with a count that may be a lie, and returns their results.
fn ask(kernel: &mut impl Kernel, calls: &[Words], count: u64) -> Vec<i64> {
    let area = kernel.area();
    for (index, words) in calls.iter().enumerate() {
        for (offset, &word) in words.iter().enumerate() {
            store(area, CALLS + index * call::WORDS + offset, word);
        }
    }
    store(area, CALL_COUNT, count);
    // Back at once, whether there are events or not.
    store(area, WAKE_NS, 1);
    kernel.run_io();
    (0..calls.len())
        .map(|index| area.load(CALLS + index * call::WORDS + call::RESULT) as i64)
        .collect()
}

fn store(area: Area, index: usize, value: u64) {
    // SAFETY: there is no connection in this application whose memory calls could give away.
    unsafe { area.write(index, value) };
}
