//! The keys that say how TCP behaves.

use ix_hal::Duration;
use ix_net::{Config, CongestionControl, Ecn, Refusal};

use super::{CommandLineError, ON_OR_OFF, number, switch};

/// What the command line may set of TCP; the engine's defaults otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// `rto_min_us=`: floor of the retransmission timeout, in microseconds.
    pub rto_min_us: Option<u32>,
    /// `congestion=cubic`: what governs the congestion windows; also `newreno` and `dctcp`.
    pub congestion: Option<CongestionControl>,
    /// `ecn=accept`: explicit congestion notification where the peer asks for it; also `off`, and
    /// `request`, which asks for it.
    pub ecn: Option<Ecn>,
    /// `nagle=off`: whether small segments wait for what is outstanding.
    pub nagle: Option<bool>,
    /// `keepalive_s=`: seconds of silence after which a peer is probed; never unless set.
    pub keepalive_s: Option<u32>,
    /// `user_timeout_s=`: seconds that unacknowledged data keeps a connection.
    pub user_timeout_s: Option<u32>,
    /// `refuse=silence`: what a SYN meets for which there is no room; also `reset`.
    pub refusal: Option<Refusal>,
}

impl TcpOptions {
    /// Names of the keys.
    pub const KEYS: &str = "rto_min_us congestion ecn nagle keepalive_s user_timeout_s refuse";

    /// Takes a key, if it is one of these.
    pub(super) fn set<'a>(
        &mut self,
        key: &'a str,
        value: &'a str,
    ) -> Result<(), CommandLineError<'a>> {
        let expected = |what| move || CommandLineError::Value(key, value, what);
        match key {
            "rto_min_us" => {
                let range = expected("16 to 10000000 us");
                self.rto_min_us = Some(number(value, 16, 10_000_000).ok_or_else(range)?);
            }
            "congestion" => {
                let names = expected("newreno, cubic or dctcp");
                self.congestion = Some(congestion(value).ok_or_else(names)?);
            }
            "ecn" => {
                let names = expected("off, accept or request");
                self.ecn = Some(ecn(value).ok_or_else(names)?);
            }
            "nagle" => self.nagle = Some(switch(value).ok_or_else(expected(ON_OR_OFF))?),
            "keepalive_s" => {
                let range = expected("1 to 604800 s");
                self.keepalive_s = Some(number(value, 1, 604_800).ok_or_else(range)?);
            }
            "user_timeout_s" => {
                let range = expected("1 to 86400 s");
                self.user_timeout_s = Some(number(value, 1, 86_400).ok_or_else(range)?);
            }
            "refuse" => {
                let names = expected("silence or reset");
                self.refusal = Some(refusal(value).ok_or_else(names)?);
            }
            _ => return Err(CommandLineError::UnknownKey(key)),
        }
        Ok(())
    }

    /// Says so in the engine's configuration.
    pub fn apply(&self, config: &mut Config) {
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        let default = config.clone();
        config.rto_min_us = self.rto_min_us.unwrap_or(default.rto_min_us);
        config.congestion = self.congestion.unwrap_or(default.congestion);
        config.ecn = self.ecn.unwrap_or(default.ecn);
        config.nagle = self.nagle.unwrap_or(default.nagle);
        config.keepalive = self.keepalive_s.map(seconds).or(default.keepalive);
        config.user_timeout = self.user_timeout_s.map_or(default.user_timeout, seconds);
        config.refusal = self.refusal.unwrap_or(default.refusal);
    }
}

fn congestion(value: &str) -> Option<CongestionControl> {
    match value {
        "newreno" => Some(CongestionControl::NewReno),
        "cubic" => Some(CongestionControl::Cubic),
        "dctcp" => Some(CongestionControl::Dctcp),
        _ => None,
    }
}

fn ecn(value: &str) -> Option<Ecn> {
    match value {
        "off" => Some(Ecn::Off),
        "accept" => Some(Ecn::Accept),
        "request" => Some(Ecn::Request),
        _ => None,
    }
}

fn refusal(value: &str) -> Option<Refusal> {
    match value {
        "silence" => Some(Refusal::Silence),
        "reset" => Some(Refusal::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    fn parse(line: &'static str) -> Result<TcpOptions, CommandLineError<'static>> {
        let mut options = TcpOptions::default();
        for word in line.split(' ') {
            let (key, value) = word.split_once('=').expect("key=value");
            options.set(key, value)?;
        }
        Ok(options)
    }

    #[test]
    fn every_key_reaches_the_engine() {
        let line = "rto_min_us=16 congestion=dctcp ecn=request nagle=on keepalive_s=60 \
                    user_timeout_s=30 refuse=reset";
        let mut config = Config::default();
        parse(line).expect("a good line").apply(&mut config);
        assert_eq!(config.rto_min_us, 16);
        assert_eq!(config.congestion, CongestionControl::Dctcp);
        assert_eq!(config.ecn, Ecn::Request);
        assert!(config.nagle);
        assert_eq!(config.keepalive, Some(Duration::from_secs(60)));
        assert_eq!(config.user_timeout, Duration::from_secs(30));
        assert_eq!(config.refusal, Refusal::Reset);
        let keys = line.split(' ').map(|word| word.split('=').next());
        assert!(keys.eq(TcpOptions::KEYS.split(' ').map(Some)));
    }

    #[test]
    fn what_is_not_said_stays() {
        let mut config = Config::default();
        TcpOptions::default().apply(&mut config);
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for line in [
            "rto_min_us=15",
            "rto_min_us=10000001",
            "congestion=bbr",
            "ecn=on",
            "nagle=1",
            "keepalive_s=0",
            "user_timeout_s=86401",
            "refuse=rst",
        ] {
            let error = parse(line).expect_err(line);
            assert!(matches!(error, CommandLineError::Value(..)), "{line}");
        }
        assert_eq!(parse("tcp=1"), Err(CommandLineError::UnknownKey("tcp")));
    }
}
