//! Which functions the addresses are of that a guest ended with: the backtrace of a kernel that panicked,
//! and the instruction that an application was stopped at.

use std::path::Path;
use std::time::Duration;

use addr2line::{Loader, demangle_auto};

use crate::config::MachineConfig;
use crate::console::Console;
use crate::exit::{Cause, GuestExit};

/// How the kernel begins the line with its return addresses.
const BACKTRACE: &str = "ix: backtrace";
/// How it begins the line with the application's instruction pointer.
const REGISTERS: &str = "ix:   rip ";
/// QEMU has ended, so the console closes as soon as it is read.
const CONSOLE_PATIENCE: Duration = Duration::from_secs(5);

/// The functions that the guest's last words name by address, the innermost first; nothing if it ended
/// otherwise, or if the image has no symbols.
pub(crate) fn of_end(config: &MachineConfig, console: &Console, cause: &Cause) -> Vec<String> {
    let (image, words) = match cause {
        Cause::Guest(GuestExit::Panic) => (&config.kernel, BACKTRACE),
        Cause::Guest(GuestExit::AppFault | GuestExit::AppOverstayed) => (&config.app, REGISTERS),
        _ => return Vec::new(),
    };
    let Ok(line) = console.wait_for(words, CONSOLE_PATIENCE) else {
        return Vec::new();
    };
    let addresses = match words {
        // Each is that of the instruction after a call.
        BACKTRACE => return_addresses(&line).map(|address| address - 1).collect(),
        _ => instruction(&line).into_iter().collect(),
    };
    named(image, addresses)
}

/// The addresses in a line like `ix: backtrace (addr2line -e ixkernel.elf): 0x1 0x2`.
fn return_addresses(line: &str) -> impl Iterator<Item = u64> {
    let words = line.split_ascii_whitespace();
    words
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .filter(|address| *address != 0)
}

/// The address in a line like `ix:   rip 0000000000400000 rsp ..`.
fn instruction(line: &str) -> Option<u64> {
    let word = line.strip_prefix(REGISTERS)?.split(' ').next()?;
    u64::from_str_radix(word, 16).ok()
}

/// A line for each function at each of these addresses, inlined ones first.
fn named(image: &Path, addresses: Vec<u64>) -> Vec<String> {
    match Loader::new(image) {
        Ok(loader) => addresses
            .into_iter()
            // The library adds one to it.
            .filter(|address| *address != u64::MAX)
            .flat_map(|address| functions(&loader, address))
            .collect(),
        Err(error) => {
            log::warn!("no symbols in {}: {error}", image.display());
            Vec::new()
        }
    }
}

fn functions(loader: &Loader, address: u64) -> Vec<String> {
    let mut functions = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.map(|function| {
                let name = function.raw_name().unwrap_or_default();
                demangle_auto(name, None).into_owned()
            });
            let place = frame.location.and_then(|it| it.file.zip(it.line));
            let place = place.map(|(file, line)| format!(" at {file}:{line}"));
            functions.push((name.unwrap_or_default(), place.unwrap_or_default()));
        }
    }
    // Line tables have no paths of modules, and nothing of assembly; symbols have, but for inlined ones.
    let symbol = loader.find_symbol(address).unwrap_or("(no symbol)");
    let symbol = demangle_auto(symbol.into(), None).into_owned();
    match functions.last_mut() {
        Some((outermost, _)) => *outermost = symbol,
        None => functions.push((symbol, String::new())),
    }
    let lines = functions.into_iter();
    lines
        .map(|(name, place)| format!("{address:#x} {name}{place}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_guests_words() {
        let line = "ix: backtrace (addr2line -e ixkernel.elf): 0xffffffff80260a10 0x12";
        let addresses: Vec<u64> = return_addresses(line).collect();
        assert_eq!(addresses, [0xffff_ffff_8026_0a10, 0x12]);
        let line = "ix:   rip 0000000000402a1c rsp 0000000000000000 rflags 00010246";
        assert_eq!(instruction(line), Some(0x40_2a1c));
        assert_eq!(instruction("ix:   rip x"), None);
    }

    #[test]
    fn only_ends_that_name_addresses_are_looked_into() {
        let config = MachineConfig::new(&crate::Artifacts::at("/nowhere"), "echo");
        let console = Console::default();
        let words = "ix: backtrace (addr2line -e ixkernel.elf): 0x12\n";
        let reader = console.follow(words.as_bytes(), None, false);
        reader.join().unwrap();
        for cause in [
            Cause::Stopped,
            // There is no such image.
            Cause::Guest(GuestExit::Panic),
            // Nor such a line.
            Cause::Guest(GuestExit::AppFault),
        ] {
            assert!(of_end(&config, &console, &cause).is_empty(), "{cause:?}");
        }
    }

    #[test]
    fn an_image_without_symbols_at_an_address_says_so() {
        let own = std::env::current_exe().unwrap();
        let nowhere = u64::MAX - 1;
        let expected = [format!("{nowhere:#x} (no symbol)")];
        assert_eq!(named(&own, vec![u64::MAX, nowhere]), expected);
    }
}
