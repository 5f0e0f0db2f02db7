//! What lies at an address: the function, with inlining undone, and the instruction's bytes, from
//! the ELF images that run in the guest.

use std::fs;
use std::path::Path;

use addr2line::{Loader, demangle_auto};
use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSegment};

/// The images of a guest, each linked for its own addresses.
pub struct Code {
    images: Vec<Image>,
}

struct Image {
    loader: Loader,
    /// Start address and bytes of each loaded segment.
    segments: Vec<(u64, Vec<u8>)>,
}

/// Where an instruction comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Demangled name.
    pub function: String,
    /// `file:line`, where debug information has it.
    pub line: String,
}

impl Code {
    /// Reads the images at `paths`.
    pub fn read(paths: &[&Path]) -> Result<Self> {
        let images = paths.iter().map(|path| {
            Image::read(path).with_context(|| format!("cannot read the code in {}", path.display()))
        });
        Ok(Self {
            images: images.collect::<Result<_>>()?,
        })
    }

    /// The functions that the instruction at `address` belongs to, the innermost inlined one
    /// first. Empty where no image has code.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        let image = self
            .images
            .iter()
            .find(|image| image.bytes_at(address).is_some());
        image.map(|image| image.frames(address)).unwrap_or_default()
    }

    /// Whether the instruction at `address` is `pause` (F3 90).
    pub fn is_pause(&self, address: u64) -> bool {
        let mut bytes = self
            .images
            .iter()
            .filter_map(|image| image.bytes_at(address));
        bytes.any(|bytes| bytes.starts_with(&[0xf3, 0x90]))
    }
}

impl Image {
    fn read(path: &Path) -> Result<Self> {
        let loader = Loader::new(path).map_err(|error| anyhow!("{error}"))?;
        let bytes = fs::read(path)?;
        let file = object::File::parse(bytes.as_slice())?;
        let segments = file
            .segments()
            .map(|segment| Ok((segment.address(), segment.data()?.to_vec())));
        Ok(Self {
            loader,
            segments: segments.collect::<Result<_>>()?,
        })
    }

    fn bytes_at(&self, address: u64) -> Option<&[u8]> {
        let inside = |(start, bytes): &(u64, Vec<u8>)| {
            (*start..*start + bytes.len() as u64).contains(&address)
        };
        let (start, bytes) = self.segments.iter().find(|segment| inside(segment))?;
        bytes.get((address - start) as usize..)
    }

    fn frames(&self, address: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        if let Ok(mut inlined) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = inlined.next() {
                let Some(name) = frame.function else { continue };
                let name = name.raw_name().unwrap_or_default();
                frames.push(Frame {
                    function: demangle_auto(name, None).into_owned(),
                    line: frame
                        .location
                        .map(|location| line(&location))
                        .unwrap_or_default(),
                });
            }
        }
        if frames.is_empty() {
            // Assembly has symbols, but no debug information.
            let symbol = self.loader.find_symbol(address).unwrap_or("(no symbol)");
            let function = demangle_auto(symbol.into(), None).into_owned();
            frames.push(Frame {
                function,
                line: String::new(),
            });
        }
        for frame in &mut frames {
            frame.function = without_hash(&frame.function).to_owned();
        }
        frames
    }
}

/// The last two parts of the path name the file well enough.
fn line(location: &addr2line::Location<'_>) -> String {
    let file = location.file.unwrap_or("?");
    let parts = file.rsplit('/').take(3).collect::<Vec<_>>();
    let file = parts.into_iter().rev().collect::<Vec<_>>().join("/");
    format!("{file}:{}", location.line.unwrap_or(0))
}

/// The name without the hash that the older mangling scheme appends (`::h` and 16 digits).
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    extern "C" fn landmark() {
        core::hint::spin_loop();
        core::hint::black_box(1);
    }

    /// This test program is an image too; it is loaded anywhere, so its own addresses are taken
    /// relative to where a known function lies in the file.
    fn own_landmark() -> (Code, u64) {
        let path = std::env::current_exe().unwrap();
        let code = Code::read(&[&path]).unwrap();
        landmark();
        let bytes = fs::read(&path).unwrap();
        let file = object::File::parse(bytes.as_slice()).unwrap();
        let symbol = object::Object::symbols(&file)
            .find(|symbol| object::ObjectSymbol::name(symbol).is_ok_and(|n| n.contains("landmark")))
            .unwrap();
        (code, object::ObjectSymbol::address(&symbol))
    }

    #[test]
    fn addresses_have_functions_and_inlined_ones() {
        let (code, address) = own_landmark();
        let outermost = code.frames(address).pop().unwrap();
        assert_eq!(outermost.function, "ix_insns::code::tests::landmark");
        assert!(
            outermost.line.contains("src/code.rs:"),
            "{}",
            outermost.line
        );
        let pause = (address..address + 64)
            .find(|&at| code.is_pause(at))
            .unwrap();
        let frames = code.frames(pause);
        assert!(frames.len() > 1, "the inlined spin_loop: {frames:?}");
        assert!(frames[0].function.contains("pause") || frames[0].function.contains("spin_loop"));
    }

    #[test]
    fn nothing_is_known_outside_the_images() {
        let (code, _) = own_landmark();
        assert!(code.frames(u64::MAX).is_empty());
        assert!(!code.is_pause(u64::MAX));
    }

    #[test]
    fn hashes_are_cut_off() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::h1"), "a::h1");
    }
}
