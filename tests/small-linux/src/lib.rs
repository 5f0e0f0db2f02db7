//! Parts of a small Linux that tests boot: an initramfs around Debian's kernel, so that code which
//! nobody here wrote takes part in the tests. Nothing is installed on the host.
//!
//! - [`apt`]: the host's own apt, and how it gets packages of another release;
//! - [`packages`]: fetches packages with it and unpacks them into a cache folder;
//! - [`kernel`]: the image and the modules in them, each after those that it depends on;
//! - [`libraries`]: which shared libraries a program needs;
//! - [`initramfs`]: the archive that carries all of it.

#![forbid(unsafe_code)]

pub mod apt;
pub mod initramfs;
pub mod kernel;
pub mod libraries;
pub mod packages;
