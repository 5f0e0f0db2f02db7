//! Replays the corpus of the fuzz target `elf` on the stable toolchain, and checks that it reaches every
//! way in which an application is refused, and some that are accepted.

use std::collections::BTreeSet;
use std::path::Path;

use kernel_dp::elf::ElfError;
use kernel_dp::elf::testing::fuzz;

#[test]
fn the_corpus_holds_and_reaches_every_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/elf");
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let mut answers = BTreeSet::new();
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        println!("{}", path.display());
        let file = std::fs::read(&path).expect("a readable input");
        answers.insert(match fuzz(&file) {
            Ok(image) if image.segments.len() > 1 => "several segments",
            Ok(_) => "one segment",
            Err(ElfError::NotElf) => "not ELF",
            Err(ElfError::Unsuitable(_)) => "unsuitable",
            Err(ElfError::OutOfFile(..)) => "out of the file",
            Err(ElfError::Segment(..)) => "contradictory segment",
            Err(ElfError::WritableAndExecutable(_)) => "writable and executable",
            Err(ElfError::Overlap(..)) => "overlap",
            Err(ElfError::TooManySegments) => "too many segments",
            Err(ElfError::Entry(_)) => "entry",
            Err(ElfError::NoNote) => "no note",
            Err(ElfError::Version(_)) => "version",
        });
    }
    assert_eq!(answers.len(), 12, "only {answers:?}");
}
