//! The labelled chest X-rays that ship with the program, wrapped as DICOM by code.
//!
//! Source, citation and licence: `tests/fixtures/cxr/SOURCES.md`. The patients are invented; the
//! ages lie in the range of the original collection.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::domain::study::PersonName;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::imaging::wrap;
use crate::imaging::wrap::WrapFields;

#[derive(rust_embed::RustEmbed)]
#[folder = "tests/fixtures/cxr"]
struct Pictures;

/// Writes one study for each picture to `folder`; returns the files of each study.
pub fn write(folder: &Path) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    std::fs::create_dir_all(folder)?;
    let mut names: Vec<String> = Pictures::iter()
        .map(|name| name.into_owned())
        .filter(|name| name.ends_with(".jpeg") || name.ends_with(".jpg"))
        .collect();
    names.sort();
    let mut studies = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        let picture = Pictures::get(name).context("an embedded picture is gone")?;
        let file = folder.join(format!("{}.dcm", name.split('.').next().unwrap_or(name)));
        std::fs::write(&file, wrap::wrap(&picture.data, &fields(name, nth))?)?;
        studies.push(vec![file]);
    }
    Ok(studies)
}

/// A frontal chest X-ray of a child, or of an adult where the name says so.
fn fields(name: &str, nth: usize) -> WrapFields {
    let adult = name.contains("adult");
    WrapFields {
        study_uid: StudyUid::derived(&["demo", "study", name]),
        series_uid: SeriesUid::derived(&["demo", "series", name]),
        sop_instance_uid: SopInstanceUid::derived(&["demo", "instance", name]),
        modality: "CR".into(),
        body_part: "CHEST".into(),
        view: "AP".into(),
        laterality: String::new(),
        patient_id: format!("DEMO-{:02}", nth + 1),
        patient_name: PersonName::parse(&format!("Demo^Patient {}", nth + 1)),
        birth_date: String::new(),
        age: if adult { "051Y".into() } else { format!("{:03}Y", 2 + nth % 4) },
        sex: String::new(),
        study_description: if adult { "Chest, adult".into() } else { "Chest, child".into() },
        series_description: "AP".into(),
        accession_number: format!("DEMO{:04}", nth + 1),
        study_id: format!("{}", nth + 1),
        date: "20260101".into(),
        time: format!("10{:02}00", nth),
    }
}
