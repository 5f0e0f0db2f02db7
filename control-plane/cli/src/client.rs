//! HTTP to the daemon, over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use ix_api::{Kind, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The way to the daemon.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`; nothing is connected yet.
    pub fn new(socket: &Path) -> Client {
        Client {
            socket: socket.to_owned(),
        }
    }

    /// Asks for something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    /// Has something done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Replaces something.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let response = self.send(Method::DELETE, path, None::<&()>).await?;
        accepted(response).await.map(drop)
    }

    /// Asks for something that comes piece by piece, and hands over each piece as it comes.
    pub async fn stream(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let mut pieces = self.open(path).await?;
        while let Some(piece) = pieces.next().await? {
            match each(&piece) {
                // Whoever read the output has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                result => result?,
            }
        }
        Ok(())
    }

    /// Asks for something that comes piece by piece.
    pub async fn open(&self, path: &str) -> Result<Pieces> {
        let response = self.send(Method::GET, path, None::<&()>).await?;
        if response.status().is_success() {
            return Ok(Pieces(response.into_body()));
        }
        accepted(response).await?;
        Err(anyhow!("the daemon's answer is neither good nor a refusal"))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let response = self.send(method, path, body).await?;
        let bytes = accepted(response).await?;
        serde_json::from_slice(&bytes)
            .context("the daemon's answer makes no sense: is it of another version?")
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors are those of the request, too.
        tokio::spawn(connection);
        let bytes = body.map(serde_json::to_vec).transpose()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "ixcpd")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(bytes.unwrap_or_default())))?;
        sender
            .send_request(request)
            .await
            .context("the daemon went away")
    }

    fn unreachable(&self, error: &io::Error) -> anyhow::Error {
        let socket = self.socket.display();
        let remedy = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "start it with `ixcpd`",
            io::ErrorKind::PermissionDenied => {
                "use sudo, or have yourself added to the daemon's `group`"
            }
            _ => "`ixctl doctor` checks what it needs",
        };
        let reason = format!("no daemon at {socket}: {error}");
        Refusal::new(Kind::Failed, reason, remedy).into()
    }
}

/// An answer that comes piece by piece.
pub struct Pieces(Incoming);

impl Pieces {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.0.frame().await {
            let frame = frame.context("the daemon went away")?;
            // Trailers, which are no data, are of no interest.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The body of a good answer; a refusal is an error.
async fn accepted(response: Response<Incoming>) -> Result<Bytes> {
    let status = response.status();
    let body = response.into_body().collect();
    let bytes = body.await.context("the daemon went away")?.to_bytes();
    if status.is_success() {
        return Ok(bytes);
    }
    match serde_json::from_slice::<Refusal>(&bytes) {
        Ok(refusal) => Err(refusal.into()),
        Err(_) => Err(anyhow!(
            "the daemon answered {status}: {}",
            String::from_utf8_lossy(&bytes).trim()
        )),
    }
}

/// A name as part of a path: names are plain, and what is not is escaped, so that it is not found
/// rather than taken for something else.
pub fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(escaped("kv-1_a"), "kv-1_a");
        assert_eq!(escaped("../x?y"), "%2E%2E%2Fx%3Fy");
    }
}
