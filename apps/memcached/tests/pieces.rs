//! Commands come in pieces of any length, and answers are the same.

mod talk;

use proptest::prelude::*;
use talk::Talk;

/// Every kind of command, good ones and bad ones.
const COMMANDS: &[&str] = &[
    "set key 5 0 6\r\nvalue1\r\n",
    "set other 0 0 0\r\n\r\n",
    "set key 0 0 3\r\ntoo long\r\n",
    "add key 0 0 2\r\nab\r\n",
    "append key 0 0 2\r\ncd\r\n",
    "cas key 0 0 1 2\r\nx\r\n",
    "get key\r\n",
    "get key other nobody key\n",
    "gets key\r\n",
    "gat 100 key other\r\n",
    "incr number 5\r\n",
    "set number 0 0 2\r\n10\r\n",
    "delete other\r\n",
    "mg key v c k\r\n",
    "ms key 4 c\r\nmeta\r\n",
    "ms key 4 invalid\r\nmeta\r\n",
    "ma number v\r\n",
    "md nobody\r\n",
    "  get   key  \r\n",
    "nonsense\r\n",
    "\r\n",
    "set a b c d\r\n",
    "set key 0 0 2000000\r\n",
    "get k\0y other\r\n",
];

fn stream(choices: &[usize]) -> Vec<u8> {
    let commands = choices.iter().map(|&choice| COMMANDS[choice]);
    commands.collect::<String>().into_bytes()
}

#[test]
fn a_split_at_every_byte_changes_nothing() {
    // Without the one that announces data which does not follow.
    let choices: Vec<usize> = (0..COMMANDS.len() - 2)
        .chain([COMMANDS.len() - 1])
        .collect();
    let bytes = stream(&choices);
    let (whole, _) = Talk::new().feed(&bytes);
    for at in 0..bytes.len() {
        let mut talk = Talk::new();
        let (mut answer, _) = talk.feed(&bytes[..at]);
        answer.extend(talk.feed(&bytes[at..]).0);
        assert_eq!(answer, whole, "split at {at}");
    }
    let mut talk = Talk::new();
    let bytes = bytes.iter().map(|&byte| talk.feed(&[byte]).0);
    assert_eq!(bytes.collect::<Vec<_>>().concat(), whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn streams_in_pieces_are_answered_like_whole_ones(
        choices in prop::collection::vec(0..COMMANDS.len(), 1..40),
        pieces in prop::collection::vec(1..50_usize, 1..20),
        limit in 1..400_usize,
    ) {
        let bytes = stream(&choices);
        let (whole, _) = Talk::new().feed(&bytes);
        let (mut talk, mut rest, mut answer) = (Talk::new(), &bytes[..], Vec::new());
        for length in pieces.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*length));
            answer.extend(talk.feed_slowly(piece, limit).concat());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(&whole));
    }

    #[test]
    fn noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        Talk::new().feed(&bytes);
    }

    #[test]
    fn binary_noise_is_survived(
        requests in prop::collection::vec((0..40_u8, 0..20_u8, 0..30_u8, 0..60_u8), 1..30),
    ) {
        let mut bytes = Vec::new();
        for (opcode, key, extras, body) in requests {
            bytes.extend([0x80, opcode, 0, key, extras, 0, 0, 0, 0, 0, 0, body]);
            bytes.extend([0; 12]);
            bytes.extend(vec![b'1'; body.into()]);
        }
        Talk::new().feed(&bytes);
    }
}

#[test]
fn a_get_of_many_keys_waits_for_its_reader() {
    let mut talk = Talk::new();
    let value = "x".repeat(1000);
    talk.say(format!("set a 0 0 1000\r\n{value}\r\n"));
    let keys = "a ".repeat(10_000);
    let parts = talk.feed_slowly(format!("get {keys}\r\nversion\r\n").as_bytes(), 5000);
    let most = parts.iter().map(Vec::len).max().unwrap_or_default();
    assert!(most < 5000 + 1100, "{most} bytes at a time");
    let all = parts.concat();
    assert!(all.ends_with(b"END\r\nVERSION 1.6.18\r\n"));
    assert_eq!(all.len(), 10_000 * (14 + 4 + 1000) + 5 + 16);
}

#[test]
fn a_line_without_an_end_is_not_collected() {
    let mut talk = Talk::new();
    talk.feed(b"get ");
    for piece in [&b"nobody "[..], b"\0", b"what follows a zero byte "] {
        for _ in 0..10_000 {
            talk.feed(piece);
        }
        assert!(talk.kept_bytes() < 10_000, "{} bytes", talk.kept_bytes());
    }
    assert_eq!(talk.say("\r\nversion\r\n"), "END\r\nVERSION 1.6.18\r\n");
}
