//! The body of the fuzz target `elf`, any bytes as an application, which the tests beside it use too.

use super::{ElfError, IMAGE_HIGH, IMAGE_LOW, Image, Protection};
use crate::{LARGE_PAGE, PAGE};

/// Checks a file as the kernel does before it maps it, and what it accepts.
///
/// # Errors
/// Why the kernel refuses it.
///
/// # Panics
/// If what is accepted is not what loading relies on.
pub fn fuzz(file: &[u8]) -> Result<Image, ElfError> {
    let image = Image::parse(file)?;
    check(&image, file);
    Ok(image)
}

/// Whether loading can rely on an image that was accepted.
pub(super) fn check(image: &Image, file: &[u8]) {
    for (index, segment) in image.segments.iter().enumerate() {
        let (pages, mapping) = (segment.pages(), image.mapping(index));
        assert!(file.get(segment.file()).is_some());
        assert!(segment.file_bytes as u64 <= segment.bytes && segment.bytes > 0);
        assert!(segment.address >= IMAGE_LOW && segment.address + segment.bytes <= IMAGE_HIGH);
        assert!(image.span().start <= pages.start && pages.end <= image.span().end);
        assert!(mapping.start <= pages.start && pages.end <= mapping.end);
        assert!(mapping.start.is_multiple_of(PAGE) && mapping.end.is_multiple_of(PAGE));
        assert!(pages.start - mapping.start < LARGE_PAGE && mapping.end - pages.end < LARGE_PAGE);
        for other in 0..index {
            let (other_pages, other) = (image.segments[other].pages(), image.mapping(other));
            assert!(mapping.end <= other.start || other.end <= mapping.start);
            assert!(pages.end <= other_pages.start || other_pages.end <= pages.start);
        }
    }
    let holds_entry = image.segments.iter().any(|segment| {
        segment.protection == Protection::Execute
            && (segment.address..segment.address + segment.bytes).contains(&image.entry)
    });
    assert!(holds_entry, "the entry point cannot be executed");
}
