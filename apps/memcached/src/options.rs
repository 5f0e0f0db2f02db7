//! The arguments of the program, those of memcached as far as they mean something here.

use core::num::ParseIntError;

use libix::{EXIT_USAGE, println};
use spin::Once;

use crate::server::{Server, Settings};
use crate::service::Service;

/// What the threads of the application share.
static SERVER: Once<Server> = Once::new();

/// Serves with those arguments, and returns the exit code.
pub fn start(arguments: &[&str]) -> i32 {
    match parse(arguments) {
        Ok(settings) => libix::run(Service::new(settings, &SERVER)),
        Err(Refused::Help) => {
            USAGE.lines().for_each(|line| println!("{line}"));
            0
        }
        Err(error) => {
            println!("memcached: {error}; -h lists the options");
            EXIT_USAGE
        }
    }
}

const USAGE: &str = "\
usage: memcached [-m MEGABYTES] [-p PORT] [-U PORT] [-I SIZE] [-f FACTOR] [-M] [-F]
  -m  memory for items, 64 unless given
  -p  TCP port, 11211 unless given
  -U  UDP port; none unless given
  -I  largest item, such as 512k or 4m; 1m unless given
  -f  how much larger the chunks of a slab class are than those of the one before, 1.25 unless given
  -M  refuse what does not fit, instead of evicting
  -F  refuse flush_all";

/// Why arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("the options were asked for")]
    Help,
    #[error("there is no option {0:?}")]
    Unknown(alloc::string::String),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("{0} needs a number: {1}")]
    NoNumber(&'static str, ParseIntError),
    #[error("{0} must be from {1} to {2}")]
    OutOfRange(&'static str, u64, u64),
    #[error("-f must be from 1.05 to 4, such as 1.25")]
    Factor,
}

/// Reads the arguments. Options and values may be one word or two.
fn parse(arguments: &[&str]) -> Result<Settings, Refused> {
    let mut settings = Settings::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (option, attached) = word.split_at_checked(2).unwrap_or((word, ""));
        let mut value = |name| match attached {
            "" => words.next().copied().ok_or(Refused::NoValue(name)),
            attached => Ok(attached),
        };
        match option {
            "-m" => {
                let megabytes = number("-m", value("-m")?, 1, 1 << 20)?;
                settings.store.memory_bytes = (megabytes as usize) << 20;
            }
            "-p" => settings.port = number("-p", value("-p")?, 1, u16::MAX.into())? as u16,
            "-U" => settings.udp_port = number("-U", value("-U")?, 0, u16::MAX.into())? as u16,
            "-I" => settings.store.item_max = size(value("-I")?)?,
            "-f" => settings.store.growth_percent = percent(value("-f")?)?,
            "-M" if attached.is_empty() => settings.store.evicts = false,
            "-F" if attached.is_empty() => settings.allows_flush = false,
            "-h" => return Err(Refused::Help),
            _ => return Err(Refused::Unknown((*word).into())),
        }
    }
    Ok(settings)
}

fn number(name: &'static str, text: &str, least: u64, most: u64) -> Result<u64, Refused> {
    let number = text.parse();
    let number: u64 = number.map_err(|error| Refused::NoNumber(name, error))?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(Refused::OutOfRange(name, least, most)),
    }
}

/// As memcached: at least 1k, at most 1g.
fn size(text: &str) -> Result<usize, Refused> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (&lower[..], 0),
    };
    let count = number("-I", digits, 1, 1 << (30 - shift))?;
    let bytes = count << shift;
    match bytes >= 1 << 10 {
        true => Ok(bytes as usize),
        false => Err(Refused::OutOfRange("-I", 1 << 10, 1 << 30)),
    }
}

/// A factor with at most two digits after the point, in percent.
fn percent(text: &str) -> Result<usize, Refused> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = match part.len() {
        0 => "00".into(),
        1 => alloc::format!("{part}0"),
        2 => part.into(),
        _ => return Err(Refused::Factor),
    };
    let percent = alloc::format!("{whole}{digits}").parse();
    let percent = percent.map_err(|_| Refused::Factor)?;
    match (105..=400).contains(&percent) {
        true => Ok(percent),
        false => Err(Refused::Factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_up_in_the_settings() {
        let settings = parse(&[
            "-m", "512", "-p11212", "-U", "11213", "-I", "4m", "-f", "1.5", "-M", "-F",
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.store.memory_bytes, 512 << 20);
        assert_eq!((settings.port, settings.udp_port), (11212, 11213));
        assert_eq!(settings.store.item_max, 4 << 20);
        assert_eq!(settings.store.growth_percent, 150);
        assert!(!settings.store.evicts && !settings.allows_flush);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, expected) in [
            (&["-x"][..], "no option \"-x\""),
            (&["-m"], "-m needs a value"),
            (&["-m", "many"], "-m needs a number"),
            (&["-p", "0"], "-p must be from 1 to 65535"),
            (&["-I", "100"], "-I must be from 1024"),
            (&["-f", "1"], "-f must be"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
