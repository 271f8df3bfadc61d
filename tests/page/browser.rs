//! A headless Chromium, driven by its DevTools protocol over a pipe: messages of JSON, each ended by a zero byte.
//!
//! It ends with the pipe, so it does not outlive the test, not even when that is killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::wait;

/// See the module. Dropping it closes it.
pub struct Browser {
    child: Child,
    to: Option<File>,
    from: BufReader<File>,
    session: String,
    number: u64,
    _folder: TempDir,
}

impl Browser {
    /// Starts one with an empty page.
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("chromium-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.expect("a folder below target/");
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let made = Command::new("mkfifo").args([&input, &output]).status().map_err(|error| error.to_string())?;
        assert!(made.success(), "mkfifo: {made}");
        let present = Command::new("chromium").arg("--version").stdin(Stdio::null()).output();
        present.map_err(|error| format!("chromium: {error}: run tests/support/chromium/prepare.sh"))?;
        let script = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                      --hide-scrollbars --disable-background-networking --remote-debugging-pipe \
                      --user-data-dir=\"$0\" about:blank 3< \"$0/in\" 4> \"$0/out\" 2> \"$0/log\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let to = File::options().write(true).open(&input).expect("the shell reads");
        let from = BufReader::new(File::open(&output).expect("the shell writes"));
        let session = String::new();
        let mut browser = Self { child, to: Some(to), from, session, number: 0, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        browser.call("Page.enable", json!({}));
        browser.call("Runtime.enable", json!({}));
        Ok(browser)
    }

    /// Calls a method of the protocol and waits for its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.as_mut().expect("it is open until dropped").write_all(&bytes).expect("chromium reads");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("chromium writes");
            assert_eq!(bytes.pop(), Some(0), "chromium ended during {method}");
            let answer: Value = serde_json::from_slice(&bytes).expect("chromium speaks JSON");
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// How wide and high the page is, and whether its reader likes it dark.
    pub fn show_at(&mut self, width: u32, height: u32, dark: bool) {
        let (scale, mobile) = (if width < 600 { 2 } else { 1 }, width < 600);
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Opens an address and waits until the page has shown something.
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
        wait::until("the page shows the run", Duration::from_secs(60), || {
            (self.run("document.documentElement?.dataset.shown ?? ''") == "yes").then_some(())
        });
    }

    /// The value of an expression on the page.
    pub fn run(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// A picture of the whole page.
    pub fn picture(&mut self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}));
        let (width, height) = (&size["cssContentSize"]["width"], &size["cssContentSize"]["height"]);
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let data = self.call("Page.captureScreenshot", shot)["data"].clone();
        let bytes = STANDARD.decode(data.as_str().expect("base64")).expect("base64");
        std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.to = None;
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
