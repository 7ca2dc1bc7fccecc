//! Orders: sent to us as HL7 messages, or asked for at a modality worklist; and final reports that
//! are sent as HL7 messages.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::node::Background;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::study;
use crate::node::wait_until_listening;
use crate::way::POSITIVE;
use crate::way::holding;

const LISTEN: &str = "hl7.listen=127.0.0.1:0";

fn listener(node: &Node) -> SocketAddr {
    let file = std::fs::read(node.data.join("node.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    file["hl7"].as_str().expect("it listens for HL7").parse().unwrap()
}

/// Bytes as they are; what comes back until the end of a frame or of the connection.
fn exchange(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(listener(node)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut came, mut piece) = (Vec::new(), [0; 4096]);
    while !came.contains(&0x1c) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => came.extend_from_slice(&piece[..bytes]),
        }
    }
    String::from_utf8(came).unwrap()
}

/// The MSA segment of the answer to a message.
fn say(node: &Node, message: &str) -> String {
    let answer = exchange(node, format!("\u{b}{}\u{1c}\r", message.replace('\n', "\r")).as_bytes());
    let msa = answer.split('\r').find(|line| line.starts_with("MSA"));
    msa.unwrap_or_else(|| panic!("no answer: {answer:?}")).to_owned()
}

fn omi(id: &str, accession: &str, patient: &str, reason: &str) -> String {
    format!(
        "MSH|^~\\&|RIS|HOSP|PRELIM|HOSP|20260302||OMI^O23^OMI_O23|{id}|P|2.5.1||||||UNICODE UTF-8\n\
         PID|1||{patient}^^^HOSP^MR||Zyxwv^Quentin||20210630|M\nPV1|1|E|ER^2\n\
         ORC|NW|PL-{id}|FI-{id}|||||||||9^Park^Jiwoo\nTQ1|1||||||||S\n\
         OBR|1|PL-{id}|FI-{id}|36643-5^XR Chest 2 Views^LN|||||||||||||||||||||||||||^{reason}\n\
         IPC|{accession}|RP-{id}|1.2.3.{id}|SPS\n"
    )
}

/// Text of a result file.
fn result(node: &Node, uid: &str, file: &str) -> String {
    let path = node.data.join("results").join(uid).join("1").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(node: &Node, folder: &Path, name: &str, what: &[&str]) -> String {
    let file = folder.join(format!("{name}.dcm"));
    let uid = chest_xray(POSITIVE, &file, what);
    node.storescu(&[file]);
    node.study_in(&uid, "delivered");
    uid
}

#[test]
fn an_order_gives_its_reason_and_numbers_to_the_report_and_never_to_another_patient() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[LISTEN]);
    assert_eq!(say(&node, &omi("1", "ACC-774411", "PID-998877", "발열 \\T\\ cough")), "MSA|AA|1");
    assert_eq!(say(&node, &omi("2", "ACC-2", "SOMEBODY", "fracture?")), "MSA|AA|2");
    // What was acknowledged survives.
    node.kill();
    let node = Node::start(&data, &[LISTEN]);
    let uid = read(&node, folder.path(), "ordered", &[]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("발열 & cough") && text.contains("Park, Jiwoo"), "{text}");
    let oru = result(&node, &uid, "report.hl7");
    for part in ["ORC|RE|PL-1|AI1-ACC-774411|", "PV1|1|E|ER 2", "|^발열 \\T\\ cough"] {
        assert!(oru.contains(part), "{part} is not in {oru}");
    }
    assert!(result(&node, &uid, "report.fhir.json").contains(r#""value":"PL-1""#));
    let sr = data.join("results").join(&uid).join("1/sr.dcm");
    let dump = run(Command::new("dcmdump").args(["+P", "0040,2016", "+P", "0040,1001"]).arg(sr));
    assert!(said(&dump).contains("PL-1") && said(&dump).contains("RP-1"), "{}", said(&dump));

    // The same number, another patient: a warning, and nothing of the order.
    let uid = read(&node, folder.path(), "other", &["AccessionNumber=ACC-2"]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("names another patient") && !text.contains("fracture"), "{text}");
    assert!(!result(&node, &uid, "report.hl7").contains("PL-2"));
    // By its UID where the images have no number; and none at all.
    let by_uid = ["AccessionNumber=", "StudyInstanceUID=1.2.3.4"];
    assert_eq!(say(&node, &omi("4", "ACC-4", "PID-998877", "fall")), "MSA|AA|4");
    let uid = read(&node, folder.path(), "by-uid", &by_uid);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("fall") && text.contains("ACC-4"), "{text}");
    let uid = read(&node, folder.path(), "none", &["AccessionNumber=ACC-9"]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("No order was found for this study."), "{text}");
    assert_eq!(node.terminate(), Some(0));

    // Who the orders are of stands in their files alone.
    let mut found = Vec::new();
    for part in ["ledger", "state"] {
        holding(&data.join(part), &["Zyxwv", "PID-998877", "SOMEBODY", "ACC-774411"], &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
    let log = std::fs::read_to_string(data.join("log.txt")).unwrap();
    assert!(!log.contains("SOMEBODY") && !log.contains("Zyxwv") && !log.contains("ACC-2"), "{log}");
}

#[test]
fn what_cannot_be_taken_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let set = [LISTEN, "hl7.message_bytes_max=70000"];
    let node = Node::start(&folder.path().join("data"), &set);
    let good = omi("1", "A", "P", "x");
    for (from, to, answer) in [
        ("P^^^HOSP^MR", "", "MSA|AE|1|PID-3 holds no patient identifier"),
        (
            "OMI^O23^OMI_O23",
            "ADT^A08",
            "MSA|AR|1|ORM\\S\\O01, OMI\\S\\O23, OMG\\S\\O19 and ORU\\S\\R01 are taken",
        ),
        ("|1|P|2.5.1", "|1|T|2.5.1", "MSA|AR|1|only messages of production"),
        ("|1|P|2.5.1", "||P|2.5.1", "MSA|AE||MSH-10 is missing"),
        ("MSH|", "XXX|", "MSA|AR||this is no HL7 v2 message"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let said = say(&node, &bad);
        assert!(said.starts_with(answer), "{said} for {to}");
    }
    // Too long, no frame, cut: the next one is taken all the same.
    let long = format!("\u{b}{}{}", good, "x".repeat(80_000));
    assert!(
        exchange(&node, long.as_bytes()).contains("MSA|AR||a message has more than 70000 bytes")
    );
    assert_eq!(exchange(&node, b"GET / HTTP/1.1\r\n\r\n"), "");
    let mut cut = TcpStream::connect(listener(&node)).unwrap();
    cut.write_all(b"\x0bMSH|^~\\&|").unwrap();
    drop(cut);
    // Two on one connection, both answered, and an answer that others can read.
    let two = good.replace('\n', "\r");
    let both = format!("\u{b}{two}\u{1c}\r\u{b}{two}\u{1c}\r");
    assert!(exchange(&node, both.as_bytes()).contains("MSA|AA|1"));
    let answer = exchange(&node, format!("\u{b}{two}\u{1c}\r").as_bytes());
    let script = "import sys; from hl7apy.parser import parse_message as p; \
                  m = p(sys.argv[1], validation_level=1); m.validate(); print(m.msa.msa_1.value)";
    let checked = run(Command::new(python()).args([
        "-c",
        script,
        answer.trim_matches(['\u{b}', '\u{1c}', '\r']),
    ]));
    assert!(said(&checked).contains("AA"), "{}", said(&checked));
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn a_final_report_that_is_sent_is_compared_with_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[LISTEN]);
    let uid = read(&node, folder.path(), "child", &[]);
    let oru = |id: &str, accession: &str, patient: &str, status: &str| {
        format!(
            "MSH|^~\\&|RIS|HOSP|||2026||ORU^R01^ORU_R01|{id}|P|2.5.1\n\
             PID|1||{patient}^^^HOSP^MR||Zyxwv^Quentin||20210630|M\n\
             OBR|1|P|F|36643-5^XR Chest^LN||||||||||||||{accession}|||||||{status}\n\
             OBX|1|TX|19005-8^Impression^LN||No pneumonia. The lungs are clear.||||||{status}\n"
        )
    };
    assert_eq!(
        say(&node, &oru("A", "ACC-0", "PID-998877", "F")),
        "MSA|AA|A|no reading of this study is here"
    );
    assert!(
        say(&node, &oru("B", "ACC-774411", "PID-998877", "P"))
            .contains("MSA|AA|B|this is no final")
    );
    assert_eq!(say(&node, &oru("C", "ACC-774411", "PID-998877", "F")), "MSA|AA|C");
    assert_eq!(say(&node, &oru("C", "ACC-774411", "PID-998877", "F")), "MSA|AA|C", "sent again");
    let mut foreign = oru("D", "ACC-774411", "SOMEBODY", "F");
    foreign.push_str(&format!("ZDS|{uid}^PACS\n"));
    assert!(say(&node, &foreign).starts_with("MSA|AE|D|the message names another patient"));
    let shown = study(&node.data, &uid).unwrap();
    let all = shown["comparisons"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!((&all[0]["kind"], &all[0]["id"]), (&"hl7".into(), &"C".into()), "{all:#?}");
    let finding = &all[0]["findings"][0];
    assert_eq!((&finding["key"], &finding["truth"]), (&"pneumonia".into(), &false.into()));
    assert_eq!(node.terminate(), Some(0));
}

/// DCMTK's worklist server, with items by accession number, by UID and for a patient alone.
#[test]
fn a_worklist_gives_the_order_and_its_absence_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let (items, port) = (folder.path().join("wl/RIS"), free_port());
    std::fs::create_dir_all(&items).unwrap();
    std::fs::write(items.join("lockfile"), "").unwrap();
    let item = |name: &str, what: &[&str]| {
        let script = root().join("tests/peers/make_worklist.py");
        run(Command::new(python()).arg(script).arg(items.join(format!("{name}.wl"))).args(what));
    };
    item("acc", &[]);
    item("foreign", &["AccessionNumber=ACC-2", "PatientID=SOMEBODY"]);
    item("ct", &["AccessionNumber=X1", "PatientID=PID-3", "Modality=CT"]);
    item("cr", &["AccessionNumber=X2", "PatientID=PID-3", "ReasonForTheRequestedProcedure=tube?"]);
    let server = Command::new("wlmscpfs")
        .args(["-csk", "-dfr", "-dfp"])
        .arg(folder.path().join("wl"))
        .arg(port.to_string())
        .stderr(Stdio::null())
        .spawn();
    let server = Background(server.unwrap());
    wait_until_listening(port);
    let archive = format!("orders.worklist.archive=RIS@127.0.0.1:{port}");
    let node = Node::start(&folder.path().join("data"), &[&archive]);
    let uid = read(&node, folder.path(), "a", &[]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("기침, seit Montag") && text.contains("Park, Jiwoo"), "{text}");
    let oru = result(&node, &uid, "report.hl7");
    assert!(oru.contains("ORC|RE|PL-77|AI1-ACC-774411|"), "{oru}");
    let uid = read(&node, folder.path(), "b", &["AccessionNumber=ACC-2"]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("names another patient") && !text.contains("기침"), "{text}");
    let alone = ["AccessionNumber=", "PatientID=PID-3", "Modality=CR"];
    let uid = read(&node, folder.path(), "c", &alone);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("tube?") && text.contains("X2"), "{text}");
    drop(server);
    let uid = read(&node, folder.path(), "d", &["AccessionNumber=ACC-8"]);
    let text = result(&node, &uid, "report.txt");
    assert!(text.contains("worklist could not be asked"), "{text}");
    assert_eq!(node.terminate(), Some(0));
}
