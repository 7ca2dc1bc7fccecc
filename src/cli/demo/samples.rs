//! The demo's studies: real files of two pinned packages of the Python registry, and labelled
//! chest X-rays of children that ship with the program.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::bail;

/// Packages with real DICOM files, with the versions that the list below was chosen from.
const PACKAGES: [&str; 2] = ["pydicom==3.0.2", "pydicom-data==1.0.0"];

/// What a folder of samples holds once it is complete.
const MARK: &str = "complete";

/// Files of the packages: folder below the unpacked package, files of one study.
const STUDIES: [(&str, &[&str]); 8] = [
    // CR chest PA of an adult woman, JPEG 2000 lossless.
    ("data_store/data", &["RG1_J2KR.dcm"]),
    // CT of a head, four slices.
    ("pydicom/data/test_files/dicomdirtests/77654033/CT2", &["17106", "17136", "17166", "17196"]),
    // CT slice of the chest, 128 x 128.
    ("pydicom/data/test_files", &["CT_small.dcm"]),
    // CT, JPEG 2000.
    ("data_store/data", &["693_J2KR.dcm"]),
    // MR of the brain, JPEG 2000.
    ("data_store/data", &["MR2_J2KR.dcm"]),
    // Ultrasound cine in colour, 30 frames, JPEG.
    ("pydicom/data/test_files", &["examples_ybr_color.dcm"]),
    // Ultrasound with palette colours.
    ("pydicom/data/test_files", &["examples_palette.dcm"]),
    // A structured report: nothing to read in it.
    ("pydicom/data/test_files", &["reportsi.dcm"]),
];

/// The sample files below `cache`, downloaded with pip and unpacked when they are not there yet.
///
/// # Errors
/// When pip is missing or cannot reach its registry: the demo then goes on without them.
pub fn fetch(cache: &Path) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    if !cache.join(MARK).is_file() {
        download(cache)?;
    }
    let mut studies = Vec::new();
    for (folder, names) in STUDIES {
        let files: Vec<PathBuf> = names.iter().map(|name| cache.join(folder).join(name)).collect();
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            bail!(
                "the sample {} is not where it was expected; remove {} and start again",
                missing.display(),
                cache.display()
            );
        }
        studies.push(files);
    }
    Ok(studies)
}

fn download(cache: &Path) -> anyhow::Result<()> {
    let wheels = tempfile::tempdir()?;
    let python = ["python3", ".venv/bin/python"]
        .into_iter()
        .find(|python| quiet(Command::new(python).args(["-m", "pip", "--version"])).is_ok())
        .context("no Python with pip here")?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--dest"]).arg(wheels.path()).args(PACKAGES);
    quiet(&mut pip).context("pip could not download the sample packages")?;
    std::fs::create_dir_all(cache)?;
    for wheel in std::fs::read_dir(wheels.path())? {
        let mut unzip = Command::new(python);
        unzip.args(["-m", "zipfile", "-e"]).arg(wheel?.path()).arg(cache);
        quiet(&mut unzip).context("the sample packages could not be unpacked")?;
    }
    std::fs::write(cache.join(MARK), PACKAGES.join("\n"))?;
    Ok(())
}

/// Runs a command without its output; the error is what it wrote last.
fn quiet(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().last().unwrap_or("it ended with an error").trim());
    }
    Ok(())
}
