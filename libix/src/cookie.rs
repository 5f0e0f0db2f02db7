//! How cookies are made: the index of the slot in bits 0 to 31, the thread in bits 32 to 37, the
//! generation above, which tells the connection from earlier ones of the slot and is never 0. So
//! cookies differ on all threads, wherever the connections are.

const THREAD_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 38;
const THREADS: u64 = 1 << (GENERATION_SHIFT - THREAD_SHIFT);

const _: () = assert!(ix_abi::THREADS_MAX as u64 <= THREADS);

/// The first cookie of a slot.
pub(crate) const fn first(thread: usize, index: u32) -> u64 {
    1 << GENERATION_SHIFT | (thread as u64) << THREAD_SHIFT | index as u64
}

/// The cookie of the slot's next connection.
pub(crate) const fn next(cookie: u64) -> u64 {
    let cookie = cookie.wrapping_add(1 << GENERATION_SHIFT);
    match cookie >> GENERATION_SHIFT {
        0 => cookie | 1 << GENERATION_SHIFT,
        _ => cookie,
    }
}

/// The thread that the connection was made on.
pub(crate) const fn thread(cookie: u64) -> usize {
    (cookie >> THREAD_SHIFT & (THREADS - 1)) as usize
}

/// The slot that the connection was made in.
pub(crate) const fn index(cookie: u64) -> u32 {
    cookie as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_differ_and_the_rest_stays() {
        let cookie = first(63, u32::MAX);
        let second = next(cookie);
        assert_ne!(cookie, second);
        for cookie in [cookie, second, next(u64::MAX)] {
            assert_eq!((thread(cookie), index(cookie)), (63, u32::MAX));
        }
        assert_eq!(next(u64::MAX), cookie);
    }
}
