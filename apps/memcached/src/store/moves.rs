//! Pages go from class to class, so that memory is where items are asked for: by themselves, or because
//! somebody says so.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::Store;
use super::chunk::Chunk;

/// [`Moves::age_percent`] to begin with.
const AGE_PERCENT: u32 = 50;

/// The number that stands for the pages of no class, and that for any class.
const POOL: i32 = 0;
const ANY: i32 = -1;

/// When pages move by themselves.
pub struct Moves {
    /// 0: never. 1: by the ages of items. 2: also to a class whose items are hardly younger.
    pub level: AtomicU32,
    /// A class gets a page of another one if what gives way in it is younger than so many percent of what
    /// gives way in the other one.
    pub age_percent: AtomicU32,
    /// Pages that have moved.
    pub count: AtomicU64,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            level: AtomicU32::new(1),
            age_percent: AtomicU32::new(AGE_PERCENT),
            count: AtomicU64::new(0),
        }
    }
}

impl Moves {
    /// Whether a class whose items give way at an age of `age` gets a page of one where they are `oldest`.
    fn is_due(&self, age: u32, oldest: u32) -> bool {
        let percent = match self.level.load(Relaxed) {
            0 => 0,
            1 => self.age_percent.load(Relaxed),
            _ => 100,
        };
        u64::from(age.max(1)) * 100 < u64::from(oldest) * u64::from(percent)
    }
}

/// Why a page does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmoved {
    /// It is to stay where it is.
    Same,
    /// There is no such class.
    BadClass,
    /// It would be the last one.
    NoSpare,
}

impl Store {
    /// Moves a page from one class to another, by their numbers. It comes later if answers with its items are
    /// under way, and then to whoever needs one.
    pub fn reassign(&'static self, from: i32, to: i32, now: u32) -> Result<(), Unmoved> {
        if from == to {
            return Err(Unmoved::Same);
        }
        let known = POOL..=self.classes.len() as i32;
        if !known.contains(&to) || !(known.contains(&from) || from == ANY) {
            return Err(Unmoved::BadClass);
        }
        let class = |number: i32| (number - 1) as usize;
        let from = match from {
            ANY => self.richest(class(to.max(1))),
            POOL => {
                let mut pages = self.pages.lock();
                let page = match pages.len() {
                    0 | 1 => None,
                    _ => pages.pop(),
                };
                let page = page.ok_or(Unmoved::NoSpare)?;
                drop(pages);
                self.classes[class(to)].lock().add_page(page);
                return Ok(());
            }
            number => Some(class(number)),
        };
        let spare = from.filter(|&from| self.classes[from].lock().pages > 1);
        let from = spare.ok_or(Unmoved::NoSpare)?;
        match to {
            POOL => self.free_page(from, now),
            to => self.move_page(from, class(to), now),
        };
        Ok(())
    }

    /// A chunk for a class of a page that another class gives up: that with the most pages.
    #[cold]
    pub(super) fn chunk_of_others(&'static self, number: usize, now: u32) -> Option<Chunk> {
        self.move_page(self.richest(number)?, number, now)?;
        self.classes[number].lock().take_free(self, number as u8)
    }

    /// Takes a page for a class in which items of that age give way from the class that gives way to
    /// nothing for longest, if that is much longer: else memory would stay with the sizes that were asked
    /// for first.
    #[cold]
    pub(super) fn balance(&'static self, number: usize, age: u32, now: u32) {
        let others = (0..self.classes.len()).filter(|&other| other != number);
        let ages = others.filter_map(|other| {
            let class = self.classes[other].lock();
            (class.pages > 1).then(|| (class.end_age(now), other))
        });
        if let Some((oldest, other)) = ages.max()
            && self.moves.is_due(age, oldest)
        {
            self.move_page(other, number, now);
        }
    }

    /// The class with the most pages but for that one.
    fn richest(&self, number: usize) -> Option<usize> {
        let others = (0..self.classes.len()).filter(|&other| other != number);
        others.max_by_key(|&other| self.classes[other].lock().pages)
    }

    fn move_page(&'static self, from: usize, to: usize, now: u32) -> Option<()> {
        let page = self.classes[from].lock().give_up_page(self, now)?;
        self.moves.count.fetch_add(1, Relaxed);
        self.classes[to].lock().add_page(page);
        Some(())
    }

    fn free_page(&'static self, from: usize, now: u32) -> Option<()> {
        let page = self.classes[from].lock().give_up_page(self, now)?;
        self.moves.count.fetch_add(1, Relaxed);
        self.pages.lock().push(page);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_due_by_level_and_ages() {
        let moves = Moves::default();
        for (level, age, oldest, is_due) in [
            (1, 10, 21, true),
            (1, 10, 20, false),
            (1, 0, 3, true),
            (0, 1, 1000, false),
            (2, 10, 11, true),
            (2, 11, 11, false),
        ] {
            moves.level.store(level, Relaxed);
            assert_eq!(
                moves.is_due(age, oldest),
                is_due,
                "{level}: {age} and {oldest}"
            );
        }
        moves.level.store(1, Relaxed);
        moves.age_percent.store(90, Relaxed);
        assert!(moves.is_due(10, 12) && !moves.is_due(10, 11));
    }
}
