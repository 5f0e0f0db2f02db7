//! Debian's memcached in the guest, with which the evaluation compares ours.

use std::io::{Read, Write};
use std::net::TcpStream;

use ix_linux_guest::LinuxGuest;
use ix_linux_guest::image::Contents;

const PORT: u16 = 11211;

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn memcached_serves_at_the_hosts_end_of_the_wire() {
    let contents = Contents {
        memcached: true,
        ..Contents::default()
    };
    let mut guest = LinuxGuest::with_link_contents(contents, |_| {});
    let command = format!("memcached -u root -p {PORT} -U 0 -t 1");
    guest.try_serve(&command, PORT).expect("it starts");
    let server = (guest.address(), PORT);
    let mut answers = String::new();
    guest.inside(|| {
        let mut stream = TcpStream::connect(server).expect("it listens");
        let commands = b"set a 0 0 3\r\nabc\r\nget a\r\nquit\r\n";
        stream.write_all(commands).expect("it reads");
        stream.read_to_string(&mut answers).expect("it answers");
    });
    assert_eq!(answers, "STORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n");
    guest.stop();
}
