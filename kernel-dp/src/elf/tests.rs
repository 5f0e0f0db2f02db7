//! Images are built field by field here, so that each test damages exactly one thing.

use super::testing::check;
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const CODE: usize = HEADER_BYTES;
const DATA: usize = HEADER_BYTES + PROGRAM_HEADER_BYTES;
const NOTE: usize = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_program(file: &mut [u8], at: usize, kind: u32, flags: u32, fields: [u64; 5]) {
    let [offset, address, file_bytes, memory_bytes, align] = fields;
    put(file, at, &kind.to_le_bytes());
    put(file, at + 4, &flags.to_le_bytes());
    for (n, field) in [offset, address, address, file_bytes, memory_bytes, align]
        .iter()
        .enumerate()
    {
        put(file, at + 8 + n * 8, &field.to_le_bytes());
    }
}

/// Code at 0x200000 with the entry point, data with zeroes behind it at 0x201000, and the note.
fn good() -> Vec<u8> {
    let mut file = std::vec![0; 0x1100];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &ET_EXEC.to_le_bytes());
    put(&mut file, 18, &EM_X86_64.to_le_bytes());
    put(&mut file, 24, &0x20_0010u64.to_le_bytes());
    put(&mut file, 32, &(HEADER_BYTES as u64).to_le_bytes());
    put(&mut file, 54, &(PROGRAM_HEADER_BYTES as u16).to_le_bytes());
    put(&mut file, 56, &3u16.to_le_bytes());
    put_program(
        &mut file,
        CODE,
        PT_LOAD,
        PF_X | 4,
        [0, 0x20_0000, 0x800, 0x800, 0x1000],
    );
    put_program(
        &mut file,
        DATA,
        PT_LOAD,
        PF_W | 4,
        [0x1000, 0x20_1000, 0x100, 0x5000, 0x1000],
    );
    put_program(&mut file, NOTE, PT_NOTE, 4, [0x400, 0x20_0400, 40, 40, 4]);
    put(
        &mut file,
        0x400,
        &[4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, b'G', b'N', b'U', 0],
    );
    put(
        &mut file,
        0x410,
        &[3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, b'I', b'X', 0, 0],
    );
    put(&mut file, 0x420, &ix_abi::VERSION.to_le_bytes());
    file
}

fn refused(damage: impl FnOnce(&mut Vec<u8>)) -> ElfError {
    let mut file = good();
    damage(&mut file);
    Image::parse(&file).unwrap_err()
}

#[test]
fn a_good_image_gives_its_segments() {
    let image = Image::parse(&good()).unwrap();
    assert_eq!(image.entry, 0x20_0010);
    assert_eq!(image.span(), 0x20_0000..0x20_6000);
    assert_eq!(image.segments[0].protection, Protection::Execute);
    assert_eq!(image.segments[1].protection, Protection::Write);
    assert_eq!(image.segments[1].file(), 0x1000..0x1100);
}

#[test]
fn a_mapping_grows_to_large_pages_where_it_is_alone() {
    let image = Image::parse(&good()).unwrap();
    assert_eq!(image.mapping(0), 0x20_0000..0x20_1000);
    assert_eq!(image.mapping(1), 0x20_1000..0x40_0000);
    let mut file = good();
    put_program(
        &mut file,
        DATA,
        PT_LOAD,
        PF_W,
        [0x1000, 0x40_1000, 0x100, 0x5000, 0x1000],
    );
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.mapping(0), 0x20_0000..0x40_0000);
    assert_eq!(image.mapping(1), 0x40_0000..0x60_0000);
}

#[test]
fn another_kind_of_file_is_refused() {
    assert_eq!(Image::parse(b"#!/bin/sh").unwrap_err(), ElfError::NotElf);
    assert!(matches!(
        Image::parse(b"\x7fELF\x02\x01"),
        Err(ElfError::OutOfFile(..))
    ));
    for (at, value) in [(4, 1), (5, 2), (16, 3), (18, 183), (54, 0)] {
        let error = refused(|file| file[at] = value);
        assert!(matches!(error, ElfError::Unsuitable(_)), "{at}: {error}");
    }
    for kind in [PT_INTERP, PT_DYNAMIC, PT_TLS] {
        let error = refused(|file| file[NOTE] = kind as u8);
        assert!(matches!(error, ElfError::Unsuitable(_)));
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let file = good();
    for bytes in 0..file.len() {
        assert!(Image::parse(&file[..bytes]).is_err(), "{bytes}");
    }
}

#[test]
fn segments_out_of_bounds_are_refused() {
    let segment = |fields: [u64; 5]| refused(|file| put_program(file, DATA, PT_LOAD, PF_W, fields));
    let outside = [
        [0x1000, 0x20_1000, 0x101, 0x5000, 0x1000],
        [!0xfff, 0x20_1000, 0x2000, 0x5000, 0x1000],
    ];
    for fields in outside {
        assert!(matches!(segment(fields), ElfError::OutOfFile(..)));
    }
    let contradictory = [
        [0x1000, 0x20_1000, 0x100, 0xff, 0x1000],
        [0x1000, 0x20_1008, 0x100, 0x5000, 0x1000],
        [0x1000, 0x20_1000, 0x100, 0x5000, 0x1001],
        [0, 0, 0x100, 0x5000, 0x1000],
        [0, IMAGE_HIGH - 0x1000, 0x100, 0x1001, 0x1000],
        [0, 0xffff_8000_0000_0000, 0x100, 0x1000, 0x1000],
        [0, !0xfff, 0x100, u64::MAX, 0x1000],
    ];
    for fields in contradictory {
        assert!(
            matches!(segment(fields), ElfError::Segment(1, _)),
            "{fields:x?}"
        );
    }
}

#[test]
fn writable_code_shared_pages_and_stray_entries_are_refused() {
    let error = refused(|file| file[CODE + 4] |= PF_W as u8);
    assert_eq!(error, ElfError::WritableAndExecutable(0));
    let error = refused(|file| {
        put_program(
            file,
            DATA,
            PT_LOAD,
            PF_W,
            [0x800, 0x20_0800, 0x100, 0x100, 0x800],
        );
    });
    assert_eq!(error, ElfError::Overlap(0, 1));
    for entry in [0u64, 0x20_0800, 0x20_1000, u64::MAX] {
        let error = refused(|file| put(file, 24, &entry.to_le_bytes()));
        assert_eq!(error, ElfError::Entry(entry));
    }
}

#[test]
fn an_image_for_another_kernel_is_refused() {
    assert_eq!(refused(|file| file[0x41c] = b'J'), ElfError::NoNote);
    assert_eq!(refused(|file| file[0x418] = 2), ElfError::NoNote);
    assert_eq!(refused(|file| file[0x420] = 77), ElfError::Version(77));
    assert_eq!(
        refused(|file| put(file, 0x400, &[0xff; 8])),
        ElfError::NoNote
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_images_are_refused_or_sound(
        damage in prop::collection::vec((0usize..0x430, any::<u8>()), 1..12),
        bytes in 0usize..0x1200,
    ) {
        let mut file = good();
        for (at, byte) in damage {
            file[at] = byte;
        }
        file.truncate(bytes.max(0x430));
        if let Ok(image) = Image::parse(&file) {
            check(&image, &file);
        }
    }

    #[test]
    fn fields_of_any_value_are_refused_or_sound(
        program in 0usize..3,
        fields in prop::array::uniform5(prop_oneof![
            any::<u64>(), 0u64..0x2000, 0x20_0000u64..0x20_4000, Just(u64::MAX), Just(1u64 << 63),
        ]),
        kind in 0u32..9, flags in 0u32..8,
    ) {
        let mut file = good();
        put_program(&mut file, CODE + program * PROGRAM_HEADER_BYTES, kind, flags, fields);
        if let Ok(image) = Image::parse(&file) {
            check(&image, &file);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut file in prop::collection::vec(any::<u8>(), 0..600)) {
        if file.len() > 64 {
            put(&mut file, 0, b"\x7fELF\x02\x01");
            put(&mut file, 16, &[2, 0, 62, 0]);
        }
        if let Ok(image) = Image::parse(&file) {
            check(&image, &file);
        }
    }
}
