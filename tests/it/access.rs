//! Who may associate, and what is agreed on: the whole program against real requestors.

use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::run;
use crate::node::said;

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn storescu(node: &Node, options: &[&str]) -> Output {
    let port = node.dicom.port().to_string();
    let mut storescu = Command::new("storescu");
    storescu.args(["-v", "-aec", "PRELIM"]).args(options).args(["127.0.0.1", &port]);
    output(storescu.arg(pydicom_file("CT_small.dcm")))
}

fn script(node: &Node, text: &str) {
    let port = node.dicom.port().to_string();
    run(Command::new(python()).args(["-c", text, &port]).arg(pydicom_file("CT_small.dcm")));
}

const NEGOTIATION: &str = "
import sys, pydicom
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import *
from pydicom.uid import *
port, path = int(sys.argv[1]), sys.argv[2]
CT, MR = '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.5.1.4.1.1.4'
ae = AE(ae_title='NEGOTIATOR')
# Several contexts of one SOP class, each with its own answer.
ae.add_requested_context(CT, ImplicitVRLittleEndian)
ae.add_requested_context(CT, [ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless])
ae.add_requested_context(CT, '1.2.3.4')
ae.add_requested_context(MR)
ae.add_requested_context('1.2.826.0.1.3680043.9.1')
window = AsynchronousOperationsWindowNegotiation()
window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 5
extended = SOPClassExtendedNegotiation()
extended.sop_class_uid, extended.service_class_application_information = CT, b'\\x02\\x00\\x00\\x00\\x01\\x00'
common = SOPClassCommonExtendedNegotiation()
common.sop_class_uid, common.service_class_uid = CT, '1.2.840.10008.4.2'
items = [build_role(CT, scu_role=True, scp_role=True), build_role(MR, scp_role=True), window, extended, common]
a = ae.associate('127.0.0.1', port, ae_title='PRELIM', ext_neg=items)
assert a.is_established
assert [(c.context_id, c.transfer_syntax[0]) for c in a.accepted_contexts] == [
    (1, ImplicitVRLittleEndian), (3, JPEGLSLossless)], a.accepted_contexts
assert [(c.context_id, c.result) for c in a.rejected_contexts] == [(5, 4), (7, 1), (9, 3)], a.rejected_contexts
assert all(c.as_scu and not c.as_scp for c in a.accepted_contexts)
acceptor = a.acceptor
assert acceptor.asynchronous_operations == (1, 1)
assert acceptor.sop_class_extended == {CT: b'\\x02\\x00\\x03\\x00\\x00\\x00'}, acceptor.sop_class_extended
assert acceptor.sop_class_common_extended == {}
roles = {uid: (role.scu_role, role.scp_role) for uid, role in acceptor.role_selection.items()}
assert roles == {CT: (True, False), MR: (False, False)}, roles
assert acceptor.maximum_length == 131072
a.release()
# Every storage class that pynetdicom knows, in a requestor of its own.
from pynetdicom import StoragePresentationContexts
ae = AE(ae_title='ALL')
ae.requested_contexts = StoragePresentationContexts[:128]
a = ae.associate('127.0.0.1', port, ae_title='PRELIM')
print([(c.context_id, c.abstract_syntax, c.result) for c in a.rejected_contexts])
assert len(a.accepted_contexts) == len(ae.requested_contexts) >= 120
a.release()
";

#[test]
fn what_is_negotiated_is_answered_as_the_standard_says() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    script(&node, NEGOTIATION);
}

const PRIVATE: &str = "
import sys, pydicom
from pynetdicom import AE
port, path = int(sys.argv[1]), sys.argv[2]
ae = AE(ae_title='PRIVATE')
ae.add_requested_context('1.2.826.0.1.3680043.9.1')
ae.add_requested_context('1.2.840.10008.5.1.4.1.2.2.1')
a = ae.associate('127.0.0.1', port, ae_title='PRELIM')
assert [c.abstract_syntax for c in a.accepted_contexts] == ['1.2.826.0.1.3680043.9.1']
ds = pydicom.dcmread(path)
ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = '1.2.826.0.1.3680043.9.1'
assert a.send_c_store(ds).Status == 0
a.release()
";

/// P72, switched on: kept, and a state that says that nobody reads it.
#[test]
fn an_instance_of_a_private_class_is_kept_where_that_is_switched_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["dicom.unknown_sop_classes=true"]);
    script(&node, PRIVATE);
    let uid = pydicom_study();
    let study = crate::node::wait_for("the end of its way", || {
        let mut command = Command::new(PRELIM);
        let found = output(command.args(["study", &uid, "--json", "--data"]).arg(&node.data));
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        text.contains("\"outcome\": \"").then_some(text)
    });
    assert!(study.contains("\"outcome\": \"not_covered\""), "{study}");
}

/// Study Instance UID of CT_small.dcm.
fn pydicom_study() -> String {
    let print = "import sys, pydicom; print(pydicom.dcmread(sys.argv[1]).StudyInstanceUID)";
    let read = run(Command::new(python()).args(["-c", print]).arg(pydicom_file("CT_small.dcm")));
    String::from_utf8_lossy(&read.stdout).trim().to_owned()
}

const IDENTITIES: &str = "
import sys
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
port, path = int(sys.argv[1]), sys.argv[2]
ae = AE(ae_title='IDENTITY')
ae.add_requested_context('1.2.840.10008.1.1')
def ask(kind, primary, secondary=b'', answer=True):
    identity = UserIdentityNegotiation()
    identity.user_identity_type = kind
    identity.positive_response_requested = answer
    identity.primary_field = primary
    if kind == 2:
        identity.secondary_field = secondary
    a = ae.associate('127.0.0.1', port, ae_title='PRELIM', ext_neg=[identity])
    if a.is_established:
        said = a.acceptor.user_identity
        assert (said is not None) == answer
        assert a.send_c_echo().Status == 0
        a.release()
        return True
    # Now and then pynetdicom calls an association aborted whose rejection it has read.
    rejection = a.acceptor.primitive
    if a.is_rejected:
        found = (rejection.result, rejection.result_source, rejection.diagnostic)
        assert found == (1, 1, 1), found
    return False
assert ask(1, b'open') and ask(1, b'open', answer=False)
assert ask(2, b'ct', b'right')
assert not ask(1, b'ct'), 'a name without its passcode'
assert not ask(2, b'ct', b'wrong')
assert not ask(2, b'nobody', b'right')
for kind in (3, 4, 5):
    assert not ask(kind, b'ticket'), kind
";

/// User identity, types 1 to 5, by two toolkits.
#[test]
fn users_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let mut hash = Command::new(PRELIM);
    hash.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hash = hash.spawn().unwrap();
    std::io::Write::write_all(&mut hash.stdin.take().unwrap(), b"right\n").unwrap();
    let hash = hash.wait_with_output().unwrap();
    let hash = String::from_utf8_lossy(&hash.stdout).trim().to_owned();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let ct = format!("dicom.users.ct.password_hash=\"{hash}\"");
    let settings = [&ct[..], "dicom.users.open={}", "dicom.user_identity_required=true"];
    let node = Node::start(folder.path(), &settings);
    script(&node, IDENTITIES);
    let good = storescu(&node, &["-usr", "ct", "-pwd", "right", "-rsp"]);
    assert!(good.status.success(), "{}", said(&good));
    assert!(storescu(&node, &["-usr", "open", "-rsp"]).status.success());
    for bad in [&["-usr", "ct", "-pwd", "wrong"][..], &["-usr", "ct"], &[]] {
        let refused = storescu(&node, bad);
        assert!(!refused.status.success(), "{bad:?}");
        assert!(said(&refused).contains("No Reason"), "{bad:?} {}", said(&refused));
    }
    // The passcode, its hash, and a wrong name stand nowhere.
    let log = std::fs::read_to_string(node.data.join("log.txt")).unwrap();
    assert!(!log.contains("argon2") && !log.contains("nobody"), "{log}");
    assert!(log.contains("user identity"), "{log}");
}

/// Certificates by the openssl command line, as a hospital makes them.
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    pub fn new() -> Certificates {
        let made = Certificates(tempfile::tempdir().unwrap());
        let ca = ["-x509", "-subj", "/O=Hospital/CN=Root", "-out", "ca.crt", "-keyout", "ca.key"];
        made.openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-days", "100"], &ca);
        made.sign("node", "DNS:localhost,IP:127.0.0.1", 90);
        made.sign("ct1", "DNS:ct1.example", 90);
        made
    }

    pub fn sign(&self, name: &str, names: &str, days: u32) {
        let (key, csr, crt) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let subject = format!("/O=Hospital/CN={name}");
        let new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject];
        self.openssl(&new, &["-keyout", &key, "-out", &csr]);
        let extension = format!("{name}.ext");
        let lines = format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.0.path().join(&extension), lines).unwrap();
        let days = days.to_string();
        let sign = ["x509", "-req", "-in", &csr, "-CA", "ca.crt", "-CAkey", "ca.key"];
        let rest = ["-CAcreateserial", "-days", &days, "-extfile", &extension, "-out", &crt];
        self.openssl(&sign, &rest);
    }

    fn openssl(&self, first: &[&str], rest: &[&str]) {
        run(Command::new("openssl").current_dir(self.0.path()).args(first).args(rest));
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn settings(&self) -> Vec<String> {
        vec![
            "dicom.tls.listen=127.0.0.1:0".to_owned(),
            format!("dicom.tls.certificate_file={}", self.at("node.crt")),
            format!("dicom.tls.key_file={}", self.at("node.key")),
            format!("dicom.tls.client_ca_file={}", self.at("ca.crt")),
            "dicom.tls.reload_s=1".to_owned(),
        ]
    }

    fn start(&self, folder: &std::path::Path, more: &[&str]) -> (Node, String) {
        let settings = self.settings();
        let all: Vec<&str> =
            settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let node = Node::start(folder, &all);
        let file = std::fs::read(node.data.join("node.json")).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let address = file["dicom_tls"].as_str().unwrap().to_owned();
        (node, address)
    }

    /// DCMTK with the certificate of `name`.
    fn dcmtk(&self, program: &str, address: &str, name: &str) -> Command {
        let port = address.rsplit(':').next().unwrap();
        let mut command = Command::new(program);
        command.args(["-to", "10", "-aec", "PRELIM", "+tls"]);
        command.args([self.at(&format!("{name}.key")), self.at(&format!("{name}.crt"))]);
        command.args(["+cf", &self.at("ca.crt"), "127.0.0.1", port]);
        command
    }
}

const OVER_TLS: &str = "
import ssl, sys, pydicom
from pynetdicom import AE
port, path, ca, cert, key, version = int(sys.argv[1]), *sys.argv[2:7]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
if version == '1.2':
    context.maximum_version = ssl.TLSVersion.TLSv1_2
ae = AE(ae_title='PYTHON')
ds = pydicom.dcmread(path)
ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
a = ae.associate('127.0.0.1', port, ae_title='PRELIM', tls_args=(context, 'localhost'))
assert a.is_established
assert a.send_c_store(ds).Status == 0
a.release()
";

/// DCMTK, pynetdicom and our own sender over TLS; without a certificate, or with one of another
/// root, nothing. Certificates are replaced while it runs.
#[test]
fn tls_is_mutual_and_certificates_are_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    let (node, tls) = made.start(folder.path(), &[]);
    let file = pydicom_file("CT_small.dcm");
    let port = tls.rsplit(':').next().unwrap();
    run(&mut made.dcmtk("echoscu", &tls, "ct1"));
    run(made.dcmtk("storescu", &tls, "ct1").arg(&file));
    for version in ["1.2", "1.3"] {
        let mut python = Command::new(python());
        python.args(["-c", OVER_TLS, port]).arg(&file);
        run(python.args([made.at("ca.crt"), made.at("ct1.crt"), made.at("ct1.key")]).arg(version));
    }
    let send = |own: &[&str]| {
        let mut send = Command::new(PRELIM);
        send.args(["send", &format!("PRELIM@localhost:{port}"), "--echo", "--tls", "--ca"]);
        output(send.arg(made.at("ca.crt")).args(own))
    };
    let (cert, key) = (made.at("ct1.crt"), made.at("ct1.key"));
    let sent = send(&["--cert", &cert, "--key", &key]);
    assert!(sent.status.success(), "{}", said(&sent));
    assert_eq!(send(&[]).status.code(), Some(2), "no certificate");
    let other = Certificates::new();
    std::fs::copy(made.at("ca.crt"), other.at("ca.crt")).unwrap();
    assert!(!output(&mut other.dcmtk("echoscu", &tls, "ct1")).status.success());
    // Plain DICOM on the port with TLS, TLS on the plain one, and silence: each its own end.
    let plain = ["-to", "5", "-aec", "PRELIM", "127.0.0.1", port];
    assert!(!output(Command::new("echoscu").args(plain)).status.success());
    let silent: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(&tls).unwrap()).collect();
    run(&mut made.dcmtk("echoscu", &tls, "ct1"));
    drop(silent);

    let check = |peer: &[&str], own: bool| {
        let mut check = Command::new(PRELIM);
        check.args(["tls-check", "--json"]).args(peer);
        if own {
            for one in made.settings() {
                check.args(["--set", &one]);
            }
        }
        output(&mut check)
    };
    let own = check(&[], true);
    assert!(own.status.success(), "{}", said(&own));
    let peer = format!("PRELIM@localhost:{port}");
    let good = check(&[&peer, "--ca", &made.at("ca.crt"), "--cert", &cert, "--key", &key], false);
    assert!(good.status.success(), "{}", said(&good));
    assert!(said(&good).contains("TLS 1.3") && said(&good).contains("C-ECHO"), "{}", said(&good));
    let none = check(&[&peer, "--ca", &made.at("ca.crt")], false);
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    assert!(said(&none).contains("--cert"), "{}", said(&none));
    let wrong_name = check(
        &[
            &peer,
            "--ca",
            &made.at("ca.crt"),
            "--cert",
            &cert,
            "--key",
            &key,
            "--server-name",
            "pacs.example",
        ],
        false,
    );
    assert!(said(&wrong_name).contains("not valid for name"), "{}", said(&wrong_name));

    // A new certificate; then one that cannot be used.
    let log = || std::fs::read_to_string(node.data.join("log.txt")).unwrap();
    made.sign("node", "DNS:localhost,DNS:renewed.example,IP:127.0.0.1", 80);
    crate::node::wait_for("the new certificate", || {
        let seen =
            check(&[&peer, "--ca", &made.at("ca.crt"), "--cert", &cert, "--key", &key], false);
        said(&seen).contains("renewed.example").then_some(())
    });
    std::fs::write(made.at("node.crt"), "nonsense").unwrap();
    crate::node::wait_for("a word on the bad one", || {
        log().contains("the new TLS certificate cannot be used").then_some(())
    });
    run(&mut made.dcmtk("echoscu", &tls, "ct1"));
    let own = check(&[], true);
    assert_eq!(own.status.code(), Some(1), "{}", said(&own));
    assert!(log().contains("CN=ct1"), "the subject of the peer's certificate is in the log");
}

/// The plain port can be off.
#[test]
fn tls_can_be_the_only_port() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    let mut settings = made.settings();
    settings.push("dicom.listen=\"\"".to_owned());
    let mut serve = Command::new(PRELIM);
    serve.args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(folder.path());
    for one in &settings {
        serve.args(["--set", one]);
    }
    let log = std::fs::File::create(folder.path().join("log.txt")).unwrap();
    let serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _node = crate::node::Background(serve.spawn().unwrap());
    let address = crate::node::wait_for("the port", || {
        let file = std::fs::read(folder.path().join("node.json")).ok()?;
        let file: serde_json::Value = serde_json::from_slice(&file).ok()?;
        assert!(file["dicom"].is_null());
        Some(file["dicom_tls"].as_str()?.to_owned())
    });
    run(&mut made.dcmtk("echoscu", &address, "ct1"));
}

/// What `prelim sources --json` and `prelim peers --json` say.
fn json(node: &Node, command: &[&str]) -> serde_json::Value {
    let said = run(Command::new(PRELIM).args(command).args(["--json", "--data"]).arg(&node.data));
    serde_json::from_slice(&said.stdout).unwrap()
}

fn peers(node: &Node, arguments: &[&str]) {
    run(Command::new(PRELIM).arg("peers").args(arguments).arg("--data").arg(&node.data));
}

/// Closed but to peers; who was refused is listed over a restart, and one command or one button lets
/// it in without one. The ledger has who did it.
#[test]
fn a_refused_caller_is_listed_and_let_in_by_one_command_or_button() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "dicom.loopback_trusted=false",
        "dicom.peers.pacs={ae_title=\"PACS\", addresses=[\"10.9.9.9\"]}",
    ];
    let node = Node::start(folder.path(), &settings);
    let scanner = ["-aet", "SCANNER"];
    let refused = storescu(&node, &scanner);
    assert!(said(&refused).contains("Calling AE Title Not Recognized"), "{}", said(&refused));
    assert!(!storescu(&node, &["-aet", "PACS"]).status.success(), "the title from elsewhere");
    assert!(node.terminate() == Some(0));
    let node = Node::start(folder.path(), &settings);
    let list = json(&node, &["peers"]);
    let callers: Vec<(&str, &str)> = list["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|caller| (caller["calling_ae"].as_str().unwrap(), caller["address"].as_str().unwrap()))
        .collect();
    assert_eq!(callers, [("PACS", "127.0.0.1"), ("SCANNER", "127.0.0.1")]);
    assert_eq!(list["refused"][1]["rejections"]["not a configured peer"], 1);
    assert_eq!(list["refused"][0]["rejections"]["address is not that of the peer"], 1);

    peers(&node, &["add", "SCANNER@127.0.0.1"]);
    crate::node::wait_for("the peer", || storescu(&node, &scanner).status.success().then_some(()));
    let sources = json(&node, &["sources"]);
    let source = sources.as_array().unwrap().iter().find(|s| s["calling_ae"] == "SCANNER").unwrap();
    assert_eq!((&source["peer"], &source["stored"]), (&"scanner".into(), &1.into()));
    assert_eq!(
        source["implementation"].as_str().unwrap().split(' ').nth(1),
        Some("OFFIS_DCMTK_367")
    );
    let page = run(Command::new("curl").args(["-s", &format!("http://{}/sources", node.http)]));
    let page = said(&page);
    let command = "prelim peers add PACS@127.0.0.1";
    let reason = "address is not that of the peer × 1";
    for word in ["SCANNER", "1 of 1", "1 in an hour", "OFFIS_DCMTK_367", reason, command] {
        assert!(page.contains(word), "no {word} in\n{page}");
    }
    let metrics = run(Command::new("curl").args(["-s", &format!("http://{}/metrics", node.http)]));
    assert!(said(&metrics).contains("prelim_instances_offered_total 1"), "{}", said(&metrics));

    // By the page, and only who was refused. A peer of the settings is called so, from elsewhere.
    let let_in = |who: &str| {
        let url = format!("http://{}/sources/let-in", node.http);
        let form = format!("who={who}");
        let code = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-urlencode", &form, &url];
        String::from_utf8(run(Command::new("curl").args(code)).stdout).unwrap()
    };
    assert_eq!(let_in("PACS@10.0.0.9"), "409");
    assert_eq!(let_in("*@127.0.0.1"), "409");
    assert!(!storescu(&node, &["-aet", "PACS"]).status.success());
    assert_eq!(let_in("PACS@127.0.0.1"), "303");
    let page = run(Command::new("curl").args(["-s", &format!("http://{}/sources", node.http)]));
    assert!(said(&page).contains("may send now"), "{}", said(&page));
    assert!(storescu(&node, &["-aet", "PACS"]).status.success());
    let noted = |what: &str| {
        crate::node::wait_for(what, || {
            let rows = json(&node, &["audit", "list"])["rows"].clone();
            let is = |row: &serde_json::Value| row["what"].as_str().is_some_and(|w| w == what);
            rows.as_array().unwrap().iter().find(|row| is(row)).cloned()
        })
    };
    let button = noted("changed peers: PACS@127.0.0.1 let in as pacs");
    assert!(button["by"].as_str().unwrap().contains("127.0.0.1"), "{button}");
    noted("changed peer pacs_2: PACS from 127.0.0.1 may send");
    noted("changed peer scanner: SCANNER from 127.0.0.1 may send");

    peers(&node, &["remove", "scanner"]);
    noted("changed peer scanner: SCANNER from 127.0.0.1 may not send any more");
    crate::node::wait_for("it is out", || {
        (!storescu(&node, &scanner).status.success()).then_some(())
    });
}

/// Without peers a node that others can call takes nothing but from this machine.
#[test]
fn a_node_without_peers_is_closed_to_others() {
    let Some(outside) = own_address() else {
        eprintln!("this machine has no address but loopback");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = crate::node::free_port();
    let mut serve = Command::new(PRELIM);
    serve.args(["serve", "--dicom", &format!("0.0.0.0:{port}"), "--http", "127.0.0.1:0", "--data"]);
    let log = std::fs::File::create(folder.path().join("open.txt")).unwrap();
    let serve = serve.arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _node = crate::node::Background(serve.spawn().unwrap());
    crate::node::wait_until_listening(port);
    let port = port.to_string();
    let echo = |host: &str| {
        output(Command::new("echoscu").args(["-to", "10", "-aec", "PRELIM", host, &port]))
    };
    assert!(echo("127.0.0.1").status.success());
    let refused = echo(&outside);
    assert!(said(&refused).contains("Calling AE Title Not Recognized"), "{}", said(&refused));
    let log = std::fs::read_to_string(folder.path().join("open.txt")).unwrap();
    assert!(log.contains("no peer is configured"), "{log}");
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

const LIMITS: &str = "
import sys, time, pydicom
from pynetdicom import AE
port, path = int(sys.argv[1]), sys.argv[2]
ds = pydicom.dcmread(path)
def ask(title):
    ae = AE(ae_title=title)
    ae.add_requested_context(ds.SOPClassUID, ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1'])
    return ae.associate('127.0.0.1', port, ae_title='PRELIM')
def reason(title):
    # Now and then pynetdicom calls an association aborted whose rejection it has read.
    for _ in range(20):
        a = ask(title)
        assert not a.is_established
        if a.is_rejected:
            said = a.acceptor.primitive
            return said.result, said.result_source, said.diagnostic
# Two at a time.
first, second = ask('FEW'), ask('FEW')
assert first.is_established and second.is_established
assert reason('FEW') == (2, 3, 2)
first.release()
third = ask('FEW')
assert third.is_established
second.release()
third.release()
# Three a minute.
for _ in range(3):
    ask('SELDOM').release()
assert reason('SELDOM') == (2, 3, 1)
# 40 kB a second: what comes at once is slowed down, and all of it is taken.
a = ask('SLOW')
assert a.accepted_contexts[0].transfer_syntax == ['1.2.840.10008.1.2'], 'its own preference'
begun = time.time()
for _ in range(4):
    assert a.send_c_store(ds).Status == 0
took = time.time() - begun
a.release()
assert 2 < took < 10, took
a = ask('OTHER')
begun = time.time()
for _ in range(4):
    assert a.send_c_store(ds).Status == 0
assert time.time() - begun < 2
a.release()
";

#[test]
fn each_peer_has_its_own_limits() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(
        folder.path(),
        &[
            "dicom.peers.few={ae_title=\"FEW\", associations_max=2}",
            "dicom.peers.seldom={ae_title=\"SELDOM\", associations_per_minute_max=3}",
            "dicom.peers.slow={ae_title=\"SLOW\", bytes_per_second_max=40000, transfer_syntaxes=[\"1.2.840.10008.1.2\"]}",
        ],
    );
    script(&node, LIMITS);
}
