//! Streams of commands of the text and the meta protocol, by a seed: mostly good ones, many that are not.
//!
//! Left out is what two servers cannot agree on: how long something still lasts, and when it was read.
//! Times to expire are therefore none, the past, or so far away that nobody sees the end.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

/// Numbers that look random (xorshift64*, Vigna 2016).
pub struct Random(u64);

impl Random {
    /// By a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than that.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        number as usize % limit
    }

    /// One of those.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Commands that are sent together.
pub struct Batch {
    /// The commands, one after the other.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub count: usize,
}

/// Some commands.
pub fn batch(random: &mut Random) -> Batch {
    if random.once_in(50) {
        // memcached drops answers to what was sent before, so nothing was.
        let (key, keys) = ("k".repeat(251), " a b c".repeat(random.below(3)));
        return Batch {
            bytes: format!("{} {key}{keys}\r\n", random.of(&["get", "gets"])).into(),
            count: 1,
        };
    }
    let mut bytes = Vec::new();
    if random.once_in(3) {
        // A number that gets shorter is filled up with spaces, but in memcached not while answers with it
        // are under way.
        match random.once_in(3) {
            true => meta_arithmetic(random, &mut bytes),
            false => arithmetic(random, &mut bytes),
        }
        return Batch { bytes, count: 1 };
    }
    let count = 1 + random.below(40);
    (0..count).for_each(|_| command(random, &mut bytes));
    // The byte of data that the last command may wait for; meanwhile memcached keeps all answers back.
    bytes.extend(b"x\r\nmn\r\n");
    Batch {
        bytes,
        count: count + 2,
    }
}

/// Lines that are wrong in one way or another, or hardly ever sent.
const ODD: &[&str] = &[
    "",
    " ",
    "x",
    "get",
    "get ",
    "gets",
    "gat",
    "gat 0",
    "gat x a",
    "gats x a",
    "set",
    "set a",
    "set a 0 0",
    "set a 0 0 1 2 3",
    "set a b c d",
    "set a -1 0 1",
    "set a 4294967296 0 1",
    "set a 0 99999999999 1",
    "set a 0 0 -1",
    "set a 0 0 2147483647",
    "set a 0 0 5x",
    "cas a 0 0 1",
    "cas a 0 0 1 x",
    "cas a 0 0 1 -1",
    "add a 0 0 x noreply",
    "incr",
    "incr a",
    "incr a x",
    "incr a -1",
    "incr a 99999999999999999999",
    "incr a 1 2 3",
    "decr a 1 noreply x",
    "touch a",
    "touch a x",
    "touch a 0 0 0",
    "delete",
    "delete a 0",
    "delete a 5",
    "delete a 0 noreply",
    "delete a 1 noreply",
    "delete a b c d",
    "flush_all x",
    "flush_all 0 noreply x",
    "flush_all -5",
    "verbosity",
    "verbosity x",
    "verbosity 0",
    "verbosity 0 noreply",
    "version",
    "version 1 2",
    "stats nonsense",
    "shutdown",
    "GET a",
    "Set a 0 0 1",
    "geta b",
    "\tget a",
    "get\ta",
    "get a\tb",
    "get \u{e4}",
    "mg",
    "ms",
    "ms a",
    "ms a x",
    "ms a -1",
    "md",
    "ma",
    "me",
    "me absent",
    "mn",
    "mn x",
    "mz a",
    "mg a Z9",
    "mg a v v",
    "mg a MM",
    "mg a O123456789012345678901234567890123",
    "md a O123456789012345678901234567890123",
    "mg a Tx",
    "mg !!! b",
    "mg YQ b k",
    "mg a a1 b2 c3 d4 e5 f6 g7 h8 i9 j1 k2 l3 m4 n5 o6 p7 q8 r9 s1 t2",
    "md a v x",
    "ma a Dx",
    "ma a Jx N0",
    "ma a MX",
    "ma a M",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
];

fn command(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(20) {
        0..=5 => retrieval(random, bytes),
        6..=11 => storage(random, bytes),
        12 => change(random, bytes),
        13..=15 => meta_get(random, bytes),
        16 => meta_set(random, bytes),
        17 => meta_delete(random, bytes),
        18 => line(random, bytes, random_odd),
        _ => line(random, bytes, noise),
    }
}

fn line(random: &mut Random, bytes: &mut Vec<u8>, text: impl Fn(&mut Random) -> Vec<u8>) {
    bytes.extend(text(random));
    bytes.extend_from_slice(random.of(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\n"]));
}

fn random_odd(random: &mut Random) -> Vec<u8> {
    random.of(ODD).into()
}

/// Bytes without a line end, that begin like no command that would wait for data.
fn noise(random: &mut Random) -> Vec<u8> {
    let byte = |random: &mut Random| match random.below(256) as u8 {
        b'\n' => b'x',
        byte => byte,
    };
    let length = random.below(60);
    let mut noise = vec![random.of(b"xyzgX%\0 ")];
    noise.extend((0..length).map(|_| byte(random)));
    noise
}

fn key(random: &mut Random) -> String {
    let number = random.below(120);
    match random.below(60) {
        0 => "k".repeat(250),
        1 => format!("{number}{}", "long".repeat(number % 50)),
        2 => "nobody".to_owned(),
        _ => format!("key{number}"),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(200) {
        0 => random.of(&[1_048_516, 1_048_510, 1_048_513, 1_048_576, 2_000_000]),
        1..=9 => random.below(30_000),
        10..=50 => return random.below(100_000).to_string().into(),
        _ => random.below(120),
    };
    let first = random.below(200) as u8;
    (0..length)
        .map(|index| first.wrapping_add((index % 251) as u8))
        .collect()
}

fn time(random: &mut Random) -> &'static str {
    random.of(&["0", "0", "0", "0", "0", "-1", "1000000000", "2147483647"])
}

fn noreply(random: &mut Random) -> &'static str {
    random.of(&["", "", "", "", "", "", " noreply"])
}

fn retrieval(random: &mut Random, bytes: &mut Vec<u8>) {
    let command = random.of(&["get", "get", "get", "gets", "gat 0", "gats 0", "bget"]);
    let count = match random.below(12) {
        0 => random.below(90),
        _ => 1 + random.below(3),
    };
    bytes.extend(command.bytes());
    for _ in 0..count.max(1) {
        let space = random.of(&[" ", " ", " ", " ", "  "]);
        bytes.extend(format!("{space}{}", key(random)).bytes());
    }
    bytes.extend(random.of(&["\r\n", "\r\n", "\r\n", "\n", " \r\n"]).bytes());
}

/// Data, now and then of another length than was announced.
fn data(random: &mut Random, value: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(value);
    match random.below(60) {
        0 => bytes.extend_from_slice(b"zz\r\n"),
        _ => bytes.extend_from_slice(b"\r\n"),
    }
}

fn storage(random: &mut Random, bytes: &mut Vec<u8>) {
    let commands = [
        "set", "set", "set", "add", "replace", "append", "prepend", "cas",
    ];
    let (command, key, value) = (random.of(&commands), key(random), value(random));
    let flags = random.of(&["0", "0", "0", "5", "4294967295"]);
    let cas = match command {
        "cas" => format!(" {}", random.below(5000)),
        _ => String::new(),
    };
    let (time, length, noreply) = (time(random), value.len(), noreply(random));
    bytes.extend(format!("{command} {key} {flags} {time} {length}{cas}{noreply}\r\n").bytes());
    data(random, &value, bytes);
}

fn arithmetic(random: &mut Random, bytes: &mut Vec<u8>) {
    let amounts = [
        "1",
        "0",
        "10",
        "999999",
        "18446744073709551615",
        "9223372036854775808",
    ];
    let (command, key) = (random.of(&["incr", "decr"]), key(random));
    let (amount, noreply) = (random.of(&amounts), noreply(random));
    bytes.extend(format!("{command} {key} {amount}{noreply}\r\n").bytes());
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let (key, time, noreply) = (key(random), time(random), noreply(random));
    let text = match random.below(40) {
        0..=19 => format!("delete {key}{noreply}\r\n"),
        20..=38 => format!("touch {key} {time}{noreply}\r\n"),
        _ => format!("flush_all{noreply}\r\n"),
    };
    bytes.extend(text.bytes());
}

/// Some of those flags, each at most once.
fn flags(random: &mut Random, choices: &[&str]) -> String {
    let mut flags = String::new();
    let chosen = choices.iter().filter(|_| random.once_in(4));
    chosen.for_each(|flag| flags += &format!(" {flag}"));
    flags
}

/// A key of a meta command, and the flag that it needs: now and then it is given in base64.
fn meta_key(random: &mut Random) -> (String, &'static str) {
    let key = key(random);
    match random.below(6) {
        0 if key.len() < 150 => (BASE64_STANDARD.encode(key), " b"),
        1 if key.len() < 150 && random.once_in(8) => (BASE64_STANDARD_NO_PAD.encode(key), " b"),
        _ => (key, ""),
    }
}

fn meta_get(random: &mut Random, bytes: &mut Vec<u8>) {
    let (key, binary) = meta_key(random);
    let flags = flags(
        random,
        &[
            "s", "v", "c", "f", "h", "k", "O77", "q", "u", "T0", "N0", "R30",
        ],
    );
    bytes.extend(format!("mg {key}{binary}{flags}\r\n").bytes());
}

fn meta_set(random: &mut Random, bytes: &mut Vec<u8>) {
    let ((key, binary), value) = (meta_key(random), value(random));
    let cas = format!("C{}", random.below(5000));
    let modes = ["MS", "ME", "MA", "MP", "MR", "MX"];
    let choices = [
        "c",
        "k",
        "O5",
        "q",
        "F9",
        "T0",
        "I",
        cas.as_str(),
        random.of(&modes),
    ];
    let (flags, length) = (flags(random, &choices), value.len());
    bytes.extend(format!("ms {key} {length}{binary}{flags}\r\n").bytes());
    data(random, &value, bytes);
}

fn meta_delete(random: &mut Random, bytes: &mut Vec<u8>) {
    let ((key, binary), cas) = (meta_key(random), format!("C{}", random.below(5000)));
    let flags = flags(random, &["q", "I", "T0", "k", "O8", cas.as_str()]);
    bytes.extend(format!("md {key}{binary}{flags}\r\n").bytes());
}

fn meta_arithmetic(random: &mut Random, bytes: &mut Vec<u8>) {
    let (key, binary) = meta_key(random);
    let mode = random.of(&["MI", "M+", "MD", "M-"]);
    let flags = flags(
        random,
        &["v", "c", "k", "O9", "q", "N0", "J13", "D7", "T0", mode],
    );
    bytes.extend(format!("ma {key}{binary}{flags}\r\n").bytes());
}
