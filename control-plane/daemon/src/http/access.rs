//! Who may use the interface: on the Unix socket root, the daemon's own user, and members of one
//! group, by the credentials that the kernel gives; on TCP whoever has the token.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use ix_api::{Kind, Refusal};
use tokio::net::UnixListener;

use super::Refused;

/// Shortest token that is accepted.
const TOKEN_LEAST: usize = 16;

/// Who may use the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The daemon's user.
    pub user: u32,
    /// The group whose members may, too.
    pub group: Option<u32>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    user: u32,
    group: u32,
    process: Option<i32>,
}

impl Access {
    /// The daemon's own user, and the members of the group of that name.
    pub fn new(group: Option<&str>) -> Result<Access> {
        let group = group.map(group_id).transpose()?;
        Ok(Access {
            user: rustix::process::geteuid().as_raw(),
            group,
        })
    }

    fn allows(&self, peer: &Peer) -> bool {
        let in_group = |group| group == peer.group || supplementary_groups(peer).contains(&group);
        peer.user == 0 || peer.user == self.user || self.group.is_some_and(in_group)
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // Nobody's numbers where the kernel gives none.
        let nobody = Peer {
            user: u32::MAX,
            group: u32::MAX,
            process: None,
        };
        stream.io().peer_cred().map_or(nobody, |peer| Peer {
            user: peer.uid(),
            group: peer.gid(),
            process: peer.pid(),
        })
    }
}

/// Lets through whom the socket's rules allow.
pub async fn check_peer(
    State(access): State<Arc<Access>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if access.allows(&peer) {
        return next.run(request).await;
    }
    refuse(
        format!("user {} may not use the control plane", peer.user),
        "use sudo, or have yourself added to the daemon's `group`",
    )
}

/// The secret that a client over TCP has to know.
pub struct Token(String);

impl Token {
    /// Reads the token from a file that only its owner may read.
    pub fn read(path: &Path) -> Result<Token> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).with_context(|| format!("{}", path.display()))?;
        if metadata.mode() & 0o077 != 0 {
            bail!("{}: others may read it; chmod 600", path.display());
        }
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let token = text.trim();
        if token.len() < TOKEN_LEAST {
            bail!("{}: shorter than {TOKEN_LEAST} characters", path.display());
        }
        Ok(Token(token.to_owned()))
    }

    /// Compares in a time that does not depend on where the two differ.
    fn is(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        let differ = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == other.len() && differ == 0
    }
}

/// Lets through who has the token.
pub async fn check_token(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given.is_some_and(|given| token.is(given)) {
        return next.run(request).await;
    }
    refuse(
        "the token is missing or wrong".to_owned(),
        "send `Authorization: Bearer` with the contents of the daemon's token_file",
    )
}

fn refuse(reason: String, remedy: &str) -> Response {
    Refused::from(Refusal::new(Kind::Forbidden, reason, remedy)).into_response()
}

/// The number of a group, by its name or as it stands.
fn group_id(name: &str) -> Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    let line = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    line.ok_or_else(|| anyhow!("there is no group {name}: add it with `groupadd {name}`"))
}

/// The kernel's credentials of a peer have only its first group; the rest is in its status.
fn supplementary_groups(peer: &Peer) -> Vec<u32> {
    let Some(process) = peer.process else {
        return Vec::new();
    };
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let groups = line.unwrap_or_default().split_whitespace();
    groups.filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn peer(user: u32, group: u32) -> Peer {
        Peer {
            user,
            group,
            process: None,
        }
    }

    #[test]
    fn root_the_owner_and_the_group_may() {
        let access = Access {
            user: 5,
            group: Some(9),
        };
        assert!(access.allows(&peer(0, 1)) && access.allows(&peer(5, 1)));
        assert!(access.allows(&peer(7, 9)));
        assert!(!access.allows(&peer(7, 8)));
        let alone = Access {
            user: 5,
            group: None,
        };
        assert!(!alone.allows(&peer(7, 9)));
    }

    #[test]
    fn groups_are_known_by_name() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("77").unwrap(), 77);
        assert!(group_id("no-such-group-here").is_err());
    }

    #[test]
    fn a_token_has_to_be_secret_and_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::read(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.is("0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcdeg",
            "0123456789abcde",
            "0123456789abcdef0",
        ] {
            assert!(!token.is(wrong), "{wrong}");
        }
        fs::write(&path, "short").unwrap();
        assert!(Token::read(&path).is_err());
    }
}
