//! The application image: checks a static ELF64 executable completely before a byte of it is
//! mapped (System V ABI, chapters 4 and 5; the IX note is described in [`ix_abi::note`]).

use core::ops::Range;

use thiserror::Error;

use crate::list::List;
use crate::{LARGE_PAGE, PAGE};

/// Most loadable segments.
pub const SEGMENTS_MAX: usize = 16;
/// Lowest address of an image: below it, null pointers trap.
pub const IMAGE_LOW: u64 = 0x1_0000;
/// End of the addresses that an image may occupy.
pub const IMAGE_HIGH: u64 = 0x4000_0000;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_TLS: u32 = 7;
const PF_X: u32 = 1;
const PF_W: u32 = 2;

/// What the pages of a segment allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Read.
    #[default]
    Read,
    /// Read and fetch.
    Execute,
    /// Read and write.
    Write,
}

/// A segment that was checked: its file range lies in the image, its memory in the user range,
/// and it shares no page with another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First byte in user memory.
    pub address: u64,
    /// Bytes in user memory, at least as many as in the file; the rest is zero.
    pub bytes: u64,
    /// Offset of its contents in the image.
    pub file_offset: usize,
    /// Bytes of its contents.
    pub file_bytes: usize,
    /// What its pages allow.
    pub protection: Protection,
}

impl Segment {
    /// Pages that it touches, from first byte to end.
    pub fn pages(&self) -> Range<u64> {
        let start = self.address & !(PAGE - 1);
        start..(self.address + self.bytes).next_multiple_of(PAGE)
    }

    /// Where its contents lie in the image.
    pub fn file(&self) -> Range<usize> {
        self.file_offset..self.file_offset + self.file_bytes
    }
}

/// An image that can be loaded.
#[derive(Clone, Debug)]
pub struct Image {
    /// Address of the first instruction, inside an executable segment.
    pub entry: u64,
    /// Its segments, at least one.
    pub segments: List<Segment, SEGMENTS_MAX>,
}

impl Image {
    /// From the first page of all segments to the end of the last one.
    pub fn span(&self) -> Range<u64> {
        let starts = self.segments.iter().map(|segment| segment.pages().start);
        let ends = self.segments.iter().map(|segment| segment.pages().end);
        starts.min().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    /// Addresses to map for the segment at `index`: its pages, and all of each 2 MiB page in which
    /// no other segment lies, so that it can be mapped as one. What is added reads as zero.
    pub fn mapping(&self, index: usize) -> Range<u64> {
        let pages = self.segments[index].pages();
        let others = || {
            self.segments
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
        };
        let alone = |range: &Range<u64>| {
            others().all(|(_, other)| {
                let other = other.pages();
                other.end <= range.start || range.end <= other.start
            })
        };
        let first = pages.start & !(LARGE_PAGE - 1)..pages.end;
        let last = pages.start..pages.end.next_multiple_of(LARGE_PAGE);
        let start = if alone(&first) {
            first.start
        } else {
            pages.start
        };
        let end = if alone(&last) { last.end } else { pages.end };
        start..end
    }
}

/// Why an image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// No ELF at all.
    #[error("not an ELF file")]
    NotElf,
    /// An ELF for something else.
    #[error("{0}: build the application as a static x86-64 ELF64 executable")]
    Unsuitable(&'static str),
    /// A table or segment lies outside of the file.
    #[error("{0} lies outside of the file of {1} bytes: the file is cut off or damaged")]
    OutOfFile(&'static str, usize),
    /// A segment's own numbers contradict each other.
    #[error("segment {0}: {1}")]
    Segment(usize, &'static str),
    /// A segment that is both writable and executable.
    #[error("segment {0} is writable and executable: link the application without that")]
    WritableAndExecutable(usize),
    /// Two segments in one page.
    #[error("segments {0} and {1} share a page: link with page-aligned segments")]
    Overlap(usize, usize),
    /// More segments than the kernel keeps.
    #[error("more than {SEGMENTS_MAX} loadable segments")]
    TooManySegments,
    /// The entry point cannot be executed.
    #[error("the entry point {0:#x} lies in no executable segment")]
    Entry(u64),
    /// No IX note.
    #[error("no IX note: not an application for this kernel, link it with libix")]
    NoNote,
    /// An IX note of another ABI version.
    #[error("built for ABI version {0}, this kernel has {version}: rebuild the application",
        version = ix_abi::VERSION)]
    Version(u32),
}

impl Image {
    /// Checks everything that loading `file` relies on.
    pub fn parse(file: &[u8]) -> Result<Self, ElfError> {
        let header = Header::parse(file)?;
        let mut image = Self {
            entry: header.entry,
            segments: List::new(),
        };
        let mut version = None;
        for index in 0..header.program_headers {
            let program = ProgramHeader::parse(file, &header, index)?;
            match program.kind {
                PT_LOAD if program.memory_bytes > 0 => {
                    let segment = program.check_loadable(file, index)?;
                    image.add(segment)?;
                }
                PT_INTERP | PT_DYNAMIC => return Err(ElfError::Unsuitable("linked dynamically")),
                PT_TLS => return Err(ElfError::Unsuitable("uses thread-local storage")),
                PT_NOTE => version = version.or(ix_version(program.contents(file)?, program.align)),
                _ => {}
            }
        }
        image.check_entry()?;
        match version {
            Some(ix_abi::VERSION) => Ok(image),
            Some(other) => Err(ElfError::Version(other)),
            None => Err(ElfError::NoNote),
        }
    }

    fn add(&mut self, segment: Segment) -> Result<(), ElfError> {
        let pages = segment.pages();
        for (index, other) in self.segments.iter().enumerate() {
            if pages.start < other.pages().end && other.pages().start < pages.end {
                return Err(ElfError::Overlap(index, self.segments.len()));
            }
        }
        self.segments
            .push(segment)
            .map_err(|_| ElfError::TooManySegments)
    }

    fn check_entry(&self) -> Result<(), ElfError> {
        let holds_entry = |segment: &Segment| {
            segment.protection == Protection::Execute
                && segment.address <= self.entry
                && self.entry < segment.address + segment.bytes
        };
        let found = self.segments.iter().any(holds_entry);
        found.then_some(()).ok_or(ElfError::Entry(self.entry))
    }
}

/// What is needed of the ELF header.
struct Header {
    entry: u64,
    table_offset: u64,
    entry_bytes: usize,
    program_headers: usize,
}

impl Header {
    fn parse(file: &[u8]) -> Result<Self, ElfError> {
        if !file.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let bytes = file
            .get(..HEADER_BYTES)
            .ok_or(ElfError::OutOfFile("the ELF header", file.len()))?;
        let wrong = |what| Err(ElfError::Unsuitable(what));
        match bytes {
            [_, _, _, _, class, ..] if *class != 2 => return wrong("not a 64-bit ELF"),
            [_, _, _, _, _, order, ..] if *order != 1 => return wrong("not little-endian"),
            _ if u16_at(bytes, 18) != EM_X86_64 => return wrong("not for x86-64"),
            _ if u16_at(bytes, 16) != ET_EXEC => return wrong("not a fixed-position executable"),
            _ => {}
        }
        let header = Self {
            entry: u64_at(bytes, 24),
            table_offset: u64_at(bytes, 32),
            entry_bytes: usize::from(u16_at(bytes, 54)),
            program_headers: usize::from(u16_at(bytes, 56)),
        };
        if header.entry_bytes < PROGRAM_HEADER_BYTES {
            return wrong("no program headers");
        }
        Ok(header)
    }
}

/// An entry of the program header table, unchecked.
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

impl ProgramHeader {
    fn parse(file: &[u8], header: &Header, index: usize) -> Result<Self, ElfError> {
        let offset = (index * header.entry_bytes) as u64;
        let offset = header.table_offset.checked_add(offset);
        let bytes = offset
            .and_then(|offset| slice(file, offset, PROGRAM_HEADER_BYTES as u64))
            .ok_or(ElfError::OutOfFile("the program header table", file.len()))?;
        Ok(Self {
            kind: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            address: u64_at(bytes, 16),
            file_bytes: u64_at(bytes, 32),
            memory_bytes: u64_at(bytes, 40),
            align: u64_at(bytes, 48),
        })
    }

    fn contents<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], ElfError> {
        slice(file, self.offset, self.file_bytes)
            .ok_or(ElfError::OutOfFile("a segment", file.len()))
    }

    fn check_loadable(&self, file: &[u8], index: usize) -> Result<Segment, ElfError> {
        let contents = self.contents(file)?;
        let protection = match (self.flags & PF_W != 0, self.flags & PF_X != 0) {
            (true, true) => return Err(ElfError::WritableAndExecutable(index)),
            (true, false) => Protection::Write,
            (false, true) => Protection::Execute,
            (false, false) => Protection::Read,
        };
        let wrong = |what| Err(ElfError::Segment(index, what));
        if self.memory_bytes < self.file_bytes {
            return wrong("takes less memory than its contents");
        }
        let end = self.address.checked_add(self.memory_bytes);
        if self.address < IMAGE_LOW || end.is_none_or(|end| end > IMAGE_HIGH) {
            return wrong("lies outside of 0x10000..0x40000000, where applications are linked");
        }
        if self.align > 1 {
            let misplaced = !self.align.is_power_of_two()
                || (self.address ^ self.offset) & (self.align - 1) != 0;
            if misplaced {
                return wrong("address and file offset do not agree with its alignment");
            }
        }
        Ok(Segment {
            address: self.address,
            bytes: self.memory_bytes,
            // Both fit: the contents were found in a slice.
            file_offset: self.offset as usize,
            file_bytes: contents.len(),
            protection,
        })
    }
}

/// Version in the IX note among `notes`, if there is one. A note is name size, descriptor size,
/// type, then name and descriptor, each padded to the segment's alignment.
fn ix_version(mut notes: &[u8], align: u64) -> Option<u32> {
    let align = if align == 8 { 8 } else { 4 };
    while let Some((head, rest)) = notes.split_at_checked(12) {
        let name_bytes = u32_at(head, 0) as usize;
        let descriptor_bytes = u32_at(head, 4) as usize;
        // Offsets count from the start of the note, whose head is 12 bytes long.
        let descriptor_at =
            (12usize.checked_add(name_bytes)?).checked_next_multiple_of(align)? - 12;
        let descriptor_end = descriptor_at.checked_add(descriptor_bytes)?;
        let name = rest.get(..name_bytes)?;
        let descriptor = rest.get(descriptor_at..descriptor_end)?;
        if name == ix_abi::note::NAME && u32_at(head, 8) == ix_abi::note::TYPE {
            return descriptor
                .first_chunk()
                .map(|bytes| u32::from_le_bytes(*bytes));
        }
        let next = descriptor_end
            .checked_add(12)?
            .checked_next_multiple_of(align)?
            - 12;
        notes = rest.get(next..)?;
    }
    None
}

fn slice(file: &[u8], offset: u64, bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(bytes).ok()?)?;
    file.get(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
