//! Our objects before the validators of others: `tests/peers/validate_sr.sh`.

use std::path::Path;
use std::process::Command;

use crate::sr::Equipment;
use crate::sr::SrClass;
use crate::sr::SrOptions;
use crate::sr::communication;
use crate::sr::encapsulated_pdf;
use crate::sr::key_image;
use crate::sr::key_objects;
use crate::sr::presentation_states;
use crate::sr::samples;
use crate::sr::samples::Sample;
use crate::sr::structured_report;

/// Every object that we make is without error for the validators of others; for PixelMed, the
/// slowest, one of each class and those that hold all that there is.
#[test]
fn validators_find_no_error_in_our_objects() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = repository.join("target/tmp/sr-peers");
    let _ = std::fs::remove_dir_all(&folder);
    for sample in samples::all() {
        write_study(&folder.join(sample.name), &sample);
    }
    let validated = Command::new("bash")
        .arg(repository.join("tests/peers/validate_sr.sh"))
        .args([
            "--pixelmed",
            "positive,notcovered,ultrasound,positive/sr-enhanced.dcm,hostile/sr-text.dcm,\
             ultrasound/kos.dcm",
        ])
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&validated.stdout);
    let errors = String::from_utf8_lossy(&validated.stderr);
    println!("{said}");
    assert!(validated.status.success(), "in {}:\n{said}\n{errors}", folder.display());
}

/// The script itself: each fault is seen by the tool that can see it.
#[test]
fn the_validators_see_faults() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = repository.join("target/tmp/sr-mutants");
    let _ = std::fs::remove_dir_all(&folder);
    let faults = [
        ("FAIL dcentvfy  patient", "sr.dcm", "MRN-0042", "MRN-9942"),
        ("FAIL codes     code/sr", "sr.dcm", "52101004", "52101005"),
        ("FAIL dciodvfy  flag/sr", "sr.dcm", "UNVERIFIED", "VERIFIED  "),
        ("FAIL codes     meaning", "sr.dcm", "Image Library Group", "Image Library Grope"),
        ("FAIL dsrdump   tree/sr", "sr.dcm", "SELECTED FROM", "SELECTED FORM"),
        (
            "FAIL highdicom templat",
            "sr.dcm",
            "DCMR\x40\x00\x00\u{db}CS\x04\x001500",
            "DCMR\x40\x00\x00\u{db}CS\x04\x001599",
        ),
        ("FAIL dcm2pdf   pdf/rep", "report.pdf.dcm", "%PDF-1.4", "%QDF-1.4"),
    ];
    for (expected, file, from, to) in faults {
        let study = expected.split_whitespace().last().unwrap().split('/').next().unwrap();
        let sample = Sample {
            name: "mutant",
            assessment: crate::domain::sample::positive_chest(),
            options: SrOptions::default(),
        };
        write_study(&folder.join(study), &sample);
        let path = folder.join(study).join(file);
        let bytes = std::fs::read(&path).unwrap();
        // One character for one byte: the objects are UTF-8, what is replaced is not.
        let latin = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
        let (from, to) = (latin(from), latin(to));
        assert_eq!(from.len(), to.len());
        let mut mutant = bytes.clone();
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(&from) {
                mutant[at..at + to.len()].copy_from_slice(&to);
            }
        }
        assert_ne!(mutant, bytes, "{expected}");
        std::fs::write(path, mutant).unwrap();
    }
    let script = repository.join("tests/peers/validate_sr.sh");
    let validated = Command::new("bash").arg(script).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&validated.stdout);
    assert_eq!(validated.status.code(), Some(1), "{said}");
    for (expected, ..) in faults {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
}

/// `sources/*.dcm`, and beside them each object that is made of them.
fn write_study(folder: &Path, sample: &Sample) {
    let a = &sample.assessment;
    let node = Equipment::default();
    std::fs::create_dir_all(folder.join("sources")).unwrap();
    for instance in &a.study.instances {
        let name = format!("sources/{}.dcm", instance.sop_instance_uid);
        std::fs::write(folder.join(name), samples::source_image(a, instance)).unwrap();
    }
    for class in SrClass::ALL {
        let options = SrOptions { class, ..sample.options.clone() };
        let sr = structured_report(a, &node, &options).unwrap();
        std::fs::write(folder.join(format!("{}.dcm", class.kind())), sr).unwrap();
    }
    if let Some(kos) = key_objects(a, &node).unwrap() {
        std::fs::write(folder.join("kos.dcm"), kos).unwrap();
    }
    for (nth, image) in samples::marked(a).iter().enumerate() {
        let object = key_image(a, &node, image, &samples::drawn(a), nth + 1).unwrap();
        std::fs::write(folder.join(format!("key-image-{nth}.dcm")), object).unwrap();
    }
    for (nth, state) in
        presentation_states(a, &node, &samples::shown(a)).unwrap().iter().enumerate()
    {
        std::fs::write(folder.join(format!("gsps-{nth}.dcm")), state).unwrap();
    }
    let told = ["Told kim@h.example by e-mail: 250 OK.", "홍 길동\0 \u{202e} has it."];
    let record = communication(a, &node, &told.map(str::to_owned)).unwrap();
    std::fs::write(folder.join("communication.dcm"), record).unwrap();
    let uid = a.artefact_uid("sr");
    let pdf = encapsulated_pdf(a, &node, &pdf(), Some(&uid)).unwrap();
    std::fs::write(folder.join("report.pdf.dcm"), pdf).unwrap();
}

/// A page with text, of odd length.
fn pdf() -> Vec<u8> {
    let content = "BT /F1 18 Tf 40 780 Td (PRELIMINARY report, unverified) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut pdf = String::from("%PDF-1.4\n");
    let mut offsets = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        offsets.push(pdf.len());
        pdf += &format!("{} 0 obj\n{object}\nendobj\n", n + 1);
    }
    let start = pdf.len();
    pdf += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    offsets.iter().for_each(|offset| pdf += &format!("{offset:010} 00000 n \n"));
    let size = objects.len() + 1;
    pdf += &format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
    if pdf.len().is_multiple_of(2) {
        pdf.push('\n');
    }
    pdf.into_bytes()
}

/// What a wrapper must not take.
#[test]
fn only_a_pdf_is_wrapped() {
    let a = samples::negative();
    let node = Equipment::default();
    assert!(encapsulated_pdf(&a, &node, b"<html>", None).is_err());
    assert!(encapsulated_pdf(&a, &node, b"", None).is_err());
}
