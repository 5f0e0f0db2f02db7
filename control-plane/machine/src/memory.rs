//! How much memory a machine needs for its application, where nobody says.

use crate::config::MemorySize;

/// The application whose arguments say how much memory it needs.
const MEMCACHED: &str = "memcached";
/// What most machines have, in MiB.
const USUAL_MIB: u64 = 512;
/// What memcached takes for items unless told otherwise, and at most, in MiB.
const USUAL_ITEMS_MIB: u64 = 64;
const MOST_ITEMS_MIB: u64 = 1 << 20;

impl MemorySize {
    /// What a machine with so many elastic threads needs for that application with those arguments.
    pub fn for_application(application: &str, arguments: &[String], threads: u32) -> Self {
        let items_mib = match application {
            MEMCACHED => items_mib(arguments),
            _ => 0,
        };
        let threads = u64::from(threads.max(1));
        // A thread needs a heap of an eighth more than its share and some MiB, and heaps are 7 parts of
        // 16 of what a thread has (`MemoryPlan` of the kernel).
        let heap_mib = items_mib / threads * 9 / 8 + 16;
        let needed_mib = threads * (heap_mib * 16 / 7 + 16) + 96;
        MemorySize::from_mib(needed_mib.max(USUAL_MIB))
    }
}

/// What `-m` says, as one word or two; the application itself refuses what is no number, or too large.
fn items_mib(arguments: &[String]) -> u64 {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if let Some(attached) = word.strip_prefix("-m") {
            let number = match attached {
                "" => words.next().map_or("", String::as_str),
                attached => attached,
            };
            let number = number.parse().unwrap_or(USUAL_ITEMS_MIB);
            return number.min(MOST_ITEMS_MIB);
        }
    }
    USUAL_ITEMS_MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memcached_gets_the_memory_that_its_items_need() {
        let mib = |application, arguments: &str, threads| {
            let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            MemorySize::for_application(application, &words, threads).mib()
        };
        assert_eq!(mib(MEMCACHED, "", 1), 512);
        assert_eq!(mib(MEMCACHED, "-m 512", 1), 1465);
        assert_eq!(mib(MEMCACHED, "-U 1 -m512", 1), 1465);
        assert!(mib(MEMCACHED, "-m 512", 4) > 1465);
        assert_eq!(mib(MEMCACHED, "-m many", 1), 512);
        let most = mib(MEMCACHED, "-m 1048576", 1);
        assert_eq!(mib(MEMCACHED, "-m 18446744073709551615", 1), most);
        assert_eq!(mib("echo", "-m 512", 1), 512);
    }
}
