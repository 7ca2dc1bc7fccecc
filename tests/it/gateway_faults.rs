//! What a gateway can do wrong, and what comes of the study: never a reading that is none.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::node::Background;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::wait_until_listening;
use crate::way::POSITIVE;

/// What is asked for.
struct Row {
    fault: &'static str,
    /// Requests, with two tries for what may pass.
    requests: usize,
    /// Part of the reason why a person must look; empty: it is read after all.
    reason: &'static str,
}

const fn row(fault: &'static str, requests: usize, reason: &'static str) -> Row {
    Row { fault, requests, reason }
}

const ROWS: [Row; 35] = [
    // A word on the request: asked once.
    row("400", 1, "refused the request (status 400)"),
    // May pass: tried again, and a key that is not taken not at once.
    row("401", 1, "refused the request (status 401)"),
    row("403", 1, "refused the request (status 403)"),
    row("404", 2, "refused the request (status 404)"),
    row("redirect", 2, "refused the request (status 302)"),
    row("tls", 0, "is not trusted"),
    row("429", 1, "is not asked for"),
    row("429-wait", 2, "is busy (status 429)"),
    row("500", 2, "is busy (status 500)"),
    row("502", 2, "is busy (status 502)"),
    row("503", 2, "is busy (status 503)"),
    row("504", 2, "is busy (status 504)"),
    row("hang", 2, "gave no answer within"),
    row("drip", 2, "gave no answer within"),
    row("closed", 2, "cannot be reached"),
    row("reset", 2, "cannot be reached"),
    row("short", 2, "cannot be reached"),
    // Smaller pictures are tried, as long as there are smaller ones.
    row("413", 3, "too large"),
    row("413-once", 2, ""),
    // Nobody spoke: asked once more, and tried again.
    row("latin", 4, "no chat completion"),
    row("utf16", 4, "no chat completion"),
    row("html", 4, "no chat completion"),
    row("empty", 4, "no chat completion"),
    row("null", 4, "no chat completion"),
    row("list", 4, "no chat completion"),
    row("choiceless", 4, "no choices"),
    // No reading: asked once more, with what was wrong.
    row("cut", 2, "cut at the token limit"),
    row("refusal", 2, "the model refused"),
    row("two", 2, "without a usable reading"),
    row("types", 2, "without a usable reading"),
    row("extra", 2, "keys that the schema does not know"),
    // Asking again would end the same.
    row("filter", 1, "a content filter"),
    row("tool", 1, "none is ever run"),
    row("huge", 1, "the body is too large"),
    // Compressed bodies are not asked for, and never unpacked.
    row("bomb", 4, "no chat completion"),
];

#[test]
fn what_a_gateway_does_wrong_ends_with_a_person_and_never_as_normal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adult.dcm");
    // Large enough that there is something to make smaller.
    let large = folder.path().join("large.png");
    let picture = root().join("tests/fixtures/cxr").join(POSITIVE);
    let script = "import sys; from PIL import Image; \
                  Image.open(sys.argv[1]).convert('L').resize((1200, 1200)).save(sys.argv[2])";
    run(Command::new(python()).args(["-c", script]).arg(picture).arg(&large));
    chest_xray(large.to_str().unwrap(), &file, &["PatientAge=051Y"]);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..4)
            .map(|lane| {
                let (folder, file) = (folder.path(), &file);
                scope.spawn(move || {
                    let own = ROWS.iter().skip(lane).step_by(4);
                    own.filter_map(|row| try_one(row, folder, file).err()).collect::<Vec<_>>()
                })
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn try_one(row: &Row, folder: &Path, file: &Path) -> Result<(), String> {
    let own = folder.join(row.fault);
    std::fs::create_dir_all(&own).unwrap();
    let port = free_port();
    let mut server = Command::new(python());
    server.arg(root().join("tests/peers/faulty_gateway.py")).arg(port.to_string());
    server.arg(&own).arg(row.fault);
    let is_tls = row.fault == "tls";
    if is_tls {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (own.join("certificate.pem"), own.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        server.arg(certificate).arg(key);
    }
    let _server = Background(server.spawn().unwrap());
    wait_until_listening(port);
    let key = own.join("key.txt");
    std::fs::write(&key, "sk-fixture-0123456789\n").unwrap();
    let scheme = if is_tls { "https" } else { "http" };
    let set = [
        "analysis.provider=\"main\"".to_owned(),
        format!("analysis.gateways.main.url=\"{scheme}://127.0.0.1:{port}/v1\""),
        "analysis.gateways.main.model=\"faulty\"".to_owned(),
        format!("analysis.gateways.main.api_key_file=\"{}\"", key.display()),
        "analysis.gateways.main.timeout_s=3".to_owned(),
        "analysis.waits.routine_s=2".to_owned(),
    ];
    let mut prelim = Command::new(PRELIM);
    prelim.arg("analyze").arg(file).args(["--yes", "--json"]).stdin(Stdio::null());
    set.iter().for_each(|one| {
        prelim.args(["--set", one]);
    });
    let output = prelim.output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let shown = &shown[0];
    let requests = std::fs::read_to_string(own.join("requests.txt")).unwrap_or_default();
    let (outcome, reason) = (&shown["outcome"], shown["reason"].as_str().unwrap_or_default());
    let as_expected = match row.reason {
        "" => outcome == "read",
        part => outcome == "needs_review" && reason.contains(part),
    };
    let words = said(&output);
    let is_told = !words.contains("sk-fixture") && !requests.contains("elsewhere");
    match as_expected && is_told && requests.lines().count() == row.requests {
        true => Ok(()),
        false => Err(format!(
            "{}: {outcome}, {reason}\nrequests:\n{requests}{}",
            row.fault,
            if shown.is_null() { words } else { String::new() }
        )),
    }
}
