use super::*;

fn element(number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut out = [2_u16.to_le_bytes(), number.to_le_bytes()].concat();
    out.extend_from_slice(vr.as_bytes());
    match vr {
        "OB" => {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        }
        _ => out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes()),
    }
    out.extend_from_slice(value);
    out
}

fn part10(instance: &str, data_set: &[u8]) -> Vec<u8> {
    [
        vec![0; 128],
        b"DICM".to_vec(),
        element(1, "OB", &[0, 1]),
        element(2, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        element(3, "UI", instance.as_bytes()),
        element(0x10, "UI", b"1.2.840.10008.1.2.1\0"),
        data_set.to_vec(),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Result<Head, HeadError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Head::read(file.path())
}

/// No group length, as some writers leave it out.
#[test]
fn the_head_of_a_file_says_what_and_where() {
    let head = read(&part10("1.2.3", b"\x08\x00\x05\x00CS\x00\x00")).unwrap();
    assert_eq!(head.sop_class_uid, uids::CT_IMAGE_STORAGE);
    assert_eq!((head.sop_instance_uid.as_str(), head.data_bytes), ("1.2.3", 8));
    assert_eq!(head.transfer_syntax_uid, uids::EXPLICIT_VR_LITTLE_ENDIAN);
}

#[test]
fn the_data_set_has_the_last_word_on_what_it_is() {
    let data_set = b"\x08\x00\x18\x00UI\x06\x001.2.4\0";
    let head = read(&part10("1.2.3", data_set)).unwrap();
    assert_eq!(head.sop_instance_uid, "1.2.4");
    assert_eq!(head.sop_class_uid, uids::CT_IMAGE_STORAGE);
    assert_eq!(read(&part10("", data_set)).unwrap().sop_instance_uid, "1.2.4");
}

#[test]
fn what_is_no_part_10_file_is_told() {
    assert!(matches!(read(b"GIF89a"), Err(HeadError::NotPart10)));
    assert!(matches!(read(&part10("1.2.3", b"")), Err(HeadError::Empty)));
    assert!(matches!(read(&part10("../x", b"12345678")), Err(HeadError::BadMeta)));
    let mut cut = part10("1.2.3", b"");
    cut.truncate(150);
    assert!(matches!(read(&cut), Err(HeadError::BadMeta)));
    assert!(matches!(Head::read(Path::new("/nowhere")), Err(HeadError::Io(_))));
}
