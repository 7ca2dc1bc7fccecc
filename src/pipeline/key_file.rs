//! Keys of this node in its data folder.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads a key of the data folder, or makes one, for its owner alone.
///
/// - `lost`: what a key that was damaged and is made anew costs.
pub fn open(data: &Path, file: &str, lost: &str) -> std::io::Result<[u8; 32]> {
    let path = data.join(file);
    match std::fs::read(&path).map(<[u8; 32]>::try_from) {
        Ok(Ok(key)) => return Ok(key),
        Ok(Err(_)) => tracing::warn!("{file} is damaged and made anew: {lost}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; 32] = rand::random();
    let new = data.join(format!("{file}.tmp"));
    let _ = std::fs::remove_file(&new);
    let mut written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(&key)?;
    written.sync_all()?;
    std::fs::rename(new, path)?;
    Ok(key)
}
