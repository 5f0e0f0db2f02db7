//! Words and numbers as memcached reads and writes them.

use core::ops::ControlFlow;

/// In each byte of a word: 1, and the highest bit.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHEST: u64 = ONES << 7;

/// The highest bit of each byte that is a space or a control character (Warren, Hacker's Delight 6-1: sums
/// of seven bits carry into no neighbour).
#[inline]
fn marks(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let above_space = (word & !HIGHEST) + ONES * (0x7f - b' ' as u64);
    !(above_space | word) & HIGHEST
}

/// Where the first space or control character is; the length if there is none.
#[inline]
pub fn plain_end(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, &word) in words.iter().enumerate() {
        let marks = marks(word);
        if marks != 0 {
            return number * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let before = bytes.len() - rest.len();
    let end = rest.iter().position(|&byte| byte <= b' ');
    before + end.unwrap_or(rest.len())
}

/// Says where spaces and zero bytes are, one after the other, until it is told to stop. These two end
/// words; a zero byte ends the line, too.
#[inline]
pub fn each_word_end(line: &[u8], mut say: impl FnMut(usize) -> ControlFlow<()>) {
    let mut look = |at: usize| match line[at] {
        b' ' | 0 => say(at),
        _ => ControlFlow::Continue(()),
    };
    let (words, rest) = line.as_chunks::<8>();
    for (number, &word) in words.iter().enumerate() {
        let mut marks = marks(word);
        while marks != 0 {
            if look(number * 8 + marks.trailing_zeros() as usize / 8).is_break() {
                return;
            }
            marks &= marks - 1;
        }
    }
    let mut ends = line.len() - rest.len()..line.len();
    // Nothing is left to do whether it was told to stop or not.
    let _ = ends.try_for_each(look);
}

/// Where the first space or zero byte is; the length if there is none.
#[inline]
pub fn word_end(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    each_word_end(bytes, |at| {
        end = at;
        ControlFlow::Break(())
    });
    end
}

/// Most digits of a number of 64 bits.
const DIGITS: usize = 20;

/// A number in decimal.
pub struct Digits {
    digits: [u8; DIGITS],
    start: usize,
}

impl Digits {
    /// Of that number.
    pub fn new(number: u64) -> Self {
        let (mut digits, mut start, mut rest) = ([0; DIGITS], DIGITS, number);
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return Self { digits, start };
            }
        }
    }

    /// Its digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// What stands between key and data in the answer to `get`: ` <flags> <bytes>\r\n`.
pub struct Suffix {
    text: [u8; SUFFIX_MAX],
    start: usize,
}

/// Two numbers of 32 bits, two spaces and a line end.
const SUFFIX_MAX: usize = 2 * 10 + 4;

impl Suffix {
    /// For those flags, and data of that length.
    pub fn new(flags: u32, data_bytes: u32) -> Self {
        let mut suffix = Self {
            text: [b' '; SUFFIX_MAX],
            start: SUFFIX_MAX - 2,
        };
        suffix.text[SUFFIX_MAX - 2..].copy_from_slice(b"\r\n");
        suffix.prepend(data_bytes);
        suffix.prepend(flags);
        suffix
    }

    /// Its text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }

    /// A number, and the space before it.
    fn prepend(&mut self, number: u32) {
        let mut rest = number;
        loop {
            self.start -= 1;
            self.text[self.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.start -= 1;
    }
}

/// A number of 64 bits as `strtoull(3)` reads it: after spaces, perhaps with a sign, up to its end, a
/// space or a zero byte. A negative one is refused, unless it comes round to a small positive one.
pub fn number(text: &[u8]) -> Option<u64> {
    let (is_negative, magnitude) = magnitude(text)?;
    if !is_negative {
        return Some(magnitude);
    }
    let number = magnitude.wrapping_neg();
    ((number as i64) >= 0).then_some(number)
}

/// A number of 32 bits with a sign: of what `strtol(3)` reads, with 64 bits, the lower half, as in
/// memcached.
pub fn signed(text: &[u8]) -> Option<i32> {
    let (is_negative, magnitude) = magnitude(text)?;
    let number = i64::try_from(magnitude).ok()?;
    Some(if is_negative { -number } else { number } as i32)
}

/// A number of 32 bits without a sign. What is longer loses its upper bits, as in memcached.
pub fn unsigned(text: &[u8]) -> Option<u32> {
    number(text).map(|number| number as u32)
}

/// Sign and digits.
#[inline]
fn magnitude(text: &[u8]) -> Option<(bool, u64)> {
    match plain_number(text) {
        Some(number) => Some((false, number)),
        None => magnitude_of_any(text),
    }
}

/// A number of digits alone, and not of so many that it could be too large: the usual case.
#[inline]
fn plain_number(text: &[u8]) -> Option<u64> {
    if !(1..DIGITS).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number: u64, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(number * 10 + u64::from(digit))
    })
}

#[inline(never)]
fn magnitude_of_any(text: &[u8]) -> Option<(bool, u64)> {
    let mut rest = text;
    while let [first, after @ ..] = rest
        && is_space(*first)
    {
        rest = after;
    }
    let is_negative = rest.first() == Some(&b'-');
    if let [b'-' | b'+', after @ ..] = rest {
        rest = after;
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_end = |&byte: &u8| byte == 0 || is_space(byte);
    if digits == 0 || !rest.get(digits).is_none_or(is_end) {
        return None;
    }
    let mut magnitude = 0_u64;
    for digit in &rest[..digits] {
        magnitude = magnitude
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    Some((is_negative, magnitude))
}

/// As `isspace(3)`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_c_library_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" \t+7", Some(7)),
            ("7 8", Some(7)),
            ("7\r", Some(7)),
            ("7a", None),
            ("7\0a", Some(7)),
            ("-1", None),
            ("-0", Some(0)),
            ("-18446744073709551615", Some(1)),
            ("", None),
            ("+", None),
            ("- 1", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(signed(b"-2147483648"), Some(i32::MIN));
        assert_eq!(signed(b"4294967297"), Some(1));
        assert_eq!(signed(b"9223372036854775808"), None);
    }

    #[test]
    fn words_end_where_a_look_at_each_byte_says() {
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut text = [b'x'; 40];
        for at in 0..text.len() {
            for &byte in &bytes {
                text[at] = byte;
                text[at / 2] = byte.wrapping_add(b'!');
                for from in 0..text.len() {
                    let rest = &text[from..];
                    let look = |wanted: fn(u8) -> bool| {
                        let position = rest.iter().position(|&byte| wanted(byte));
                        position.unwrap_or(rest.len())
                    };
                    assert_eq!(plain_end(rest), look(|byte| byte <= b' '), "{rest:?}");
                    let end = look(|byte| byte == b' ' || byte == 0);
                    assert_eq!(word_end(rest), end, "{rest:?}");
                }
            }
            text[at] = b'!';
        }
    }

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        for number in [0, 7, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(
                Digits::new(number).as_bytes(),
                number.to_string().as_bytes()
            );
        }
        assert_eq!(Suffix::new(0, 64).as_bytes(), b" 0 64\r\n");
        let longest = Suffix::new(u32::MAX, u32::MAX);
        assert_eq!(longest.as_bytes(), b" 4294967295 4294967295\r\n");
    }
}
