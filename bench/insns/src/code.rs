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
    /// Name without type parameters. Line tables have no paths in it, so it says little without the
    /// file.
    pub function: String,
    /// Source file, relative to the workspace, the standard library or the registry.
    pub file: String,
    /// Line; 0 where the compiler made the instruction up, or nothing is known.
    pub line: u32,
    /// Whether it belongs to the standard library.
    pub is_library: bool,
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
                let name = demangle_auto(name.raw_name().unwrap_or_default(), None);
                let location = frame.location;
                let path = location
                    .as_ref()
                    .and_then(|location| location.file)
                    .unwrap_or("?");
                frames.push(Frame {
                    function: without_parameters(&name).to_owned(),
                    file: short_path(path),
                    line: location.and_then(|location| location.line).unwrap_or(0),
                    is_library: path.contains(STANDARD_LIBRARY),
                });
            }
        }
        if frames.is_empty() {
            // Assembly has symbols, but no debug information.
            let symbol = self.loader.find_symbol(address).unwrap_or("(no symbol)");
            let name = demangle_auto(symbol.into(), None);
            frames.push(Frame {
                function: without_parameters(&name).to_owned(),
                file: "assembly".to_owned(),
                line: 0,
                is_library: false,
            });
        }
        frames
    }
}

/// In the path of every source file of the standard library.
const STANDARD_LIBRARY: &str = "/library/";

fn short_path(path: &str) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    if let Some(Ok(path)) = workspace.map(|root| Path::new(path).strip_prefix(root)) {
        return path.display().to_string();
    }
    let marked = [STANDARD_LIBRARY, "/registry/src/"].into_iter();
    let after = marked
        .filter_map(|mark| path.split_once(mark))
        .map(|(_, rest)| rest)
        .next();
    after.unwrap_or(path).to_owned()
}

/// The name without type parameters, and without the hash that the older mangling scheme appends.
fn without_parameters(name: &str) -> &str {
    match name.find(['<', ':']) {
        Some(at) if name[at..].starts_with('<') && at > 0 => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::ObjectSymbol;

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
        let is_landmark =
            |symbol: &object::Symbol<'_, '_>| symbol.name().is_ok_and(|n| n.contains("landmark"));
        (code, file.symbols().find(is_landmark).unwrap().address())
    }

    #[test]
    fn addresses_have_functions_and_inlined_ones() {
        let (code, address) = own_landmark();
        let outermost = code.frames(address).pop().unwrap();
        assert!(outermost.function.ends_with("landmark"), "{outermost:?}");
        assert_eq!(outermost.file, "bench/insns/src/code.rs");
        assert!(!outermost.is_library && outermost.line > 0);
        let pause = (address..address + 64)
            .find(|&at| code.is_pause(at))
            .unwrap();
        let frames = code.frames(pause);
        assert!(frames.len() > 1, "the inlined spin_loop: {frames:?}");
        assert!(frames[0].is_library, "{frames:?}");
    }

    #[test]
    fn nothing_is_known_outside_the_images() {
        let (code, _) = own_landmark();
        assert!(code.frames(u64::MAX).is_empty());
        assert!(!code.is_pause(u64::MAX));
    }

    #[test]
    fn paths_are_cut_to_what_tells_files_apart() {
        assert_eq!(
            short_path("/rustc/59807616/library/core/src/cmp.rs"),
            "core/src/cmp.rs"
        );
        let crates = "/home/user/.cargo/registry/src/index/bitflags-2.1/src/lib.rs";
        assert_eq!(short_path(crates), "index/bitflags-2.1/src/lib.rs");
        assert_eq!(short_path("relative.rs"), "relative.rs");
    }

    #[test]
    fn type_parameters_are_cut_off() {
        assert_eq!(without_parameters("cycle<ixgbe::QueuePair<R>, M>"), "cycle");
        assert_eq!(without_parameters("{closure#0}"), "{closure#0}");
        assert_eq!(
            without_parameters("<u32 as Step>::forward"),
            "<u32 as Step>::forward"
        );
        assert_eq!(
            without_parameters("ix_net::Engine<T>::poll"),
            "ix_net::Engine<T>::poll"
        );
    }
}
