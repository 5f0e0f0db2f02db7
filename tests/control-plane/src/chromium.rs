//! A browser without a screen, by the DevTools protocol over a pair of pipes: messages are JSON, each
//! ended by a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ix_machine::process::find_tool;
use serde_json::{Value, json};

use crate::wait_until;

/// A browser with one page.
pub struct Page {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    session: Value,
    /// What the page complained about on its console.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Opens `address` in a browser of its own.
    pub fn open(address: &str) -> Page {
        let program = find_tool("chromium", "chromium").unwrap_or_else(|error| panic!("{error}"));
        let profile = tempfile::tempdir().unwrap();
        // The browser speaks on descriptors 3 and 4. It is root's here, who needs no sandbox against
        // its own page.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--remote-debugging-pipe", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut page = Page {
            child,
            to,
            from: BufReader::new(from),
            last: 0,
            session: Value::Null,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        page.session = page.call("Target.attachToTarget", attach)["sessionId"].clone();
        page.call("Runtime.enable", json!({}));
        page.call("Log.enable", json!({}));
        page.call("Page.navigate", json!({ "url": address }));
        page
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.evaluate(expression);
        let problem = &answer["exceptionDetails"];
        assert!(problem.is_null(), "{expression}: {problem}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true. What it is about may not be there yet.
    pub fn wait_for(&mut self, expression: &str) {
        wait_until(expression, || {
            self.evaluate(expression)["result"]["value"] == json!(true)
        });
    }

    /// Has the page see the light or the dark scheme.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// Errors of the page since the last time, such as what its policy has forbidden.
    pub fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        let question = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", question)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut call = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        let mut message = serde_json::to_vec(&call).unwrap();
        message.push(0);
        self.to.write_all(&message).unwrap();
        self.to.flush().unwrap();
        loop {
            let mut message = Vec::new();
            self.from.read_until(0, &mut message).unwrap();
            assert_eq!(message.pop(), Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let params = &message["params"];
        let is_complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => params["type"] == "error",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(params.to_string());
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended; its own children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
