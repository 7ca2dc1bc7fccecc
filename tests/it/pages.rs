//! The web pages as their users meet them, in Debian's Chromium.

use std::path::PathBuf;
use std::process::Command;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::way::POSITIVE;

const SERIES: &str = "1.2.826.0.1.3680043.8.498.77";

/// With `PRELIM_PAGES=FOLDER`, pictures of all pages are put there.
#[test]
fn every_page_can_be_used_by_everyone() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "read");
    let set: Vec<&str> = gateway.set.iter().map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &set);
    let file = folder.path().join("chest.dcm");
    let study = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    let slices = folder.path().join("slices");
    let script = root().join("tests/peers/make_series.py");
    run(Command::new(python()).arg(script).arg(&slices).args([SERIES, "5"]));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(slices).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(file.clone());
    node.send(&files);
    node.study_in(&study, "delivered");
    node.study_in(SERIES, "delivered");

    let mut pages = Command::new("node");
    pages.arg(root().join("tests/peers/pages.mjs")).arg(format!("http://{}", node.http));
    pages.args([&study, SERIES]).arg(&file).args(std::env::var_os("PRELIM_PAGES"));
    run(&mut pages);
}
