//! What is said to a memcached, and what it answers: the text and the meta protocol.

mod talk;

use memcached_server::{Fed, Settings};
use talk::Talk;

/// Lines that begin with `> ` are said, all others are expected, in one conversation.
fn check(conversation: &str) {
    let mut talk = Talk::new();
    let mut lines = conversation.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let said = line.strip_prefix("> ").expect("a line to say");
        let mut said = vec![said];
        while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
            said.push(&more[2..]);
        }
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("> ")) {
            expected += &format!("{line}\r\n");
        }
        let said = said.join("\r\n") + "\r\n";
        assert_eq!(talk.say(&said), expected, "to {said:?}");
    }
}

#[test]
fn what_is_stored_is_found() {
    check(
        "> set a 7 0 5
         > hello
         STORED
         > get a
         VALUE a 7 5
         hello
         END
         > gets a nobody a
         VALUE a 7 5 1
         hello
         VALUE a 7 5 1
         hello
         END
         > delete a
         DELETED
         > delete a
         NOT_FOUND
         > get a
         END",
    );
}

#[test]
fn conditions_of_storage_commands_hold() {
    check(
        "> add a 0 0 1
         > 1
         STORED
         > add a 0 0 1
         > 2
         NOT_STORED
         > replace b 0 0 1
         > 2
         NOT_STORED
         > replace a 3 0 1
         > 2
         STORED
         > append a 9 0 2
         > 34
         STORED
         > prepend a 9 0 1
         > 1
         STORED
         > gets a
         VALUE a 3 4 4
         1234
         END
         > cas a 0 0 1 3
         > x
         EXISTS
         > cas a 0 0 1 4
         > x
         STORED
         > cas b 0 0 1 4
         > x
         NOT_FOUND
         > append b 0 0 1
         > x
         NOT_STORED",
    );
}

#[test]
fn numbers_are_added_and_subtracted() {
    check(
        "> set n 0 0 2
         > 99
         STORED
         > incr n 1
         100
         > decr n 91
         9
         > get n
         VALUE n 0 3
         9\x20\x20
         END
         > decr n 10
         0
         > incr n 18446744073709551615
         18446744073709551615
         > incr n 2
         1
         > incr nobody 1
         NOT_FOUND
         > incr n -1
         CLIENT_ERROR invalid numeric delta argument
         > set n 0 0 1
         > x
         STORED
         > incr n 1
         CLIENT_ERROR cannot increment or decrement non-numeric value",
    );
}

#[test]
fn noreply_leaves_answers_out() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("set a 0 0 1 noreply\r\n1\r\n"), "");
    assert_eq!(talk.say("incr a 1 noreply\r\ndelete b noreply\r\n"), "");
    assert_eq!(
        talk.say("touch a 0 noreply\r\nget a\r\n"),
        "VALUE a 0 1\r\n2\r\nEND\r\n"
    );
    assert_eq!(talk.say("flush_all noreply\r\nget a\r\n"), "END\r\n");
}

#[test]
fn what_is_malformed_is_refused_as_memcached_does() {
    check(
        "> nonsense
         ERROR
         > get
         ERROR
         > set a 0 0
         ERROR
         > set a x 0 1
         CLIENT_ERROR bad command line format
         > set a 0 0 -1
         CLIENT_ERROR bad command line format
         > set a 0 0 1
         > two
         CLIENT_ERROR bad data chunk
         ERROR
         > touch a x
         CLIENT_ERROR invalid exptime argument
         > delete a 1 2
         CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]
         > verbosity x
         CLIENT_ERROR bad command line format
         > verbosity 1
         OK
         > flush_all x
         CLIENT_ERROR invalid exptime argument
         > version
         VERSION 1.6.18",
    );
}

#[test]
fn keys_have_at_most_250_bytes() {
    let mut talk = Talk::new();
    let (longest, longer) = ("k".repeat(250), "k".repeat(251));
    let refused = "CLIENT_ERROR bad command line format\r\n";
    assert_eq!(
        talk.say(format!("set {longest} 0 0 1\r\n1\r\n")),
        "STORED\r\n"
    );
    assert_eq!(
        talk.say(format!("get {longest}\r\n")).len(),
        6 + 250 + 6 + 3 + 5
    );
    assert_eq!(talk.say(format!("get {longer}\r\n")), refused);
    assert_eq!(talk.say(format!("get {longest} {longer}\r\n")), refused);
    assert_eq!(talk.say(format!("incr {longer} 1\r\n")), refused);
}

#[test]
fn times_are_from_now_on_or_since_1970() {
    let mut talk = Talk::new();
    talk.say("set soon 0 10 1\r\n1\r\nset past 0 -1 1\r\n1\r\nset year 0 1700000100 1\r\n1\r\n");
    talk.say("set old 0 1600000000 1\r\n1\r\nset ever 0 0 1\r\n1\r\n");
    let found = |talk: &mut Talk| {
        talk.say("get soon past year old ever\r\n")
            .matches("VALUE")
            .count()
    };
    assert_eq!(found(&mut talk), 3);
    talk.worker.now += 9;
    assert_eq!(found(&mut talk), 3);
    assert_eq!(
        talk.say("gat 100 soon\r\n"),
        "VALUE soon 0 1\r\n1\r\nEND\r\n"
    );
    talk.worker.now += 1;
    assert_eq!(found(&mut talk), 3);
    talk.worker.now += 90;
    assert_eq!(
        talk.say("get soon year ever\r\n").matches("VALUE").count(),
        2
    );
    talk.worker.now += 10;
    assert_eq!(found(&mut talk), 1);
}

#[test]
fn a_flush_takes_what_was_there_before() {
    let mut talk = Talk::new();
    talk.say("set a 0 0 1\r\n1\r\n");
    talk.worker.now += 1;
    assert_eq!(talk.say("flush_all\r\nget a\r\n"), "OK\r\nEND\r\n");
    assert_eq!(talk.say("add a 0 0 1\r\n2\r\n"), "STORED\r\n");
    assert!(talk.say("get a\r\n").starts_with("VALUE"));
    talk.say("flush_all 10\r\n");
    assert!(talk.say("get a\r\n").starts_with("VALUE"));
    talk.worker.now += 11;
    assert_eq!(talk.say("get a\r\n"), "END\r\n");
}

#[test]
fn items_have_a_largest_size() {
    let mut talk = Talk::new();
    // As memcached counts, 59 bytes of a megabyte are not data under a key of one byte.
    let most = (1 << 20) - 60;
    let set = |bytes: usize| format!("set a 0 0 {bytes}\r\n{}\r\n", "x".repeat(bytes));
    assert_eq!(talk.say(set(most)), "STORED\r\n");
    assert_eq!(
        talk.say("get a\r\n").len(),
        most + "VALUE a 0 1048516\r\n\r\nEND\r\n".len()
    );
    let refused = "SERVER_ERROR object too large for cache\r\n";
    assert_eq!(talk.say(set(most + 1)), refused);
    assert_eq!(
        talk.say("get a\r\n"),
        "END\r\n",
        "it is not what the client thinks"
    );
    let mut talk = Talk::with(Settings {
        store: memcached_server::store::Config {
            item_max: 4 << 20,
            ..Default::default()
        },
        ..Default::default()
    });
    assert_eq!(talk.say(set(most + 1)), "STORED\r\n");
}

#[test]
fn meta_commands_answer_what_they_are_asked_for() {
    check(
        "> ms a 2 T0 F5 c
         > hi
         HD c1
         > mg a s v f c t k O123 q
         VA 2 s2 f5 c1 t-1 ka O123
         hi
         > mg nobody
         EN
         > mg nobody q
         > mn
         MN
         > ms a 2 ME
         > no
         NS
         > ms a 2 C9
         > no
         EX
         > ms n 1 O9 k
         > 5
         HD O9 kn
         > ma n v D3
         VA 1
         8
         > ma n MD
         HD
         > ma new N0 J7 v
         VA 1
         7
         > ma nobody
         NF
         > md n q
         > md n
         NF
         > md a C99
         EX
         > mg a Z
         CLIENT_ERROR invalid flag
         > mg a s s
         CLIENT_ERROR duplicate flag
         > mg
         ERROR
         > mx a
         ERROR
         > ms YWJj 1 b k
         > x
         HD kYWJj b
         > get abc
         VALUE abc 0 1
         x
         END",
    );
}

#[test]
fn one_client_of_many_is_told_to_renew() {
    check(
        "> mg a N30 v
         VA 0 W
         \x20
         > mg a N30
         HD Z
         > ms a 1
         > x
         HD
         > md a I T30
         HD
         > mg a
         HD X W
         > mg a
         HD Z X",
    );
}

#[test]
fn a_line_that_does_not_end_is_a_get_or_ends_the_connection() {
    let mut talk = Talk::new();
    talk.say("set a 0 0 1\r\n1\r\n");
    let keys = "a ".repeat(2000);
    let (first, rest) = keys.split_at(3001);
    let mut answer = talk.say(format!("get {first}"));
    answer += &talk.say(format!("{rest}\r\n"));
    assert_eq!(answer.matches("VALUE a 0 1\r\n1\r\n").count(), 2000);
    assert!(answer.ends_with("\r\nEND\r\n"));
    assert!(talk.say("get a\r\n").starts_with("VALUE"));

    let (answer, fed) = talk.feed("x".repeat(3000).as_bytes());
    assert_eq!((answer.len(), fed), (0, Fed::Close));
    assert_eq!(talk.worker.counters.lines_too_long.get(), 1);
}

#[test]
fn quit_ends_the_connection() {
    let mut talk = Talk::new();
    let (answer, fed) = talk.feed(b"version\r\nquit\r\nversion\r\n");
    assert_eq!(answer, b"VERSION 1.6.18\r\n");
    assert_eq!(fed, Fed::Close);
}

#[test]
fn stats_count_what_was_done() {
    let mut talk = Talk::new();
    talk.say("set a 0 0 1\r\n1\r\nget a b\r\ndelete b\r\nincr a 1\r\ntouch a 0\r\n");
    let stats = talk.say("stats\r\n");
    for line in [
        "cmd_get 2",
        "get_hits 1",
        "get_misses 1",
        "cmd_set 1",
        "delete_misses 1",
        "incr_hits 1",
        "touch_hits 1",
        "curr_items 1",
        "total_items 1",
        "limit_maxbytes 67108864",
    ] {
        assert!(
            stats.contains(&format!("STAT {line}\r\n")),
            "{line} in {stats}"
        );
    }
    let items = talk.say("stats items\r\n");
    assert!(items.contains(":number 1\r\n"), "{items}");
    assert!(
        talk.say("stats slabs\r\n")
            .contains("STAT active_slabs 1\r\n")
    );
    assert!(
        talk.say("stats settings\r\n")
            .contains("STAT item_size_max 1048576\r\n")
    );
    assert_eq!(talk.say("stats reset\r\n"), "RESET\r\n");
    assert!(talk.say("stats\r\n").contains("STAT cmd_get 0\r\n"));
    assert_eq!(talk.say("stats nonsense\r\n"), "ERROR\r\n");
}
