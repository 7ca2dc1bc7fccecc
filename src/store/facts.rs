//! What a receipt would have said, read back from a stored Part 10 file that has none.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;

use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::scan_marked;
use crate::domain::digest;
use crate::domain::origin;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::store::event::Receipt;
use crate::store::event::Source;
use crate::store::part10;

/// A file meta group of ours has some 300 bytes.
const META_BYTES_MAX: u64 = 64 * 1024;

/// Scans a file as `receive` writes them; parses nothing, so that a damaged file does no harm.
/// Who sent it is not in the file (but for the AE title), when it came is the file's time.
pub fn facts_of_file(path: &Path) -> Option<Receipt> {
    let mut file = File::open(path).ok()?;
    let size_bytes = file.metadata().ok()?.len();
    let modified = file.metadata().ok()?.modified().ok()?;
    let meta = read_meta(&mut file).ok()?;
    let transfer_syntax_uid = TransferSyntaxUid::parse(&element(&meta, 0x0010)?).ok()?;
    let rest = size_bytes.checked_sub(144 + meta.len() as u64)?;
    // The file stands at its data set now.
    let limits = ScanLimits::default();
    let facts = scan_marked(BufReader::new(file), rest, &transfer_syntax_uid, &limits).ok()?;
    Some(Receipt {
        study_uid: StudyUid::parse(&facts.study_uid).ok()?,
        series_uid: SeriesUid::parse(&facts.series_uid).ok()?,
        sop_instance_uid: SopInstanceUid::parse(&facts.sop_instance_uid).ok()?,
        sop_class_uid: SopClassUid::parse(&facts.sop_class_uid).ok()?,
        transfer_syntax_uid,
        object: String::new(),
        size_bytes,
        digest: part10::data_set_digest(path, digest::BLAKE3).ok()?,
        from: Source {
            calling_ae: element(&meta, 0x0016).unwrap_or_default(),
            called_ae: String::new(),
            address: "recovered".to_owned(),
            association: String::new(),
        },
        received_at: Timestamp::try_from(modified).ok()?,
        begun_at: None,
        is_original: Some(origin::is_original(&facts.sop_class_uid, &facts.image_type)),
        unreadable: facts.broken,
    })
}

/// The file meta group behind its length (PS3.10 7.1).
fn read_meta(file: &mut File) -> io::Result<Vec<u8>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let length = part10::meta_length(file)?;
    if length > META_BYTES_MAX {
        return Err(bad());
    }
    let mut meta = Vec::new();
    file.take(length).read_to_end(&mut meta)?;
    match meta.len() as u64 == length {
        true => Ok(meta),
        false => Err(bad()),
    }
}

/// Value of (0002,`number`): explicit VR, little endian (PS3.5 7.1.2).
fn element(mut meta: &[u8], number: u16) -> Option<String> {
    loop {
        let found = u16::from_le_bytes(meta.get(2..4)?.try_into().ok()?);
        let (head, length) = match meta.get(4..6)? {
            b"OB" | b"UN" | b"UT" => {
                (12_usize, u32::from_le_bytes(meta.get(8..12)?.try_into().ok()?) as usize)
            }
            _ => (8, usize::from(u16::from_le_bytes(meta.get(6..8)?.try_into().ok()?))),
        };
        let value = meta.get(head..head.checked_add(length)?)?;
        if meta.get(..2)? == [2, 0] && found == number {
            let text = std::str::from_utf8(value).ok()?;
            return Some(text.trim_matches([' ', '\0']).to_owned());
        }
        meta = &meta[head + length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part10(data_set: &[u8]) -> Vec<u8> {
        let element = |group: u16, number: u16, value: &str| {
            let value =
                if value.len().is_multiple_of(2) { value.to_owned() } else { format!("{value}\0") };
            let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
            bytes.extend(if (group, number) == (2, 0x16) { b"AE" } else { b"UI" });
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(value.as_bytes());
            bytes
        };
        let mut meta = b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01".to_vec();
        meta.extend(element(2, 0x10, "1.2.840.10008.1.2.1"));
        meta.extend(element(2, 0x16, "CT1 "));
        let mut file = vec![0; 128];
        file.extend(b"DICM\x02\0\0\0UL\x04\0");
        file.extend((meta.len() as u32).to_le_bytes());
        file.extend(meta);
        file.extend(element(8, 0x16, "1.2.840.10008.5.1.4.1.1.2"));
        file.extend(element(8, 0x18, "1.2.3.4"));
        file.extend(element(0x20, 0xd, "1.2"));
        file.extend(element(0x20, 0xe, "1.2.3"));
        file.extend(data_set);
        file
    }

    #[test]
    fn a_receipt_is_read_back_from_a_file_and_never_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.2.3.4.dcm");
        let whole = part10(b"");
        std::fs::write(&path, &whole).unwrap();
        let receipt = facts_of_file(&path).unwrap();
        assert_eq!(receipt.study_uid.as_str(), "1.2");
        assert_eq!(receipt.series_uid.as_str(), "1.2.3");
        assert_eq!(receipt.sop_instance_uid.as_str(), "1.2.3.4");
        assert_eq!(receipt.transfer_syntax_uid.as_str(), "1.2.840.10008.1.2.1");
        assert_eq!(receipt.from.calling_ae, "CT1");
        assert_eq!(receipt.size_bytes, whole.len() as u64);
        assert_eq!(receipt.digest, part10::data_set_digest(&path, digest::BLAKE3).unwrap());
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(facts_of_file(&path), None, "cut to {length}");
        }
        for at in 132..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            std::fs::write(&path, &flipped).unwrap();
            facts_of_file(&path);
        }
    }
}
