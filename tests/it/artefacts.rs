//! Every kind of object, made of real studies, as it arrives in a PACS.

use std::path::PathBuf;
use std::process::Command;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::pydicom_file;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;
use crate::way::POSITIVE;
use crate::way::Peers;
use crate::way::files;
use crate::way::to_validate;
use crate::way::validate;

const ALL: &str = "deliver.pacs.main.artefacts=[\"sr\", \"sr-comprehensive\", \"sr-enhanced\", \
                   \"sr-text\", \"pdf\", \"key-images\", \"gsps\", \"kos\"]";

/// A radiograph of MONOCHROME1, a slice of CT in its window, a clip in colour that was compressed
/// with loss: each with a region, in four languages. Colour has no presentation state.
#[test]
fn every_kind_of_object_arrives_and_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let mut set: Vec<&str> = peers.set.iter().chain(&gateway.set).map(String::as_str).collect();
    set.extend([ALL, "report.languages=[\"en\", \"ko\", \"vi\", \"zh\"]"]);
    let node = Node::start(&folder.path().join("data"), &set);
    let studies = [("RG1_J2KR.dcm", 8), ("CT_small.dcm", 8), ("examples_ybr_color.dcm", 7)];
    let mut arrived: Vec<PathBuf> = Vec::new();
    for (name, count) in studies {
        let file = pydicom_file(name);
        node.send(std::slice::from_ref(&file));
        let new = wait_for(name, || {
            let mut now = files(&peers.pacs_folder);
            now.retain(|file| !arrived.contains(file));
            (now.len() == count).then_some(now)
        });
        let study = folder.path().join("validate").join(name.split(['.', '_']).next().unwrap());
        to_validate(&study, &[file], &new);
        arrived.extend(new);
    }
    validate(&folder.path().join("validate"), "CT");
    for drawn in arrived.iter().filter(|file| file.to_string_lossy().contains("/SC")) {
        let dump = said(&run(Command::new("dcmdump").arg(drawn)));
        for (tag, is_there) in
            [("(0028,0030)", false), ("(0018,1164)", false), ("(0008,2112)", true)]
        {
            assert_eq!(dump.contains(tag), is_there, "{tag} in {dump}");
        }
    }
    let page = folder.path().join("data/results");
    let is_drawn = |file: &PathBuf| {
        std::fs::read_to_string(file.join("1/report.html")).unwrap().contains("class=\"region\"")
    };
    assert!(files(&page).iter().all(is_drawn), "the reports show the regions");
}

/// Neither a key image nor anything else that points at an image, also in the report.
#[test]
fn where_nothing_is_present_nothing_is_pointed_at() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "clear"));
    let mut set: Vec<&str> = peers.set.iter().chain(&gateway.set).map(String::as_str).collect();
    set.push(ALL);
    let data = folder.path().join("data");
    let file = folder.path().join("adult.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    let node = Node::start(&data, &set);
    node.storescu(&[file]);
    assert_eq!(node.study_in(&uid, "delivered")["outcome"], "read");
    assert_eq!(files(&peers.pacs_folder).len(), 5, "four structured reports and the PDF");
    let report = std::fs::read_to_string(data.join("results").join(&uid).join("1/report.html"));
    let report = report.unwrap();
    assert!(
        report.contains("Looked for, below threshold") && !report.contains("<figure"),
        "{report}"
    );
}
