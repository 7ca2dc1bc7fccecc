use std::io::Cursor;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::*;
use crate::dicom::storage_scu::Head;
use crate::dicom::walk::ITEM;
use crate::dicom::walk::ITEM_END;
use crate::dicom::walk::SEQUENCE_END;
use crate::dicom::walk::UNDEFINED;
use rand::Rng as _;
use rand::SeedableRng as _;

const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
const DEFLATED: &str = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;

fn run(bytes: &[u8], syntax: &str) -> Result<Facts, ScanError> {
    let (syntax, limits) = (TransferSyntaxUid::parse(syntax).unwrap(), ScanLimits::default());
    let read = look(Cursor::new(bytes), bytes.len() as u64, &syntax, &limits);
    // From memory the same is found, by a way of its own.
    let in_memory = look_at_bytes(bytes, &syntax, &limits);
    assert_eq!(format!("{in_memory:?}"), format!("{read:?}"));
    scan(Cursor::new(bytes), bytes.len() as u64, &syntax, &limits)
}

fn long(tag: Tag, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(vr.as_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
    out
}

fn short(tag: Tag, vr: &str, value: &str) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(vr.as_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out
}

fn implicit(tag: Tag, length: u32, value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
    out
}

fn delimiter(tag: Tag, length: u32) -> Vec<u8> {
    implicit(tag, length, &[])
}

fn uids_of_a_study() -> Vec<u8> {
    [
        short(tags::SOP_CLASS_UID, "UI", "1.2.840.10008.5.1.4.1.1.2\0"),
        short(tags::SOP_INSTANCE_UID, "UI", "1.2.3.4\0"),
        short(tags::PATIENT_ID, "LO", "X1"),
        short(tags::STUDY_INSTANCE_UID, "UI", "1.2.3"),
        short(tags::SERIES_INSTANCE_UID, "UI", "1.2.3.1"),
    ]
    .concat()
}

/// Sequences of every kind, and pixels in fragments.
fn rich() -> Vec<u8> {
    let code = short(tags::CODE_VALUE, "SH", "T-1");
    let undefined_item =
        [delimiter(ITEM, UNDEFINED), code.clone(), delimiter(ITEM_END, 0)].concat();
    let defined_item = [delimiter(ITEM, code.len() as u32), code.clone()].concat();
    let private = [
        delimiter(ITEM, UNDEFINED),
        implicit(tags::CODE_VALUE, 4, b"T-1 "),
        delimiter(ITEM_END, 0),
        delimiter(SEQUENCE_END, 0),
    ]
    .concat();
    [
        uids_of_a_study(),
        long(
            tags::PROCEDURE_CODE_SEQUENCE,
            "SQ",
            UNDEFINED,
            &[undefined_item.clone(), defined_item.clone(), delimiter(SEQUENCE_END, 0)].concat(),
        ),
        long(
            tags::PROCEDURE_CODE_SEQUENCE,
            "SQ",
            (defined_item.len() + undefined_item.len()) as u32,
            &[defined_item, undefined_item].concat(),
        ),
        long(tags::PROCEDURE_CODE_SEQUENCE, "SQ", 0, &[]),
        long(Tag(0x0029, 0x1010), "UN", UNDEFINED, &private),
        long(Tag(0x0029, 0x1011), "ZZ", 4, &[1, 2, 3, 4]),
        long(tags::PIXEL_DATA, "OB", UNDEFINED, &delimiter(ITEM, 0)),
        delimiter(ITEM, 6),
        vec![0xFF, 0xD8, 1, 2, 0xFF, 0xD9],
        delimiter(SEQUENCE_END, 0),
    ]
    .concat()
}

/// Known at the door: a study that is wanted at once does not wait for its turn to be parsed.
#[test]
fn how_soon_a_study_is_wanted_is_found_in_the_image_itself() {
    let said = |tag, words| {
        let data = [uids_of_a_study(), short(tag, "CS", words)].concat();
        run(&data, EXPLICIT).unwrap().requested_priority
    };
    assert_eq!(said(tags::REQUESTED_PROCEDURE_PRIORITY, "STAT"), "STAT");
    assert_eq!(said(STUDY_PRIORITY_ID, "HIGH"), "HIGH", "retired, and written all the same");
    assert_eq!(said(tags::MODALITY, "CT"), "");
}

#[test]
fn the_uids_are_found_around_sequences_and_fragments() {
    let facts = run(&rich(), EXPLICIT).unwrap();
    assert_eq!(facts.study_uid, "1.2.3");
    assert_eq!(facts.series_uid, "1.2.3.1");
    assert_eq!(facts.sop_class_uid, "1.2.840.10008.5.1.4.1.1.2");
    assert_eq!(facts.sop_instance_uid, "1.2.3.4");
    assert!(facts.patient_id_present);
}

#[test]
fn a_uid_inside_an_item_is_not_that_of_the_instance() {
    let item = short(tags::STUDY_INSTANCE_UID, "UI", "9.9.9");
    let sequence = [delimiter(ITEM, item.len() as u32), item].concat();
    let bytes = long(tags::REFERENCED_STUDY_SEQUENCE, "SQ", sequence.len() as u32, &sequence);
    assert_eq!(run(&bytes, EXPLICIT).unwrap().study_uid, "");
}

#[test]
fn a_deflated_data_set_is_inflated_as_far_as_its_pixels() {
    let deflate = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut encoder =
            flate2::read::DeflateEncoder::new(Cursor::new(bytes), flate2::Compression::fast());
        encoder.read_to_end(&mut out).unwrap();
        out
    };
    assert_eq!(run(&deflate(&rich()), DEFLATED).unwrap().study_uid, "1.2.3");
    assert!(run(b"this is not deflated", DEFLATED).is_err());
    // P93: a bomb behind the UIDs, and one before them.
    let zeros = vec![0; 80 << 20];
    let bomb = long(Tag(0x0029, 0x1010), "OB", zeros.len() as u32, &zeros);
    let behind = deflate(&[uids_of_a_study(), bomb.clone()].concat());
    let before = deflate(&[short(Tag(8, 5), "CS", "ISO_IR 192"), bomb, uids_of_a_study()].concat());
    assert_eq!(run(&behind, DEFLATED).unwrap().series_uid, "1.2.3.1");
    assert!(matches!(run(&before, DEFLATED), Err(ScanError::TooMuchInflated { .. })));
}

/// P80 to P87, P95 and the like: each is refused at once.
#[test]
fn a_hostile_data_set_is_refused_quickly() {
    let nested = |n: usize| {
        let level =
            long(tags::PROCEDURE_CODE_SEQUENCE, "SQ", UNDEFINED, &delimiter(ITEM, UNDEFINED));
        [uids_of_a_study(), level.repeat(n)].concat()
    };
    let mut nested_defined = Vec::new();
    for _ in 0..100 {
        let item = [delimiter(ITEM, nested_defined.len() as u32), nested_defined].concat();
        nested_defined = implicit(tags::PROCEDURE_CODE_SEQUENCE, item.len() as u32, &item);
    }
    let mut random = vec![0; 100_000];
    rand::rngs::StdRng::seed_from_u64(1).fill(&mut random[..]);
    let nothing_ends = [uids_of_a_study(), long(Tag(8, 0x1111), "SQ", UNDEFINED, &[])].concat();
    let closes = |kind: Tag| [uids_of_a_study(), delimiter(kind, 0)].concat();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("P80 empty", vec![], EXPLICIT, "Empty"),
        ("P81 random", random.clone(), EXPLICIT, "BadVr"),
        ("P81 random, implicit", random, IMPLICIT, "TooLong"),
        ("P82 explicit sent as implicit", rich(), IMPLICIT, "TooLong"),
        ("P82 explicit sent as big endian", rich(), EXPLICIT_VR_BIG_ENDIAN, "TooLong"),
        ("P82 implicit sent as explicit", implicit(tags::PATIENT_ID, 2, b"X1"), EXPLICIT, "BadVr"),
        ("P83 nested 100 000", nested(100_000), EXPLICIT, "TooDeep"),
        ("P84 nested, defined, implicit", nested_defined, IMPLICIT, "TooDeep"),
        ("P85 never ends", nothing_ends, EXPLICIT, "Unclosed"),
        (
            "P86 longer than it is",
            long(tags::PIXEL_DATA, "OB", 0xFFFF_FFF0, &[0; 12]),
            EXPLICIT,
            "TooLong",
        ),
        (
            "P87 fragment longer than it is",
            [long(tags::PIXEL_DATA, "OB", UNDEFINED, &delimiter(ITEM, 0x7FFF_FFFF)), vec![0; 9]]
                .concat(),
            EXPLICIT,
            "TooLong",
        ),
        (
            "undefined length of text",
            long(Tag(0x40, 0xA160), "UT", UNDEFINED, &[0; 8]),
            EXPLICIT,
            "UndefinedLength",
        ),
        (
            "P95 file meta inside",
            short(Tag(2, 0x10), "UI", "1.2.840.10008.1.2\0"),
            EXPLICIT,
            "Misplaced",
        ),
        ("item outside a sequence", closes(ITEM), EXPLICIT, "Misplaced"),
        ("item end outside an item", closes(ITEM_END), EXPLICIT, "Misplaced"),
        ("sequence end outside a sequence", closes(SEQUENCE_END), EXPLICIT, "Misplaced"),
        (
            "two study UIDs",
            [uids_of_a_study(), short(tags::STUDY_INSTANCE_UID, "UI", "1.2.4")].concat(),
            EXPLICIT,
            "Repeated",
        ),
        (
            "P64 UID of 1000",
            short(tags::STUDY_INSTANCE_UID, "UI", &"1".repeat(1000)),
            EXPLICIT,
            "UidTooLong",
        ),
        ("cut in a header", rich()[..uids_of_a_study().len() + 5].to_vec(), EXPLICIT, "Truncated"),
    ];
    for (name, bytes, syntax, expected) in cases {
        let begun = Instant::now();
        let error = run(&bytes, syntax).expect_err(name);
        let found = format!("{error:?}");
        let found = found.trim_start_matches("Walk(");
        assert!(found.starts_with(expected), "{name}: {found}");
        assert!(!error.is_io(), "{name}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{name} took {:?}", begun.elapsed());
    }
}

/// P94, P96: odd and out of order, but whole.
#[test]
fn a_strange_but_whole_data_set_passes() {
    let mut bytes = Vec::new();
    for i in 0..20_000_u16 {
        bytes.extend(short(Tag(0x0009 + i % 7 * 2, 0x1000 + i / 7), "LO", "?"));
    }
    bytes.extend(uids_of_a_study());
    bytes.extend(short(tags::PATIENT_SEX, "CS", "O "));
    assert_eq!(run(&bytes, EXPLICIT).unwrap().study_uid, "1.2.3");
}

#[test]
fn the_number_of_elements_is_limited() {
    let bytes = short(tags::PATIENT_SEX, "CS", "").repeat(100);
    let limits = ScanLimits { elements_max: 99, ..ScanLimits::default() };
    let syntax = TransferSyntaxUid::parse(EXPLICIT).unwrap();
    let error = scan(Cursor::new(&bytes), bytes.len() as u64, &syntax, &limits).unwrap_err();
    assert!(matches!(error, ScanError::TooManyElements { elements_max: 99 }));
}

/// Bytes changed, cut, doubled: an answer each time, and never a look beyond the end.
#[test]
fn mutants_are_answered_and_never_panic() {
    let mut seeds: Vec<(Vec<u8>, String)> = vec![(rich(), EXPLICIT.into())];
    for (_, bytes, syntax) in pydicom_files().into_iter().filter(|f| f.1.len() < 20_000).take(60) {
        seeds.push((bytes, syntax));
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(20);
    let begun = Instant::now();
    let mut passed = 0;
    for round in 0..30_000 {
        if begun.elapsed() > Duration::from_secs(8) {
            break;
        }
        let (seed, syntax) = &seeds[round % seeds.len()];
        let mut bytes = seed.clone();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes[at] = [0, 0xFF, 0xFE, 0xE0, b'S', b'Q'][random.random_range(0..6)],
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let piece = bytes[at..(at + 64).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        passed += u32::from(run(&bytes, syntax).is_ok());
    }
    assert!(passed > 0, "some mutants are harmless");
}

/// What pydicom ships as its test files: name, data set, transfer syntax. Empty when there is no
/// virtual environment beside the sources.
fn pydicom_files() -> Vec<(PathBuf, Vec<u8>, String)> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let Ok(pythons) = std::fs::read_dir(venv) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = pythons
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/pydicom/data"))
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(head) = Head::read(&path) {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes.drain(..usize::try_from(head.data_at).unwrap());
                files.push((path, bytes, head.transfer_syntax_uid));
            }
        }
    }
    files.sort();
    files
}

/// Files that are broken on purpose, and what is wrong with each.
const BROKEN: &[(&str, &str)] = &[
    ("MR_truncated.dcm", "ends inside its pixels"),
    ("rtplan_truncated.dcm", "ends inside a sequence"),
    ("DICOMDIR-nooffset", "ends inside an item"),
    ("SC_rgb_jpeg.dcm", "implicit VR in a syntax with explicit VR; DCMTK cannot read it either"),
];

#[test]
fn the_files_of_pydicom_pass() {
    let files = pydicom_files();
    let mut refused = Vec::new();
    for (path, bytes, syntax) in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        if let Err(error) = run(bytes, syntax)
            && !BROKEN.iter().any(|(broken, _)| *broken == name)
        {
            refused.push(format!("{name} ({syntax}): {error}"));
        }
    }
    assert!(refused.is_empty(), "{} files, refused:\n{}", files.len(), refused.join("\n"));
}
