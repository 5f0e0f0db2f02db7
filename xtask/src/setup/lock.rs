//! One setup at a time for each cache folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ix_machine::qemu::cache_folder;

use crate::interrupt;
use crate::step::Step;

/// Waits for its turn; the returned file holds it. The system drops the lock with its owner.
pub fn acquire() -> Result<File> {
    let folder = cache_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("setup.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if try_lock(&file)? {
        return Ok(file);
    }
    Step::run("setup: waiting for another setup", |_| {
        while !try_lock(&file)? {
            interrupt::check()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(((), "done".to_owned()))
    })?;
    Ok(file)
}

fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the cache folder"),
    }
}
