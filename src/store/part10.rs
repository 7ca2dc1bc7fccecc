//! Part 10 files as they are written here.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;

use crate::domain::digest::Hasher;

/// Length of the file meta group behind its first element; the file then stands there.
pub fn meta_length(file: &mut File) -> io::Result<u64> {
    let mut start = [0; 144];
    file.read_exact(&mut start)?;
    if &start[128..132] != b"DICM" || start[132..140] != *b"\x02\0\0\0UL\x04\0" {
        let what = "not a Part 10 file as written here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(start[140..144].iter().rev().fold(0_u64, |sum, b| sum << 8 | u64::from(*b)))
}

/// Digest of the data set of a Part 10 file, of the kind that `like` is: what follows the file meta
/// information, whose length stands in its first element, (0002,0000) (PS3.10 7.1).
pub fn data_set_digest(path: &Path, like: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = meta_length(&mut file)?;
    if io::copy(&mut (&mut file).take(length), &mut io::sink())? != length {
        let what = "shorter than its file meta information";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut hash = Hasher::like(like);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            n => hash.update(&buffer[..n]),
        }
    }
}
