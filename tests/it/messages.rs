//! Reports as HL7 messages, FHIR resources and by STOW-RS, through the whole program, with real peers.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::access::Certificates;
use crate::node::Background;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::way::POSITIVE;
use crate::way::files;

/// `tests/peers/mllp_peer.py` as one destination.
struct Receiver {
    _process: Background,
    folder: PathBuf,
    set: Vec<String>,
}

impl Receiver {
    fn start(folder: &Path, name: &str, answers: &str) -> Receiver {
        let (folder, port) = (folder.join(name), free_port());
        let process = Command::new(python())
            .arg(root().join("tests/peers/mllp_peer.py"))
            .args(["--port", &port.to_string(), "--answers", answers, "--folder"])
            .arg(&folder)
            .spawn()
            .unwrap();
        wait_until_listening(port);
        let set = vec![
            format!("deliver.mllp.{name}.address=\"127.0.0.1:{port}\""),
            format!("deliver.mllp.{name}.timeout_s=3"),
            format!("deliver.mllp.{name}.receiving_application=\"RIS\""),
        ];
        Receiver { _process: Background(process), folder, set }
    }

    fn messages(&self) -> Vec<PathBuf> {
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "hl7");
        files(&self.folder).into_iter().filter(is_whole).collect()
    }
}

fn field(message: &str, segment: &str, number: usize) -> String {
    let line = message.split('\r').find(|line| line.starts_with(segment)).unwrap();
    line.split('|').nth(number).unwrap_or_default().to_owned()
}

/// A RIS that takes it, one that is busy at first, one that cannot use it: each has its own fate, and
/// a revision comes under the same numbers, never before the one that it replaces.
#[test]
fn a_report_reaches_a_ris_once_for_each_revision() {
    let folder = tempfile::tempdir().unwrap();
    let good = Receiver::start(folder.path(), "good", "AA");
    let busy = Receiver::start(folder.path(), "busy", "AR,AA");
    let strict = Receiver::start(folder.path(), "strict", "AE");
    let set: Vec<&str> = [&good, &busy, &strict]
        .iter()
        .flat_map(|peer| peer.set.iter().map(String::as_str))
        .collect();
    let (first, second) = (folder.path().join("a.dcm"), folder.path().join("b.dcm"));
    let uid = chest_xray(POSITIVE, &first, &[]);
    let node = Node::start(&folder.path().join("data"), &set);
    node.storescu(std::slice::from_ref(&first));
    let whole = |peer: &Receiver, count: usize| {
        wait_for("messages", || (peer.messages().len() >= count).then(|| peer.messages()))
    };
    let came = whole(&good, 1);
    let one = std::fs::read_to_string(&came[0]).unwrap();
    assert_eq!(field(&one, "MSH", 4), "RIS");
    assert!(field(&one, "PID", 5).starts_with("Zyxwv^"), "{one}");
    assert!(field(&one, "OBR", 3).starts_with("AI1-"), "{one}");
    assert!(one.contains("|TX|19005-8^") && one.contains("|ED|18748-4^"), "{one}");

    // A refusal for good is a dead letter with its cause, a passing one is sent again.
    let dead = wait_for("a dead letter", || {
        let study = crate::node::study(&node.data, &uid)?;
        let all = study["deliveries"].as_array()?.clone();
        all.into_iter().find(|one| one["destination"] == "mllp.strict" && one["state"] == "dead")
    });
    assert!(dead.to_string().contains("AE no such patient here"), "{dead:#}");
    whole(&busy, 1);

    // A late image: the next revision, in the place of the first.
    chest_xray(POSITIVE, &second, &[&format!("StudyInstanceUID={uid}")]);
    node.storescu(&[second]);
    let came = whole(&good, 2);
    let two = std::fs::read_to_string(&came[1]).unwrap();
    assert_eq!(field(&one, "OBR", 3), field(&two, "OBR", 3));
    assert_ne!(field(&one, "MSH", 9), field(&two, "MSH", 9));
    // The try of the first that was put off does not come after the second.
    let taken = whole(&busy, 2);
    wait_for("the first, not sent any more", || {
        let study = crate::node::study(&node.data, &uid)?;
        let rows = study["deliveries"].as_array()?.clone();
        let of_first = |row: &&serde_json::Value| {
            row["destination"] == "mllp.busy" && row["revision"] == 1 && row["state"] == "done"
        };
        rows.iter().find(of_first)?["detail"].as_str()?.contains("revision 2").then_some(())
    });
    let id = |file: &PathBuf| field(&std::fs::read_to_string(file).unwrap(), "MSH", 9);
    assert_eq!((id(&taken[0]), id(&taken[1])), (field(&one, "MSH", 9), field(&two, "MSH", 9)));
    let mut check = Command::new(python());
    run(check.arg(root().join("tests/peers/check_hl7.py")).args(came).args(taken));
    assert_eq!((good.messages().len(), busy.messages().len()), (2, 2));
    assert_eq!(node.terminate(), Some(0));
}

/// `tests/peers/fhir_server.py` as one destination.
struct FhirServer {
    _process: Background,
    folder: PathBuf,
    url: String,
    set: Vec<String>,
}

impl FhirServer {
    fn start(folder: &Path, name: &str, more: &[&str]) -> FhirServer {
        let (folder, port) = (folder.join(name), free_port());
        let process = Command::new(python())
            .arg(root().join("tests/peers/fhir_server.py"))
            .args(["--port", &port.to_string(), "--folder"])
            .arg(&folder)
            .args(more)
            .spawn()
            .unwrap();
        wait_until_listening(port);
        let url = format!("http://127.0.0.1:{port}/r4");
        let set = vec![format!("deliver.fhir.{name}.url=\"{url}\"")];
        FhirServer { _process: Background(process), folder, url, set }
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.folder.join("state.json")).ok()?).ok()
    }
}

/// Resources of one kind, each with its version.
fn versions(state: &Value, kind: &str) -> Vec<u64> {
    let all = state["resources"][kind].as_object();
    let all = all.into_iter().flat_map(|all| all.values());
    all.map(|one| one["version"].as_u64().unwrap()).collect()
}

#[test]
fn a_fhir_server_has_one_report_however_often_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t0p-secret\n").unwrap();
    let main = FhirServer::start(folder.path(), "main", &["--token", "t0p-secret"]);
    let strict = FhirServer::start(folder.path(), "strict", &["--answers", "422"]);
    let proxy = FhirServer::start(folder.path(), "proxy", &["--answers", "html,200"]);
    let more = [
        format!("deliver.fhir.main.token_file=\"{}\"", token.display()),
        "deliver.fhir.main.patient=\"create\"".to_owned(),
        "deliver.identifiers.patient=\"urn:oid:1.2.3\"".to_owned(),
    ];
    let peers = [&main, &strict, &proxy];
    let set: Vec<&str> =
        peers.iter().flat_map(|peer| &peer.set).chain(&more).map(String::as_str).collect();
    let (first, second) = (folder.path().join("a.dcm"), folder.path().join("b.dcm"));
    let uid = chest_xray(POSITIVE, &first, &[]);
    let data = folder.path().join("data");
    let node = Node::start(&data, &set);
    node.storescu(std::slice::from_ref(&first));
    let state = wait_for("a bundle", || main.state());
    for kind in
        ["Patient", "Device", "ImagingStudy", "Observation", "DiagnosticReport", "Provenance"]
    {
        assert_eq!(versions(&state, kind), [1], "{kind} {state:#}");
    }
    let row = |destination: &str, revision: u32| {
        let study = crate::node::study(&data, &uid)?;
        let rows = study["deliveries"].as_array()?.clone();
        rows.into_iter().find(|r| r["destination"] == destination && r["revision"] == revision)
    };
    let done = wait_for("a delivery", || row("fhir.main", 1).filter(|row| row["state"] == "done"));
    assert_eq!(done["detail"], "HTTP 200 6 made, 0 there");
    let dead = wait_for("a refusal", || row("fhir.strict", 1).filter(|row| row["state"] == "dead"));
    let cause = dead["cause"].as_str().unwrap();
    assert!(cause.contains("HTTP 422 processing cannot use [removed]"), "{cause}");

    // The same bundle again changes nothing.
    let file = data.join("results").join(&uid).join("1/report.fhir-patient.json");
    assert!(file.exists(), "{}", file.display());
    let mut post = Command::new("curl");
    post.args(["-sf", "-H", "Authorization: Bearer t0p-secret", "--data-binary"]);
    run(post.arg(format!("@{}", file.display())).arg(&main.url));
    let again = main.state().unwrap();
    assert_eq!((&again["resources"], &again["bundles"]), (&state["resources"], &2.into()));

    // A revision is a new version of the report, and no second one.
    chest_xray(POSITIVE, &second, &[&format!("StudyInstanceUID={uid}")]);
    node.storescu(&[second]);
    let state = wait_for("the revision", || main.state().filter(|state| state["bundles"] == 3));
    assert_eq!(versions(&state, "DiagnosticReport"), [2]);
    assert_eq!(versions(&state, "Patient"), [1]);
    assert_eq!(versions(&state, "Provenance"), [1, 1]);
    // A page of a proxy is no word of a server: what was put off is not sent after the revision.
    let put_off =
        wait_for("the first", || row("fhir.proxy", 1).filter(|row| row["state"] == "done"));
    assert!(put_off["detail"].as_str().unwrap().contains("revision 2"), "{put_off:#}");
    wait_for("the revision behind it", || {
        proxy.state().filter(|state| versions(state, "DiagnosticReport") == [1])
    });
    assert_eq!(node.terminate(), Some(0));
}

/// Our own STOW-RS server, and Orthanc's where its DICOMweb plugin is.
#[test]
fn archives_get_objects_by_stow() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Node::start(&folder.path().join("archive"), &["dicom.calling_aes=[\"X\"]"]);
    let mut set = vec![
        format!("deliver.stow.own.url=\"http://{}/dicom-web\"", archive.http),
        "deliver.stow.own.artefacts=[\"sr\",\"pdf\"]".to_owned(),
    ];
    let (port, dicom) = (free_port(), free_port());
    let settings = folder.path().join("orthanc.json");
    let plugins = ["/usr/share/orthanc/plugins", "/usr/lib/orthanc"];
    std::fs::write(
        &settings,
        serde_json::json!({
            "HttpPort": port, "DicomPort": dicom, "AuthenticationEnabled": false,
            "StorageDirectory": folder.path().join("orthanc"), "Plugins": plugins,
            "IndexDirectory": folder.path().join("orthanc"), "DicomWeb": {"Enable": true},
        })
        .to_string(),
    )
    .unwrap();
    let orthanc =
        Command::new("Orthanc").arg(&settings).stderr(std::process::Stdio::null()).spawn();
    let _orthanc = Background(orthanc.unwrap());
    wait_until_listening(port);
    set.push(format!("deliver.stow.orthanc.url=\"http://127.0.0.1:{port}/dicom-web\""));
    set.push("deliver.stow.orthanc.artefacts=[\"sr\",\"pdf\"]".to_owned());
    set.push("deliver.stow.gone.url=\"http://127.0.0.1:9/dicom-web\"".to_owned());
    let file = folder.path().join("a.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &set);
    node.storescu(std::slice::from_ref(&file));
    let done = |destination: &str| {
        let study = crate::node::study(&node.data, &uid)?;
        let rows = study["deliveries"].as_array()?.clone();
        let own =
            rows.into_iter().filter(|r| r["destination"] == destination && r["state"] == "done");
        (own.count() == 2).then_some(())
    };
    wait_for("what our archive has", || done("stow.own"));
    wait_for("what Orthanc has", || done("stow.orthanc"));
    let shown = crate::node::study(&node.data, &uid).unwrap();
    let rows = shown["deliveries"].as_array().unwrap().iter();
    for row in rows.filter(|row| row["state"] == "done") {
        assert_eq!(row["detail"], "HTTP 200, found by QIDO-RS", "{row:#}");
    }
    let asked =
        run(Command::new("curl").args(["-sf", &format!("http://127.0.0.1:{port}/statistics")]));
    let statistics: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(statistics["CountInstances"], 2, "{statistics}");
    let kept = wait_for("the study there", || crate::node::study(&archive.data, &uid));
    assert_eq!(kept["instances"], 2, "{kept:#}");
    assert_eq!(node.terminate(), Some(0));
}

/// To another node of ours, which has no reading of the study: taken over TLS, mutual, and never
/// without or by one whom the certificate does not name.
#[test]
fn messages_go_and_come_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    let other = Node::start(
        &folder.path().join("other"),
        &[
            "hl7.tls.listen=127.0.0.1:0",
            &format!("hl7.tls.certificate_file={}", made.at("node.crt")),
            &format!("hl7.tls.key_file={}", made.at("node.key")),
            &format!("hl7.tls.client_ca_file={}", made.at("ca.crt")),
        ],
    );
    let file = std::fs::read(other.data.join("node.json")).unwrap();
    let port =
        serde_json::from_slice::<Value>(&file).unwrap()["hl7_tls"].as_str().unwrap().to_owned();
    let port = port.rsplit_once(':').unwrap().1.to_owned();
    let mut set = Vec::new();
    for (name, own) in [("good", true), ("nobody", false)] {
        let at = format!("deliver.mllp.{name}");
        set.push(format!("{at}.address=127.0.0.1:{port}"));
        set.push(format!("{at}.tls.ca_file={}", made.at("ca.crt")));
        if own {
            set.push(format!("{at}.tls.certificate_file={}", made.at("ct1.crt")));
            set.push(format!("{at}.tls.key_file={}", made.at("ct1.key")));
        }
    }
    set.push(format!("deliver.mllp.plain.address=127.0.0.1:{port}"));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let file = folder.path().join("a.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    let node = Node::start(&folder.path().join("data"), &set);
    node.storescu(&[file]);
    let row = |name: &str| {
        let study = crate::node::study(&node.data, &uid)?;
        let rows = study["deliveries"].as_array()?.clone();
        rows.into_iter().find(|row| row["destination"] == format!("mllp.{name}"))
    };
    let done = wait_for("the message there", || row("good").filter(|row| row["state"] == "done"));
    assert_eq!(done["detail"], "AA no reading of this study is here");
    for name in ["nobody", "plain"] {
        let tried = wait_for("a failed try", || row(name).filter(|row| row["cause"] != ""));
        assert_eq!(tried["state"], "queued", "{tried:#}");
    }
    assert_eq!(node.terminate(), Some(0));
    assert_eq!(other.terminate(), Some(0));
}
