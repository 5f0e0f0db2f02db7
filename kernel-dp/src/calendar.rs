//! The date of the PC's real-time clock (Motorola MC146818 and its descendants), as seconds since 1970.
//!
//! The clock is taken to show UTC, as servers and QEMU have it.

/// Registers that make up a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Register 0.
    pub second: u8,
    /// Register 2.
    pub minute: u8,
    /// Register 4; the top bit is "p.m." if the clock counts to 12.
    pub hour: u8,
    /// Register 7.
    pub day: u8,
    /// Register 8.
    pub month: u8,
    /// Register 9, without the century.
    pub year: u8,
    /// Register B: how the others are to be read.
    pub status_b: u8,
}

/// In register B: numbers are binary, not in decimal digits.
const BINARY: u8 = 1 << 2;
/// In register B: hours count to 24, not to 12.
const HOURS_24: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

/// Years before this one are of the next century: the kernel is younger than that.
const YEAR_OF_CENTURY: u8 = 70;

impl Reading {
    /// Seconds since 1970; `None` if this is no date.
    pub fn unix_seconds(&self) -> Option<u64> {
        let number = |byte: u8| match self.status_b & BINARY {
            0 if byte >> 4 > 9 || byte & 0xf > 9 => None,
            0 => Some(10 * (byte >> 4) + (byte & 0xf)),
            _ => Some(byte),
        };
        let hour = match self.status_b & HOURS_24 {
            0 => {
                let hour = number(self.hour & !AFTERNOON).filter(|hour| (1..=12).contains(hour))?;
                hour % 12 + if self.hour & AFTERNOON != 0 { 12 } else { 0 }
            }
            _ => number(self.hour)?,
        };
        let (second, minute) = (number(self.second)?, number(self.minute)?);
        let (day, month) = (number(self.day)?, number(self.month)?);
        let year = number(self.year).filter(|&year| year < 100)?;
        let is_date = (1..=31).contains(&day) && (1..=12).contains(&month);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let century = if year < YEAR_OF_CENTURY { 2000 } else { 1900 };
        let days = days_since_1970(century + u64::from(year), month.into(), day.into());
        let hours = days * 24 + u64::from(hour);
        Some((hours * 60 + u64::from(minute)) * 60 + u64::from(second))
    }
}

/// From 1 January 1970 to a day of the Gregorian calendar from then on.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March have their leap day at the end (Zeller's congruence).
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 12),
        _ => (year, month),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day;
    // The same sum for 1 January 1970.
    days - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORNING: Reading = Reading {
        second: 0x59,
        minute: 0x08,
        hour: 0x07,
        day: 0x29,
        month: 0x02,
        year: 0x24,
        status_b: HOURS_24,
    };

    #[test]
    fn dates_are_the_seconds_that_date_1_says() {
        assert_eq!(MORNING.unix_seconds(), Some(1_709_190_539));
        let binary = Reading {
            second: 59,
            minute: 8,
            hour: 7,
            day: 29,
            month: 2,
            year: 24,
            status_b: HOURS_24 | BINARY,
        };
        assert_eq!(binary.unix_seconds(), MORNING.unix_seconds());
        let first = Reading {
            second: 0,
            minute: 0,
            hour: 0,
            day: 1,
            month: 1,
            year: 0x70,
            status_b: HOURS_24,
        };
        assert_eq!(first.unix_seconds(), Some(0));
    }

    #[test]
    fn hours_to_12_are_told_apart() {
        let seconds = |hour| {
            let status_b = 0;
            let reading = Reading {
                hour,
                status_b,
                ..MORNING
            };
            reading
                .unix_seconds()
                .map(|seconds| seconds % 86_400 / 3600)
        };
        assert_eq!(seconds(0x12), Some(0));
        assert_eq!(seconds(0x07), Some(7));
        assert_eq!(seconds(0x92), Some(12));
        assert_eq!(seconds(0x87), Some(19));
        assert_eq!(seconds(0x13), None);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for reading in [
            Reading {
                second: 0x60,
                ..MORNING
            },
            Reading {
                minute: 0x0a,
                ..MORNING
            },
            Reading { day: 0, ..MORNING },
            Reading {
                month: 0x13,
                ..MORNING
            },
            Reading {
                year: 0xff,
                ..MORNING
            },
        ] {
            assert_eq!(reading.unix_seconds(), None, "{reading:?}");
        }
    }
}
