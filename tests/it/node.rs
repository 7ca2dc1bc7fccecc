//! A node under test: the built program on a folder of its own, and what talks to it.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

pub const PRELIM: &str = env!("CARGO_BIN_EXE_prelim");

/// Longest wait for something that takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter with pydicom, pynetdicom, highdicom and aiosmtpd.
pub fn python() -> PathBuf {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "no .venv: run scripts/test, which makes it");
    python
}

/// A file of the pydicom package's own test files.
pub fn pydicom_file(name: &str) -> PathBuf {
    let lib = root().join(".venv/lib");
    let versions = std::fs::read_dir(lib).unwrap().map(|entry| entry.unwrap().path());
    let packages: Vec<PathBuf> = versions.map(|path| path.join("site-packages")).collect();
    let places = ["pydicom/data/test_files", "data_store/data"];
    let mut all = packages.iter().flat_map(|p| places.map(|place| p.join(place).join(name)));
    all.find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is not in the packages"))
}

/// Runs a program to its end; its output is in the panic when it fails.
pub fn run(command: &mut Command) -> Output {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    output
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Asks again and again until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that ends with the test.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn wait_until_listening(port: u16) {
    wait_for("a port that listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
}

/// A running `prelim serve`.
pub struct Node {
    process: Background,
    pub data: PathBuf,
    pub dicom: SocketAddr,
    pub http: SocketAddr,
}

impl Drop for Node {
    /// What a failing test wants to know.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (log, ended) = (self.log(), self.process.0.try_wait());
            let from = log.len().saturating_sub(4000);
            let last = String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned();
            eprintln!("the node ({ended:?}) said last:\n{last}");
        }
    }
}

impl Node {
    /// Starts on `data` with ports of its own and a quiet period of 1 s.
    pub fn start(data: &Path, set: &[&str]) -> Node {
        Node::start_with(&[], data, set)
    }

    /// The same by another program, which becomes the node: `prlimit`, `nice`.
    pub fn start_with(by: &[&str], data: &Path, set: &[&str]) -> Node {
        let mut node = Node::spawn_with(by, data, set);
        let (dicom, http) = wait_for("a node that listens", || {
            if let Some(status) = node.0.try_wait().unwrap() {
                let log = std::fs::read_to_string(data.join("log.txt")).unwrap_or_default();
                panic!("the node ended at its start: {status}\n{log}");
            }
            addresses(data, node.0.id())
        });
        Node { process: node, data: data.to_owned(), dicom, http }
    }

    /// Starts a node that is expected to end by itself (crash tests).
    pub fn spawn(data: &Path, set: &[&str]) -> Background {
        Node::spawn_with(&[], data, set)
    }

    fn spawn_with(by: &[&str], data: &Path, set: &[&str]) -> Background {
        std::fs::create_dir_all(data).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("log.txt"));
        let words: Vec<&str> = by.iter().copied().chain([PRELIM]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.args(["serve", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]);
        command.arg(data).args(["--set", "assemble.quiet_period_s=1"]);
        for one in set {
            command.args(["--set", one]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        Background(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// kill -9, and gone when it returns.
    pub fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        run(Command::new("kill").args(["-TERM", &self.process.0.id().to_string()]));
        self.process.0.wait().unwrap().code()
    }

    /// Ends by itself (crash tests).
    pub fn wait(mut self) {
        self.process.0.wait().unwrap();
    }

    pub fn storescu(&self, files: &[PathBuf]) {
        let port = self.dicom.port().to_string();
        let mut storescu = Command::new("storescu");
        storescu.args(["-aec", "PRELIM", "-R", "-xs", "127.0.0.1", &port]);
        run(storescu.args(files));
    }

    /// `prelim send`, which proposes each file as it is.
    pub fn send(&self, files: &[PathBuf]) {
        let mut send = Command::new(PRELIM);
        run(send.arg("send").arg(format!("PRELIM@{}", self.dicom)).args(files));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log.txt")).unwrap_or_default()
    }

    /// Waits until the study is in this state, and gives `prelim study --json`.
    pub fn study_in(&self, uid: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(study) = study(&self.data, uid) {
                if study["state"] == state {
                    return study;
                }
                last = study;
            }
            assert!(Instant::now() < deadline, "{uid} is not {state}: {last:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn addresses(data: &Path, pid: u32) -> Option<(SocketAddr, SocketAddr)> {
    let node: Value = serde_json::from_slice(&std::fs::read(data.join("node.json")).ok()?).ok()?;
    let address = |key: &str| node[key].as_str()?.parse().ok();
    let same = node["pid"] == pid;
    same.then(|| Some((address("dicom")?, address("address")?))).flatten()
}

/// `prelim study UID --json`, none when it does not know the study.
pub fn study(data: &Path, uid: &str) -> Option<Value> {
    let output = Command::new(PRELIM).args(["study", uid, "--json", "--data"]).arg(data).output();
    let output = output.unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// A labelled chest X-ray of the fixtures as a DICOM file, made by pydicom.
///
/// - `what`: `key=value` pairs for `tests/peers/make_cr.py`.
pub fn chest_xray(picture: &str, file: &Path, what: &[&str]) -> String {
    let script = root().join("tests/peers/make_cr.py");
    let picture = root().join("tests/fixtures/cxr").join(picture);
    let output = run(Command::new(python()).arg(script).arg(picture).arg(file).args(what));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
