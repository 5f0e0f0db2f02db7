//! Numbers as memcached reads and writes them.

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
    text: [u8; 32],
    bytes: usize,
}

impl Suffix {
    /// For those flags, and data of that length.
    pub fn new(flags: u32, data_bytes: usize) -> Self {
        let mut suffix = Self {
            text: [b' '; 32],
            bytes: 1,
        };
        suffix.push(Digits::new(flags.into()).as_bytes());
        suffix.push(b" ");
        suffix.push(Digits::new(data_bytes as u64).as_bytes());
        suffix.push(b"\r\n");
        suffix
    }

    /// Its text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.bytes]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text[self.bytes..self.bytes + bytes.len()].copy_from_slice(bytes);
        self.bytes += bytes.len();
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
fn magnitude(text: &[u8]) -> Option<(bool, u64)> {
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
    fn numbers_are_written_without_leading_zeros() {
        for number in [0, 7, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(
                Digits::new(number).as_bytes(),
                number.to_string().as_bytes()
            );
        }
        let longest = Suffix::new(u32::MAX, 1 << 30);
        assert_eq!(longest.as_bytes(), b" 4294967295 1073741824\r\n");
    }
}
