//! The table of what goes wrong at a destination: each kind meets each fault, the node is killed in
//! the middle, and what had to arrive arrives, as it was made.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::front::Fault;
use crate::front::Front;
use crate::node::Background;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::data_set;
use crate::peer::files_below;
use crate::peer::objects;
use crate::way::POSITIVE;
use crate::way::files;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Of every kind that is reached by a connection of its own.
const ON_THE_WAY: [(&str, Fault); 5] = [
    ("refused", Fault::Refused),
    ("hang", Fault::Hang),
    ("cut", Fault::Cut),
    ("lost", Fault::Lost),
    ("garbage", Fault::Garbage),
];
/// Of those over HTTP.
const BUSY: Fault = Fault::Once("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
const REFUSES: Fault = Fault::Always("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");

/// Kinds, by the bytes after which a transfer is in its middle.
const KINDS: [(&str, usize); 5] =
    [("pacs", 4000), ("stow", 4000), ("fhir", 4000), ("mllp", 4000), ("webhook", 700)];

fn peer(script: &str, arguments: &[&str]) -> Background {
    let mut peer = Command::new(python());
    peer.arg(root().join("tests/peers").join(script)).args(arguments);
    let none = std::process::Stdio::null;
    // What they say of a request that was cut off is of no interest.
    Background(peer.stdout(none()).stderr(none()).spawn().unwrap())
}

/// All peers, and what stands before them.
struct Around {
    folder: PathBuf,
    _peers: Vec<Background>,
    archive: Node,
    closed: Vec<Front>,
    mail_port: u16,
    set: Vec<String>,
    /// What becomes of the report at each destination: `None` it arrives, `Some` a dead letter that
    /// says so.
    expected: BTreeMap<String, Option<&'static str>>,
}

impl Around {
    fn start(folder: &Path) -> Around {
        let at = |name: &str| {
            std::fs::create_dir_all(folder.join(name)).unwrap();
            folder.join(name).display().to_string()
        };
        let archive = Node::start(Path::new(&at("stow")), &["assemble.quiet_period_s=600"]);
        let ports: [u16; 8] = std::array::from_fn(|_| free_port());
        let [pacs, pacs_busy, pacs_refuses, mllp, mllp_busy, mllp_refuses, fhir, hook] =
            ports.map(|port| port.to_string());
        let peers = vec![
            peer("archive.py", &[&pacs, &at("pacs"), "--find", "yes"]),
            peer("archive.py", &[&pacs_busy, &at("pacs.busy"), "--status", "A700,A700"]),
            peer("archive.py", &[&pacs_refuses, &at("pacs.refuses"), "--status", "C000,C000"]),
            peer("mllp_peer.py", &["--port", &mllp, "--folder", &at("mllp")]),
            peer(
                "mllp_peer.py",
                &["--port", &mllp_busy, "--folder", &at("mllp.busy"), "--answers", "AR,AA"],
            ),
            peer(
                "mllp_peer.py",
                &["--port", &mllp_refuses, "--folder", &at("mllp.refuses"), "--answers", "AE"],
            ),
            peer("fhir_server.py", &["--port", &fhir, "--folder", &at("fhir")]),
            peer("webhook.py", &[&hook, &at("webhook"), SECRET]),
        ];
        ports.into_iter().for_each(wait_until_listening);
        std::fs::write(folder.join("secret"), SECRET).unwrap();
        let mut around = Around {
            folder: folder.to_owned(),
            _peers: peers,
            archive,
            closed: Vec::new(),
            mail_port: free_port(),
            set: vec!["deliver.retry_first_s=1".into(), "deliver.retry_longest_s=2".into()],
            expected: BTreeMap::new(),
        };
        let [pacs_port, pacs_busy, pacs_refuses, mllp_port, mllp_busy, mllp_refuses, fhir, hook] =
            ports;
        for (kind, middle) in KINDS {
            let to = match kind {
                "pacs" => pacs_port,
                "stow" => around.archive.http.port(),
                "fhir" => fhir,
                "mllp" => mllp_port,
                _ => hook,
            };
            for (name, fault) in ON_THE_WAY {
                around.behind(kind, name, Front::start(fault, middle, to));
            }
            if !["pacs", "mllp"].contains(&kind) {
                around.behind(kind, "busy", Front::start(BUSY, middle, to));
                around.behind(kind, "refuses", Front::start(REFUSES, middle, to));
                around.expect(kind, "refuses", Some("HTTP 410"));
            }
        }
        for (kind, name, port, dead) in [
            ("pacs", "busy", pacs_busy, None),
            ("pacs", "refuses", pacs_refuses, Some("C000H")),
            ("mllp", "busy", mllp_busy, None),
            ("mllp", "refuses", mllp_refuses, Some("AE no such patient")),
        ] {
            around.at(kind, name, port);
            around.expect(kind, name, dead);
        }
        around.mail();
        // A file stands where the folder should be.
        let share = folder.join("share");
        std::fs::write(&share, "in the way").unwrap();
        around.set.push(format!("deliver.folder.share.path=\"{}\"", share.display()));
        around.set.push("deliver.folder.share.files=[\"sr.dcm\"]".into());
        around.expect("folder", "share", None);
        around
    }

    fn expect(&mut self, kind: &str, name: &str, dead: Option<&'static str>) {
        self.expected.insert(format!("{kind}.{name}"), dead);
    }

    fn behind(&mut self, kind: &str, name: &str, front: Front) {
        self.at(kind, name, front.port);
        self.expect(kind, name, None);
        if !front.opened.load(Ordering::Relaxed) {
            self.closed.push(front);
        }
    }

    fn at(&mut self, kind: &str, name: &str, port: u16) {
        let host = format!("127.0.0.1:{port}");
        let secret = self.folder.join("secret");
        let keys = match kind {
            "pacs" => vec![
                format!("address=\"{host}\""),
                "ae_title=\"ARCHIVE\"".into(),
                "artefacts=[\"sr\"]".into(),
                "timeout_s=5".into(),
            ],
            "mllp" => vec![format!("address=\"{host}\""), "timeout_s=3".into()],
            "stow" => vec![
                format!("url=\"http://{host}/dicom-web\""),
                "artefacts=[\"sr\"]".into(),
                "timeout_s=3".into(),
            ],
            "fhir" => vec![format!("url=\"http://{host}/r4\""), "timeout_s=3".into()],
            _ => vec![
                format!("url=\"http://{host}/{name}\""),
                format!("secret_file=\"{}\"", secret.display()),
                "reports=true".into(),
                "timeout_s=3".into(),
            ],
        };
        self.set.extend(keys.into_iter().map(|key| format!("deliver.{kind}.{name}.{key}")));
    }

    /// One server for all, which is not there at first and then goes wrong by the address.
    fn mail(&mut self) {
        self.set.extend([
            "deliver.email.host=\"127.0.0.1\"".to_owned(),
            format!("deliver.email.port={}", self.mail_port),
            "deliver.email.mode=\"none\"".to_owned(),
            "deliver.email.from=\"prelim@hospital.example\"".to_owned(),
            "deliver.email.timeout_s=5".to_owned(),
        ]);
        for name in ["refused", "hang", "drop", "lost", "garbage", "451", "554"] {
            let to = format!("deliver.mailbox.{name}.to=[\"{name}@hospital.example\"]");
            self.set.push(to);
            self.expect("mailbox", name, Some("554").filter(|code| *code == name));
        }
    }

    /// Everything is there from now on.
    fn open(&mut self) {
        for front in &self.closed {
            front.opened.store(true, Ordering::Relaxed);
        }
        let mail = self.folder.join("mail");
        std::fs::create_dir_all(&mail).unwrap();
        let mut server = Command::new(python());
        server.arg(root().join("tests/peers/smtp_catcher.py")).args(["--by-address", "--port"]);
        server.arg(self.mail_port.to_string()).arg("--folder").arg(&mail);
        server.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        self._peers.push(Background(server.spawn().unwrap()));
        std::fs::remove_file(self.folder.join("share")).unwrap();
    }

    fn kept(&self, name: &str) -> Vec<Value> {
        let all = files(&self.folder.join(name)).into_iter();
        let kept = all.filter(|file| file.extension().is_some_and(|end| end == "json"));
        kept.map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect()
    }
}

/// Rows of the outbox by destination.
fn rows(node: &Node, uid: &str) -> BTreeMap<String, Value> {
    let shown = study(&node.data, uid).unwrap_or_default();
    let rows = shown["deliveries"].as_array().cloned().unwrap_or_default();
    rows.into_iter().map(|row| (row["destination"].as_str().unwrap().to_owned(), row)).collect()
}

#[test]
fn whatever_goes_wrong_at_a_destination_the_report_arrives_as_it_was_made_or_a_person_sees_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut around = Around::start(folder.path());
    let set: Vec<String> = around.set.clone();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let data = folder.path().join("data");
    let node = Node::start(&data, &set);
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    node.storescu(&[file]);
    let destinations = around.expected.len();
    assert_eq!(destinations, 5 * 7 + 7 + 1, "kinds, and what each meets");
    // Some are there, some hang, some wait for their next try.
    wait_for("the middle", || {
        let rows = rows(&node, &uid);
        let tried = rows.values().filter(|row| row["cause"] != "").count();
        (rows.len() == destinations && tried > 10).then_some(())
    });
    node.kill();
    let node = Node::start(&data, &set);
    wait_for("a try of each that is not there", || {
        let rows = rows(&node, &uid);
        let refused = |name: &String| {
            name.ends_with(".refused") || name.starts_with("mailbox") || name.starts_with("folder")
        };
        let all = rows.iter().filter(|(name, _)| refused(name)).all(|(_, row)| row["cause"] != "");
        (rows.len() == destinations && all).then_some(())
    });
    around.open();
    let mut last = BTreeMap::new();
    let deadline = std::time::Instant::now() + crate::node::PATIENCE;
    while std::time::Instant::now() < deadline {
        last = rows(&node, &uid);
        if last.values().all(|row| row["state"] == "done" || row["state"] == "dead") {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut wrong = Vec::new();
    for (destination, dead) in &around.expected {
        let row = &last[destination];
        let (state, cause) = (row["state"].as_str().unwrap(), row["cause"].as_str().unwrap());
        let right = match dead {
            None => state == "done" && row["attempts"].as_u64() >= Some(2),
            Some(words) => state == "dead" && cause.contains(words),
        };
        if !right {
            wrong.push(format!("{destination}: {row}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    as_made(&around, &data.join("results").join(&uid).join("1"));
    assert_eq!(node.terminate(), Some(0));
}

/// Nothing came in another content than was made, however often it came.
fn as_made(around: &Around, results: &Path) {
    let made = data_set(&results.join("sr.dcm"));
    let at = |name: &str| around.folder.join(name);
    for name in ["pacs", "pacs.busy"] {
        let kept: Vec<PathBuf> = files_below(&at(name));
        assert_eq!(kept.len(), 1, "one object: {kept:?}");
        assert!(data_set(&kept[0]) == made, "{name}");
    }
    assert!(files_below(&at("pacs.refuses")).is_empty());
    let kept = objects(&around.archive);
    assert_eq!(kept.len(), 1, "one object and no other version: {kept:?}");
    assert!(data_set(&kept[0]) == made, "stow");
    let copies = files_below(&at("share"));
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(std::fs::read(&copies[0]).unwrap() == std::fs::read(results.join("sr.dcm")).unwrap());

    let body = |message: &str| message.split_once('\r').unwrap().1.trim_end().to_owned();
    let made = body(&std::fs::read_to_string(results.join("report.hl7")).unwrap());
    for name in ["mllp", "mllp.busy"] {
        let all = files_below(&at(name)).into_iter();
        let all: Vec<PathBuf> =
            all.filter(|file| file.extension().is_some_and(|end| end == "hl7")).collect();
        assert!(!all.is_empty(), "{name}");
        for file in all {
            let message = std::fs::read_to_string(&file).unwrap();
            assert_eq!(body(&message), made, "{}", file.display());
        }
    }
    let state = &around.kept("fhir")[0];
    let kinds = state["resources"].as_object().unwrap();
    for (kind, resources) in kinds {
        for one in resources.as_object().unwrap().values() {
            assert_eq!(one["version"], 1, "{kind} was changed by a repeat");
        }
    }
    assert!(kinds.contains_key("DiagnosticReport"));

    let of = |name: &str, key: &str| {
        let file = results.join(format!("report.{name}.json"));
        let message: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        message[key].as_str().unwrap().to_owned()
    };
    let mut paths = BTreeSet::new();
    for request in around.kept("webhook") {
        let name = request["path"].as_str().unwrap().trim_start_matches('/').to_owned();
        let made: Value = serde_json::from_str(&of(&format!("webhook-{name}"), "json")).unwrap();
        assert_eq!(request["body"], made, "{name}");
        let id = format!("msg_{}", of(&format!("webhook-{name}"), "id"));
        assert_eq!(request["headers"]["webhook-id"], id, "{name}");
        paths.insert(name);
    }
    assert_eq!(paths.len(), 6, "{paths:?}");
    let mut told = BTreeSet::new();
    for mail in around.kept("mail") {
        let name = mail["to"][0].as_str().unwrap().split('@').next().unwrap().to_owned();
        let id = format!("<{}@hospital.example>", of(&format!("mailbox-{name}"), "id"));
        assert_eq!(mail["headers"]["message-id"], id, "{name}");
        let text = mail["parts"][0]["text"].as_str().unwrap().replace("\r\n", "\n");
        assert_eq!(text.trim_end(), of(&format!("mailbox-{name}"), "text").trim_end(), "{name}");
        told.insert(name);
    }
    assert_eq!(told.len(), 6, "{told:?}");
}
