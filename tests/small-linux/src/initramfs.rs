//! An initramfs: a cpio archive in "newc" format (Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// An archive being put together. Parent folders appear by themselves.
#[derive(Default)]
pub struct Archive {
    entries: Vec<(String, Vec<u8>)>,
}

impl Archive {
    /// Adds `contents` at `path` (relative, without a leading slash).
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.entries.push((path.to_owned(), contents.to_owned()));
    }

    /// Adds a copy of the file `source` at `path`.
    pub fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        let contents =
            fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.entries.push((path.to_owned(), contents));
        Ok(())
    }

    /// Writes the archive to `destination`.
    pub fn write(&self, destination: &Path) -> Result<()> {
        let write_all = || -> io::Result<()> {
            let mut output = BufWriter::new(File::create(destination)?);
            self.write_to(&mut output)?;
            output.flush()
        };
        write_all().with_context(|| format!("cannot write {}", destination.display()))
    }

    fn write_to(&self, output: &mut impl Write) -> io::Result<()> {
        const DIRECTORY: u32 = 0o040_755;
        const EXECUTABLE: u32 = 0o100_755;
        // The kernel creates nothing implicitly: each folder comes before what is in it.
        let names = self.entries.iter().map(|(name, _)| name.as_str());
        let directories = names.flat_map(parents).collect::<BTreeSet<_>>();
        let mut inode = 0;
        for directory in directories.into_iter().chain(["dev", "proc", "sys", "tmp"]) {
            inode += 1;
            write_entry(output, inode, directory, DIRECTORY, &[])?;
        }
        for (name, contents) in &self.entries {
            inode += 1;
            write_entry(output, inode, name, EXECUTABLE, contents)?;
        }
        write_entry(output, 0, "TRAILER!!!", 0, &[])
    }
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(position, _)| &path[..position])
}

fn write_entry(
    output: &mut impl Write,
    inode: u32,
    name: &str,
    mode: u32,
    contents: &[u8],
) -> io::Result<()> {
    const LINKS: u32 = 1;
    let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
    let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    let fields = [inode, mode, 0, 0, LINKS, 0, size, 0, 0, 0, 0, name_size, 0];
    output.write_all(b"070701")?;
    for field in fields {
        write!(output, "{field:08x}")?;
    }
    output.write_all(name.as_bytes())?;
    output.write_all(b"\0")?;
    let header = 6 + 8 * fields.len() + name.len() + 1;
    pad(output, header)?;
    output.write_all(contents)?;
    pad(output, contents.len())
}

/// Headers and contents both end at a multiple of four bytes.
fn pad(output: &mut impl Write, length: usize) -> io::Result<()> {
    output.write_all(&[0; 3][..length.next_multiple_of(4) - length])
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn archive_holds_folders_before_files_and_ends_with_the_trailer() {
        let mut archive = Archive::default();
        archive.file("a/b/c", b"contents");
        let mut bytes = Vec::new();
        archive.write_to(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);

        let mut names = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let field = |index: usize| {
                let text = std::str::from_utf8(&rest[6 + 8 * index..14 + 8 * index]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8(rest[110..110 + name_size - 1].to_vec()).unwrap());
            let contents = (110 + name_size).next_multiple_of(4);
            if names.last().unwrap() == "a/b/c" {
                assert_eq!(&rest[contents..contents + size], b"contents");
            }
            rest = &rest[contents + size.next_multiple_of(4)..];
        }
        assert_eq!(
            names,
            [
                "a",
                "a/b",
                "dev",
                "proc",
                "sys",
                "tmp",
                "a/b/c",
                "TRAILER!!!"
            ]
        );
    }
}
