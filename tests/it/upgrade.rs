//! The data folders of the releases, opened by the program of today.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::node;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::peer::files_below;
use crate::way;

const STUDY: &str = "1.2.826.0.1.3680043.10.1";

/// The folders, each unpacked; `tests/peers/make_data_fixture.sh` makes one for each release.
fn unpacked(folder: &Path) -> Vec<PathBuf> {
    let archives = way::files(&root().join("tests/fixtures"));
    let archives = archives.iter().filter(|file| file.extension().is_some_and(|end| end == "xz"));
    for archive in archives {
        run(Command::new("tar").arg("-C").arg(folder).arg("-xJf").arg(archive));
    }
    way::files(folder)
}

#[test]
fn the_data_of_every_release_is_shown_verified_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let series = folder.path().join("series");
    let script = root().join("tests/peers/make_series.py");
    run(Command::new(python()).arg(script).arg(&series).args([&format!("{STUDY}.3"), "3"]));
    let releases = folder.path().join("releases");
    std::fs::create_dir(&releases).unwrap();
    let releases = unpacked(&releases);
    assert!(!releases.is_empty());
    for data in releases {
        let study = |number: u32| format!("{STUDY}.{number}");
        let verify = || {
            run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&data));
        };
        verify();
        for (number, state) in [(1, "delivered"), (2, "composed"), (3, "receiving")] {
            let shown = node::study(&data, &study(number)).unwrap();
            assert_eq!(shown["state"], state, "{number} in {}: {shown:#}", data.display());
        }
        let share = folder.path().join("share");
        let to = format!("deliver.folder.share.path=\"{}\"", share.display());
        let set =
            [&to, "assemble.quiet_period_s=600", "deliver.folder.share.files=[\"report.txt\"]"];
        let node = Node::start(&data, &set);
        let prelim =
            |words: &[&str]| run(Command::new(PRELIM).args(words).arg("--data").arg(&data));
        prelim(&["queue", "--release", &format!("{}/1/deliver/report.txt/folder.share", study(2))]);
        node.study_in(&study(2), "delivered");
        assert!(share.join(study(2)).join("1/report.txt").is_file());
        node.storescu(&[series.join("1-3.dcm")]);
        prelim(&["study", "complete", &study(3)]);
        let shown = node.study_in(&study(3), "delivered");
        assert_eq!(shown["instances"], 3, "{shown:#}");
        assert_eq!(node.terminate(), Some(0));
        verify();
    }
}

#[test]
fn the_data_of_a_later_program_is_refused_by_name_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = unpacked(folder.path()).pop().unwrap();
    let content = || -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files_below(&data).into_iter().filter(|file| !file.ends_with("lock"));
        files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
    };
    for (format, why) in [
        ("prelim data 99\n", "has format 99"),
        ("prelim data 2\nby 999.0.0\n", "was last written by prelim 999.0.0"),
    ] {
        std::fs::write(data.join("format"), format).unwrap();
        let before = content();
        for command in ["serve", "verify", "rebuild"] {
            let output =
                Command::new(PRELIM).args([command, "--data"]).arg(&data).output().unwrap();
            assert!(!output.status.success(), "{command}");
            let said = said(&output);
            assert!(said.contains(why) && said.contains("nothing was changed"), "{said}");
        }
        assert!(content() == before, "something was written");
    }
}
