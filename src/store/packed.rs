//! Instances in the index: many in one row, so that a million of them is a small tree.
//!
//! ```text
//! i <hash of the study, 8> <number u32>     a block: up to 64 instances in the order of arrival,
//!                                           each as what differs from the one before
//! n <first 2 bytes of the hash of a SOP Instance UID>
//!                                           places: of each instance 8 more bytes of its hash,
//!                                           the hash of its study, the number of its block
//! ```
//! A hash only says where to look; what counts is the UID that stands in the block.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::text;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::store::error::StoreError;
use crate::store::event::Receipt;
use crate::store::event::Source;
use crate::store::key;
use crate::store::rows::InstanceRow;

/// Instances in a block: more make the change of one dear, fewer make more rows.
pub const BLOCK_ROWS: usize = 64;
const PLACE_BYTES: usize = 20;

/// Where an instance may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    hash: [u8; 8],
    pub study: [u8; 8],
    pub block: u32,
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[..N]);
    part
}

pub fn hash_of_study(study: &StudyUid) -> [u8; 8] {
    first(blake3::hash(study.as_str().as_bytes()).as_bytes())
}

/// The bucket that names the instance, and its mark there.
pub fn hash_of_instance(sop: &SopInstanceUid) -> ([u8; 2], [u8; 8]) {
    let hash = blake3::hash(sop.as_str().as_bytes());
    (first(hash.as_bytes()), first(&hash.as_bytes()[2..]))
}

pub fn decode_places(bytes: &[u8]) -> Result<Vec<Place>, StoreError> {
    if !bytes.len().is_multiple_of(PLACE_BYTES) {
        return Err(StoreError::index("a row of places has a wrong length"));
    }
    let place = |bytes: &[u8]| Place {
        hash: first(bytes),
        study: first(&bytes[8..]),
        block: u32::from_be_bytes(first(&bytes[16..])),
    };
    Ok(bytes.chunks_exact(PLACE_BYTES).map(place).collect())
}

fn encode_places(places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(places.len() * PLACE_BYTES);
    for place in places {
        bytes.extend(place.hash);
        bytes.extend(place.study);
        bytes.extend(place.block.to_be_bytes());
    }
    bytes
}

/// Places in a bucket that may be those of this instance.
pub fn candidates(places: &[Place], mark: [u8; 8]) -> impl Iterator<Item = Place> {
    places.iter().copied().filter(move |place| place.hash == mark)
}

/// Reads a row as it stands in sled.
pub trait Read {
    fn read(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError>;
    /// The last key with this prefix.
    fn last(&self, prefix: &[u8]) -> Result<Option<sled::IVec>, StoreError>;
}

/// Changes of instances on their way into blocks and places.
pub struct Packing<'a> {
    from: &'a dyn Read,
    blocks: BTreeMap<([u8; 8], u32), Vec<InstanceRow>>,
    places: BTreeMap<[u8; 2], Vec<Place>>,
    /// Number of the last block of a study.
    last: HashMap<[u8; 8], Option<u32>>,
}

impl<'a> Packing<'a> {
    pub fn new(from: &'a dyn Read) -> Packing<'a> {
        let (blocks, places) = Default::default();
        Packing { from, blocks, places, last: HashMap::new() }
    }

    fn block(&mut self, study: [u8; 8], number: u32) -> Result<&mut Vec<InstanceRow>, StoreError> {
        let rows = match self.blocks.remove(&(study, number)) {
            Some(rows) => rows,
            None => match self.from.read(&key::block(study, number))? {
                Some(bytes) => decode(&bytes)?,
                None => Vec::new(),
            },
        };
        Ok(self.blocks.entry((study, number)).or_insert(rows))
    }

    fn bucket(&mut self, bucket: [u8; 2]) -> Result<&mut Vec<Place>, StoreError> {
        let places = match self.places.remove(&bucket) {
            Some(places) => places,
            None => match self.from.read(&key::places(bucket))? {
                Some(bytes) => decode_places(&bytes)?,
                None => Vec::new(),
            },
        };
        Ok(self.places.entry(bucket).or_insert(places))
    }

    /// The block and the place in it where the instance stands.
    fn find(&mut self, sop: &SopInstanceUid) -> Result<Option<(Place, usize)>, StoreError> {
        let (bucket, mark) = hash_of_instance(sop);
        let found: Vec<Place> = candidates(self.bucket(bucket)?, mark).collect();
        for place in found {
            let rows = self.block(place.study, place.block)?;
            if let Some(at) = rows.iter().position(|row| row.receipt.sop_instance_uid == *sop) {
                return Ok(Some((place, at)));
            }
        }
        Ok(None)
    }

    pub fn remove(&mut self, sop: &SopInstanceUid) -> Result<(), StoreError> {
        let Some((place, at)) = self.find(sop)? else { return Ok(()) };
        self.block(place.study, place.block)?.remove(at);
        self.last.remove(&place.study);
        let (bucket, _) = hash_of_instance(sop);
        self.bucket(bucket)?.retain(|other| *other != place);
        Ok(())
    }

    /// Replaces the row of an instance that is there, or appends a new one. New ones of a study
    /// come in the order of their arrival.
    pub fn put(&mut self, row: &Arc<InstanceRow>) -> Result<(), StoreError> {
        let sop = &row.receipt.sop_instance_uid;
        if let Some((place, at)) = self.find(sop)? {
            self.block(place.study, place.block)?[at] = InstanceRow::clone(row);
            return Ok(());
        }
        let study = hash_of_study(&row.receipt.study_uid);
        let mut block = match self.last.get(&study) {
            Some(last) => *last,
            None => self.last_block(study)?,
        };
        if let Some(number) = block
            && self.block(study, number)?.len() >= BLOCK_ROWS
        {
            block = Some(number + 1);
        }
        let block = block.unwrap_or(0);
        self.block(study, block)?.push(InstanceRow::clone(row));
        self.last.insert(study, Some(block));
        let (bucket, hash) = hash_of_instance(sop);
        let places = self.bucket(bucket)?;
        places.push(Place { hash, study, block });
        places.sort();
        Ok(())
    }

    /// The last block that holds something.
    fn last_block(&mut self, study: [u8; 8]) -> Result<Option<u32>, StoreError> {
        let known = self.blocks.range((study, 0)..=(study, u32::MAX)).next_back();
        let known = known.map(|((_, number), _)| *number);
        let stored = self.from.last(&key::instances(study))?;
        let stored = stored.map(|key| u32::from_be_bytes(first(&key[key.len() - 4..])));
        let mut last = known.max(stored);
        while let Some(number) = last {
            if !self.block(study, number)?.is_empty() {
                break;
            }
            last = number.checked_sub(1);
        }
        Ok(last)
    }

    /// Every row that was looked at, as it is now; `None` when nothing is left in it.
    pub fn finish(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let blocks = self.blocks.iter().map(|((study, number), rows)| {
            (key::block(*study, *number), (!rows.is_empty()).then(|| encode(rows)))
        });
        let places = self.places.iter().map(|(bucket, places)| {
            (key::places(*bucket), (!places.is_empty()).then(|| encode_places(places)))
        });
        blocks.chain(places).collect()
    }
}

pub fn encode(rows: &[InstanceRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 200);
    let mut before = None;
    for row in rows {
        let InstanceRow { receipt, revision, order, versions } = row;
        number(&mut out, u64::from(*revision));
        number(&mut out, *order);
        put_receipt(&mut out, receipt, before);
        number(&mut out, versions.len() as u64);
        for version in versions {
            put_receipt(&mut out, version, Some(receipt));
        }
        before = Some(receipt);
    }
    out
}

pub fn decode(bytes: &[u8]) -> Result<Vec<InstanceRow>, StoreError> {
    let mut from = From(bytes);
    let mut rows: Vec<InstanceRow> = Vec::with_capacity(BLOCK_ROWS);
    while !from.0.is_empty() {
        let before = rows.last().map(|row| &row.receipt);
        let row = from.row(before).ok_or_else(|| StoreError::index("a block of instances"))?;
        rows.push(row);
    }
    Ok(rows)
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A text as the length of what it shares with the one before, and the rest.
fn put_text(out: &mut Vec<u8>, text: &str, before: &str) {
    let mut same = text.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
    while !text.is_char_boundary(same) {
        same -= 1;
    }
    number(out, same as u64);
    number(out, (text.len() - same) as u64);
    out.extend(&text.as_bytes()[same..]);
}

fn put_receipt(out: &mut Vec<u8>, receipt: &Receipt, before: Option<&Receipt>) {
    let Receipt {
        study_uid,
        series_uid,
        sop_instance_uid,
        sop_class_uid,
        transfer_syntax_uid,
        object,
        size_bytes,
        digest,
        from,
        received_at,
        begun_at: _,
        is_original: _,
        unreadable,
    } = receipt;
    let Source { calling_ae, called_ae, address, association } = from;
    let mut text = |text: &str, part: fn(&Receipt) -> &str| {
        put_text(out, text, before.map_or("", part));
    };
    text(study_uid.as_str(), |r| r.study_uid.as_str());
    text(series_uid.as_str(), |r| r.series_uid.as_str());
    text(sop_instance_uid.as_str(), |r| r.sop_instance_uid.as_str());
    text(sop_class_uid.as_str(), |r| r.sop_class_uid.as_str());
    text(transfer_syntax_uid.as_str(), |r| r.transfer_syntax_uid.as_str());
    text(object, |r| &r.object);
    text(calling_ae, |r| &r.from.calling_ae);
    text(called_ae, |r| &r.from.called_ae);
    text(address, |r| &r.from.address);
    text(association, |r| &r.from.association);
    number(out, *size_bytes);
    // Zigzag: times before 1970 are small numbers too.
    let second = received_at.as_second();
    number(out, ((second << 1) ^ (second >> 63)) as u64);
    number(out, u64::from(received_at.subsec_nanosecond().unsigned_abs()));
    put_digest(out, digest);
    number(out, unreadable.is_some().into());
    if let Some(why) = unreadable {
        put_text(out, why, "");
    }
}

/// 64 hexadecimal digits at the end take 32 bytes.
fn put_digest(out: &mut Vec<u8>, digest: &str) {
    let kind = digest.len().checked_sub(64).and_then(|at| digest.split_at_checked(at));
    let bytes = kind.and_then(|(kind, hex)| Some((kind, unhex(hex)?)));
    match bytes {
        Some((kind, bytes)) => {
            number(out, kind.len() as u64 * 2 + 1);
            out.extend(kind.as_bytes());
            out.extend(bytes);
        }
        None => {
            number(out, digest.len() as u64 * 2);
            out.extend(digest.as_bytes());
        }
    }
}

fn unhex(hex: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// What is left of a block.
struct From<'a>(&'a [u8]);

impl From<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn bytes(&mut self, length: u64) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self, before: &str) -> Option<String> {
        let same = usize::try_from(self.number()?).ok()?;
        let length = self.number()?;
        let mut text = before.get(..same)?.to_owned();
        text.push_str(std::str::from_utf8(self.bytes(length)?).ok()?);
        Some(text)
    }

    fn digest(&mut self) -> Option<String> {
        let length = self.number()?;
        let mut digest = std::str::from_utf8(self.bytes(length / 2)?).ok()?.to_owned();
        if length % 2 == 1 {
            digest.push_str(&text::hex(self.bytes(32)?));
        }
        Some(digest)
    }

    fn row(&mut self, before: Option<&Receipt>) -> Option<InstanceRow> {
        let (revision, order) = (u32::try_from(self.number()?).ok()?, self.number()?);
        let receipt = self.receipt(before)?;
        let mut versions = Vec::new();
        for _ in 0..self.number()? {
            versions.push(self.receipt(Some(&receipt))?);
        }
        Some(InstanceRow { receipt, revision, order, versions })
    }

    fn receipt(&mut self, before: Option<&Receipt>) -> Option<Receipt> {
        let mut text = |part: fn(&Receipt) -> &str| self.text(before.map_or("", part));
        let study_uid = StudyUid::parse(&text(|r| r.study_uid.as_str())?).ok()?;
        let series_uid = SeriesUid::parse(&text(|r| r.series_uid.as_str())?).ok()?;
        let sop_instance_uid =
            SopInstanceUid::parse(&text(|r| r.sop_instance_uid.as_str())?).ok()?;
        let sop_class_uid = SopClassUid::parse(&text(|r| r.sop_class_uid.as_str())?).ok()?;
        let transfer_syntax_uid =
            TransferSyntaxUid::parse(&text(|r| r.transfer_syntax_uid.as_str())?).ok()?;
        let object = text(|r| &r.object)?;
        let from = Source {
            calling_ae: text(|r| &r.from.calling_ae)?,
            called_ae: text(|r| &r.from.called_ae)?,
            address: text(|r| &r.from.address)?,
            association: text(|r| &r.from.association)?,
        };
        let size_bytes = self.number()?;
        let zigzag = self.number()?;
        let second = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let nanosecond = i32::try_from(self.number()?).ok()?;
        let nanosecond = if second < 0 { -nanosecond } else { nanosecond };
        let received_at = Timestamp::new(second, nanosecond).ok()?;
        let digest = self.digest()?;
        let unreadable = match self.number()? {
            0 => None,
            _ => Some(self.text("")?),
        };
        Some(Receipt {
            study_uid,
            series_uid,
            sop_instance_uid,
            sop_class_uid,
            transfer_syntax_uid,
            object,
            size_bytes,
            digest,
            from,
            received_at,
            begun_at: None,
            unreadable,
            is_original: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::receipt as testing_receipt;

    fn row(n: u32, instance: u32) -> InstanceRow {
        let mut receipt = testing_receipt(n, instance, &format!("blake3:{:064x}", instance));
        receipt.from.calling_ae =
            if instance.is_multiple_of(3) { "CT\u{e9}1" } else { "CT\u{e8}22" }.into();
        receipt.received_at = Timestamp::from_nanosecond(-7_000_000_001 + i128::from(n)).unwrap();
        receipt.unreadable = (instance.is_multiple_of(7)).then(|| "nested too deep".into());
        if instance.is_multiple_of(5) {
            receipt.digest = format!("{:064X}", instance);
        }
        let versions =
            (0..instance % 3).map(|v| testing_receipt(n, instance, &format!("v{v}"))).collect();
        InstanceRow {
            receipt,
            revision: instance % 3 + 1,
            order: u64::from(instance) << 33,
            versions,
        }
    }

    #[test]
    fn a_block_is_read_back_as_it_was_and_a_broken_one_is_an_error() {
        let rows: Vec<InstanceRow> =
            (0..70).map(|instance| row(1 + instance / 40, instance)).collect();
        let bytes = encode(&rows);
        assert_eq!(decode(&bytes).unwrap(), rows);
        assert!(bytes.len() < 70 * 200, "{} bytes", bytes.len());
        for length in (0..bytes.len()).step_by(37) {
            let _ = decode(&bytes[..length]);
            let mut flipped = bytes.clone();
            flipped[length] ^= 0x81;
            let _ = decode(&flipped);
        }
    }
}
