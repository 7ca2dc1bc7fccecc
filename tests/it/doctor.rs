//! `prelim doctor` beside a node that works, and before what cannot work.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::way::Peers;

/// Exit code and checks.
fn doctor(data: &Path, set: &[String]) -> (i32, Vec<Value>) {
    let mut doctor = Command::new(PRELIM);
    doctor.args(["doctor", "--json", "--timeout", "5", "--data"]).arg(data);
    set.iter().for_each(|one| {
        doctor.args(["--set", one]);
    });
    let output = doctor.output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["ok"], output.status.success());
    (output.status.code().unwrap(), found["checks"].as_array().unwrap().clone())
}

fn check<'a>(checks: &'a [Value], what: &str) -> &'a Value {
    let found = checks.iter().find(|check| check["what"] == what);
    found.unwrap_or_else(|| panic!("no check of {what} in {checks:#?}"))
}

#[test]
fn a_node_that_works_with_its_peers_has_nothing_broken() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let gateway = Gateway::start(folder.path(), "read");
    let mut set = [peers.set.clone(), gateway.set.clone()].concat();
    set.push(format!("deliver.folder.out.path=\"{}\"", folder.path().join("out").display()));
    let data = folder.path().join("data");
    let node = Node::start(&data, &set.iter().map(String::as_str).collect::<Vec<_>>());
    set.push(format!("dicom.listen=\"{}\"", node.dicom));
    set.push(format!("http.listen=\"{}\"", node.http));
    let (code, checks) = doctor(&data, &set);
    // Whether a time server sets the clock is the machine's.
    let broken =
        checks.iter().filter(|check| check["state"] == "broken" && check["what"] != "clock");
    assert_eq!(broken.count(), 0, "{checks:#?}");
    assert_eq!(code, i32::from(check(&checks, "clock")["state"] == "broken"));
    for (what, part) in [
        ("settings", "every value"),
        ("disk", "safe in"),
        ("space", "free"),
        ("dicom.listen", "the node (process"),
        ("node", "runs as process"),
        ("pacs.main", "takes sr, pdf, key-images"),
        ("mail", "without a login"),
        ("folder.out", "can be written"),
        ("alerts", "prelim drill"),
        ("accounts", "everyone on this machine"),
    ] {
        let found = check(&checks, what)["found"].as_str().unwrap();
        assert!(found.contains(part), "{what}: {found}");
    }
    let gateways =
        checks.iter().filter(|one| one["what"].as_str().unwrap().starts_with("gateway "));
    for one in gateways.clone() {
        let found = one["found"].as_str().unwrap();
        assert!(found.contains("reads the number of a test picture"), "{one:#}");
    }
    assert!(gateways.count() > 0, "{checks:#?}");
    assert!(peers.mails().is_empty(), "no message was sent");
    assert!(gateway.requests().is_empty(), "nothing was read");
}

/// A server that drops pictures answers all the same.
#[test]
fn a_model_that_does_not_see_the_test_picture_is_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for (mode, part) in [
        ("blind", "does not read the number of a test picture"),
        ("404", "refused the request (status 404)"),
    ] {
        let peers = folder.path().join(mode);
        std::fs::create_dir(&peers).unwrap();
        let gateway = Gateway::start(&peers, mode);
        let (_, checks) = doctor(&data, &gateway.set);
        let of_gateway = |one: &&Value| one["what"].as_str().unwrap().starts_with("gateway ");
        let found = checks.iter().find(of_gateway).unwrap();
        assert_eq!(found["state"], "broken", "{found:#}");
        assert!(found["found"].as_str().unwrap().contains(part), "{found:#}");
        assert!(found["mend"].as_str().unwrap().contains("model"), "{found:#}");
    }
}

#[test]
fn each_thing_that_is_broken_is_named_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let certificate = folder.path().join("none.pem");
    let set = [
        format!("dicom.listen=\"{}\"", taken.local_addr().unwrap()),
        "http.listen=\"203.0.113.1:8080\"".to_owned(),
        "deliver.pacs.main.ae_title=\"PACS\"".to_owned(),
        "deliver.pacs.main.address=\"127.0.0.1:1\"".to_owned(),
        "deliver.folder.out.path=\"/proc/none\"".to_owned(),
        "deliver.email.host=\"127.0.0.1\"".to_owned(),
        "deliver.email.port=1".to_owned(),
        "deliver.email.mode=\"none\"".to_owned(),
        "deliver.email.from=\"prelim@hospital.example\"".to_owned(),
        "orders.worklist.archive=\"WL@127.0.0.1:1\"".to_owned(),
        "audit.syslog.address=\"127.0.0.1:1\"".to_owned(),
        "audit.syslog.transport=\"tcp\"".to_owned(),
        "traces.url=\"http://127.0.0.1:1/v1/traces\"".to_owned(),
        "http.login=\"required\"".to_owned(),
    ];
    let (code, checks) = doctor(&data, &set);
    assert_eq!(code, 1);
    for (what, found, mend) in [
        ("dicom.listen", "another program", "ss -ltnp"),
        ("http.listen", "no address 203.0.113.1", "ip address"),
        ("alerts", "nobody is told", "[alert.recipients"),
        ("pacs.main", "no connection", "deliver.pacs.main"),
        ("folder.out", "cannot be written", "deliver.folder.out"),
        ("mail", "no connection", "deliver.email"),
        ("worklist", "no connection", "orders.worklist"),
        ("audit.syslog", "refused", "audit.syslog"),
        ("traces", "no connection", "/v1/traces"),
        ("accounts", "nobody has an account", "prelim user add"),
    ] {
        let one = check(&checks, what);
        let words = |key: &str| one[key].as_str().unwrap().to_owned();
        assert_eq!(one["state"], "broken", "{one:#}");
        assert!(words("found").contains(found) && words("mend").contains(mend), "{one:#}");
    }
    let open = check(&checks, "data folder");
    assert_eq!(
        (&open["state"], &open["mend"]),
        (&"warning".into(), &format!("chmod 700 {}", data.display()).into())
    );
    // Settings that cannot work are all that is said.
    let set = [format!("dicom.tls.certificate_file=\"{}\"", certificate.display()), "x.y=1".into()];
    let (code, checks) = doctor(&data, &set);
    assert_eq!((code, checks.len()), (1, 1));
    assert!(checks[0]["found"].as_str().unwrap().contains("unknown section"), "{checks:#?}");
}
