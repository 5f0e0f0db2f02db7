//! Streams of requests of the binary protocol, by a seed.

use crate::commands::Random;

/// Operations with extras, and what to make them of.
const STORAGE: [u8; 6] = [0x01, 0x02, 0x03, 0x11, 0x12, 0x13];
const JOINING: [u8; 4] = [0x0e, 0x0f, 0x19, 0x1a];
const RETRIEVAL: [u8; 4] = [0x00, 0x09, 0x0c, 0x0d];
const TOUCHING: [u8; 5] = [0x1c, 0x1d, 0x1e, 0x23, 0x24];
const ARITHMETIC: [u8; 4] = [0x05, 0x06, 0x15, 0x16];
const REMOVAL: [u8; 2] = [0x04, 0x14];
const WITHOUT_KEY: [u8; 2] = [0x0a, 0x0b];
const UNKNOWN: [u8; 2] = [0x60, 0x7f];

/// Some requests, and a no-op at the end, which is answered.
pub fn batch(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.once_in(4) {
        // Alone, as in `commands`.
        arithmetic(random, &mut bytes);
        push(&mut bytes, 0x0a, 99, 0, [&[], &[], &[]]);
        return bytes;
    }
    for number in 0..1 + random.below(30) {
        request(random, number as u32, &mut bytes);
    }
    push(&mut bytes, 0x0a, 99, 0, [&[], &[], &[]]);
    bytes
}

fn request(random: &mut Random, opaque: u32, bytes: &mut Vec<u8>) {
    let key = &key(random)[..];
    let cas = match random.below(8) {
        0 => random.below(3000) as u64,
        _ => 0,
    };
    match random.below(14) {
        0..=4 => {
            let value = value(random);
            let flags = random.of(&[0_u32, 7, u32::MAX]).to_be_bytes();
            let extras = [flags, time(random)].concat();
            push(
                bytes,
                random.of(&STORAGE),
                opaque,
                cas,
                [&extras, key, &value],
            );
        }
        5 => {
            let value = value(random);
            push(bytes, random.of(&JOINING), opaque, cas, [&[], key, &value]);
        }
        6..=9 => push(bytes, random.of(&RETRIEVAL), opaque, 0, [&[], key, &[]]),
        10 => push(
            bytes,
            random.of(&TOUCHING),
            opaque,
            0,
            [&time(random), key, &[]],
        ),
        11 => push(bytes, random.of(&REMOVAL), opaque, cas, [&[], key, &[]]),
        12 => push(bytes, random.of(&WITHOUT_KEY), opaque, 0, [&[], &[], &[]]),
        _ => push(bytes, random.of(&UNKNOWN), opaque, 0, [&[], &[], &[]]),
    }
}

fn arithmetic(random: &mut Random, bytes: &mut Vec<u8>) {
    let amount = (random.below(1000) as u64).to_be_bytes();
    let initial = (random.below(1000) as u64).to_be_bytes();
    let time = random.of(&[0, 0, u32::MAX]).to_be_bytes();
    let extras = [&amount[..], &initial, &time].concat();
    let key = key(random);
    push(bytes, random.of(&ARITHMETIC), 1, 0, [&extras, &key, &[]]);
}

fn key(random: &mut Random) -> Vec<u8> {
    format!("b{}", random.below(60)).into()
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(3) {
        0 => random.below(10_000).to_string().into(),
        _ => vec![random.below(256) as u8; random.below(300)],
    }
}

fn time(random: &mut Random) -> [u8; 4] {
    random
        .of(&[0_u32, 0, 0, 1_000_000_000, 4_000_000_000])
        .to_be_bytes()
}

fn push(bytes: &mut Vec<u8>, opcode: u8, opaque: u32, cas: u64, body: [&[u8]; 3]) {
    let [extras, key, value] = body;
    let length = (extras.len() + key.len() + value.len()) as u32;
    bytes.extend([0x80, opcode]);
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0, 0, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(opaque.to_be_bytes());
    bytes.extend(cas.to_be_bytes());
    bytes.extend(body.concat());
}
