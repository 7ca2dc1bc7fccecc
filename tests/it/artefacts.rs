//! Every kind of object, made of real studies, as it arrives in a PACS.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
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

/// Waits until the archive has answered for everything of this file's study: a file that is there may
/// not be whole yet.
fn delivered(node: &Node, file: &Path) {
    let dump = said(&run(Command::new("dcmdump").args(["+P", "0020,000d"]).arg(file)));
    let uid = dump.split(['[', ']']).nth(1).unwrap().to_owned();
    node.study_in(&uid, "delivered");
}

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
        delivered(&node, &file);
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

/// A program that draws: its mask becomes a segment in the pixels of the image, on a radiograph that
/// was shown smaller and on a slice of CT with its place in the patient. A mask that does not fit is
/// left out, and the report says so.
#[test]
fn a_mask_becomes_a_segmentation_in_the_pixels_of_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let script = root().join("tests/peers/reader.py");
    let program = [
        "analysis.provider=\"own\"".to_owned(),
        "analysis.gateways.own.kind=\"command\"".to_owned(),
        "analysis.gateways.own.model=\"drawer\"".to_owned(),
        format!("analysis.gateways.own.program=\"{}\"", python().display()),
        format!("analysis.gateways.own.arguments=[\"{}\",\"masks\"]", script.display()),
        "deliver.pacs.main.artefacts=[\"sr\", \"seg\"]".to_owned(),
    ];
    let set: Vec<&str> = peers.set.iter().chain(&program).map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &set);
    let mut arrived: Vec<PathBuf> = Vec::new();
    for name in ["RG1_J2KR.dcm", "CT_small.dcm"] {
        let file = pydicom_file(name);
        node.send(std::slice::from_ref(&file));
        delivered(&node, &file);
        let new = wait_for(name, || {
            let mut now = files(&peers.pacs_folder);
            now.retain(|file| !arrived.contains(file));
            (now.len() == 2).then_some(now)
        });
        let study = folder.path().join("validate").join(name.split(['.', '_']).next().unwrap());
        to_validate(&study, &[file], &new);
        arrived.extend(new);
    }
    validate(&folder.path().join("validate"), "");
    // The disc of the program, in the pixels of the source.
    let disc = "import math, sys, highdicom as hd\n\
                for path in sys.argv[1:]:\n    \
                    seg = hd.seg.segread(path)\n    \
                    mask = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)[0] > 0\n    \
                    ys, xs = mask.nonzero()\n    \
                    assert abs(xs.mean() + 0.5 - 0.65 * seg.Columns) < 1.5, xs.mean()\n    \
                    assert abs(ys.mean() + 0.5 - 0.3 * seg.Rows) < 1.5, ys.mean()\n    \
                    area = mask.sum() / (math.pi * (0.1 * seg.Rows) ** 2)\n    \
                    assert abs(area - 1) < 0.03, area\n";
    let drawn = arrived.iter().filter(|file| file.to_string_lossy().contains("/SG"));
    run(Command::new(python()).args(["-c", disc]).args(drawn.clone()));
    assert_eq!(drawn.count(), 2);
    let results = files(&folder.path().join("data/results"));
    for study in results {
        let report = std::fs::read_to_string(study.join("1/report.txt")).unwrap();
        assert!(report.contains("a mask that does not fit its picture"), "{report}");
    }
}
