//! QEMU's control socket: the part of the QEMU Machine Protocol that a machine needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Longest answer that is read.
const ANSWER_BYTES: u64 = 1 << 20;

/// A connection that has passed the greeting. QEMU serves one at a time.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects, and waits at most `timeout` for the greeting and for each later answer.
    pub fn connect(socket: &Path, timeout: Duration) -> Result<Qmp> {
        let refused = |error: std::io::Error| {
            Error::Qmp(format!("cannot connect to {}: {error}", socket.display()))
        };
        let stream = UnixStream::connect(socket).map_err(refused)?;
        stream.set_read_timeout(Some(timeout)).map_err(refused)?;
        stream.set_write_timeout(Some(timeout)).map_err(refused)?;
        let mut qmp = Qmp {
            stream: BufReader::new(stream),
        };
        let greeting = qmp.read_message()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Qmp(format!("expected a greeting, got {greeting}")));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes `command` and returns its result; events that come between are passed over.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")
            .map_err(|error| Error::Qmp(format!("cannot send {command}: {error}")))?;
        loop {
            let mut answer = self.read_message()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(Error::Qmp(format!("{command} failed: {error}")));
            }
        }
    }

    fn read_message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.stream.by_ref().take(ANSWER_BYTES).read_line(&mut line);
        match read {
            Ok(0) => Err(Error::Qmp("it was closed".to_owned())),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| Error::Qmp(format!("unreadable answer {line:?}: {error}"))),
            Err(error) => Err(Error::Qmp(format!("no answer: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Serves one connection: the greeting, then one scripted answer (of any number of lines) a request.
    fn answering(answers: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            stream.write_all(b"{\"QMP\": {}}\r\n").unwrap();
            for answer in answers {
                requests.next().unwrap().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (folder, socket)
    }

    #[test]
    fn events_before_an_answer_are_passed_over() {
        let (_folder, socket) = answering(&[
            "{\"return\": {}}\n",
            "{\"event\": \"RESUME\"}\n{\"return\": {\"running\": true}}\n",
        ]);
        let mut qmp = Qmp::connect(&socket, TIMEOUT).unwrap();
        let status = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(status["running"], true);
    }

    #[test]
    fn errors_and_a_closed_socket_are_reported() {
        let (_folder, socket) = answering(&[
            "{\"return\": {}}\n",
            "{\"error\": {\"class\": \"CommandNotFound\"}}\n",
        ]);
        let mut qmp = Qmp::connect(&socket, TIMEOUT).unwrap();
        let error = qmp.execute("fly", json!({})).unwrap_err();
        assert!(error.to_string().contains("CommandNotFound"), "{error}");
        assert!(qmp.execute("quit", json!({})).is_err());
    }
}
