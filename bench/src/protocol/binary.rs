//! memcached's binary protocol (its `doc/protocol-binary.txt`).

use super::Fault;
use super::key_value::{Answer, Format, Head, Kind};

/// The binary format.
#[derive(Debug)]
pub(crate) struct Binary;

const HEADER_BYTES: usize = 24;
const MAGIC_REQUEST: u8 = 0x80;
const MAGIC_RESPONSE: u8 = 0x81;
const OPCODE_GET: u8 = 0x00;
const OPCODE_SET: u8 = 0x01;
const STATUS_OK: u16 = 0;
const STATUS_KEY_NOT_FOUND: u16 = 1;
/// Extras of a SET: flags and expiration.
const SET_EXTRAS: [u8; 8] = [0; 8];
/// Extras of an answer to GET: flags.
const GET_EXTRAS_BYTES: usize = 4;

impl Format for Binary {
    const TAIL: &'static [u8] = b"";

    fn append_get(key: &[u8], out: &mut Vec<u8>) {
        append_header(OPCODE_GET, key, 0, key.len(), out);
        out.extend_from_slice(key);
    }

    fn append_set(key: &[u8], value_len: usize, out: &mut Vec<u8>) {
        let body = SET_EXTRAS.len() + key.len() + value_len;
        append_header(OPCODE_SET, key, SET_EXTRAS.len() as u8, body, out);
        out.extend_from_slice(&SET_EXTRAS);
        out.extend_from_slice(key);
    }

    fn append_set_end(_: &mut Vec<u8>) {}

    fn read_head(kind: Kind, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let status = u16::from_be_bytes([header[6], header[7]]);
        let extras = usize::from(header[4]);
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let opcode = match kind {
            Kind::Get => OPCODE_GET,
            Kind::Set => OPCODE_SET,
        };
        let (len, answer) = match (kind, status) {
            _ if (header[0], header[1]) != (MAGIC_RESPONSE, opcode) => return Err(fault(header)),
            (Kind::Get, STATUS_OK) if extras == GET_EXTRAS_BYTES && body >= extras => {
                (HEADER_BYTES + extras, Answer::Value(body - extras))
            }
            (Kind::Get, STATUS_KEY_NOT_FOUND) => (HEADER_BYTES, Answer::Miss(body)),
            (Kind::Set, STATUS_OK) if body == 0 => (HEADER_BYTES, Answer::Stored),
            _ => return Err(fault(header)),
        };
        // Extras are short, so they may as well be awaited.
        Ok((bytes.len() >= len).then_some(Head { len, answer }))
    }
}

fn append_header(opcode: u8, key: &[u8], extras: u8, body: usize, out: &mut Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    header[0] = MAGIC_REQUEST;
    header[1] = opcode;
    header[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
    header[4] = extras;
    header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
    out.extend_from_slice(&header);
}

fn fault(header: &[u8; HEADER_BYTES]) -> Fault {
    let status = u16::from_be_bytes([header[6], header[7]]);
    Fault::Answer(format!(
        "magic {:#04x}, opcode {:#04x}, status {status:#06x}",
        header[0], header[1]
    ))
}
