//! What a user may say of a machine's IPv6, in a flag or in a definition.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::net::Ipv6Network;

/// IPv6 of a machine: `off`, `ra` to wait for a router's advertisement, or the dataplane's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Choice(pub Option<Ipv6Network>);

impl Default for Ipv6Choice {
    fn default() -> Self {
        Ipv6Choice(Some(Ipv6Network::default()))
    }
}

impl FromStr for Ipv6Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Ipv6Choice(match text {
            "off" => None,
            "ra" => Some(Ipv6Network {
                guest: None,
                router_advertisements: true,
                ..Ipv6Network::default()
            }),
            address => Some(Ipv6Network::for_guest(address)?),
        }))
    }
}

impl fmt::Display for Ipv6Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("off"),
            Some(Ipv6Network { guest: None, .. }) => f.write_str("ra"),
            Some(Ipv6Network {
                guest: Some(guest),
                prefix_len,
                ..
            }) => write!(f, "{guest}/{prefix_len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_is_read_as_it_is_written() {
        for text in ["off", "ra", "fd00:9::7/48"] {
            assert_eq!(text.parse::<Ipv6Choice>().unwrap().to_string(), text);
        }
        let choice: Ipv6Choice = "ra".parse().unwrap();
        let ipv6 = choice.0.unwrap();
        assert!(ipv6.guest.is_none() && ipv6.router_advertisements);
        assert!("on".parse::<Ipv6Choice>().is_err());
    }
}
