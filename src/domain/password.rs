//! Passwords of people and devices: kept as Argon2 hashes in PHC form.

use argon2::Argon2;
use argon2::PasswordHash;
use argon2::PasswordHasher as _;
use argon2::PasswordVerifier as _;

/// Most memory that checking one password may take, KiB.
const MEMORY_MAX_KIB: u32 = 64 * 1024;

/// The hash of a password, with a salt of its own. Takes 20 ms and 19 MiB.
pub fn hash(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password)?.to_string())
}

/// Whether a password is the one that was hashed; as slow as [`hash`].
pub fn is_right(password: &[u8], hash: &str) -> bool {
    let hash = PasswordHash::new(hash);
    hash.is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// What cannot work about a hash.
pub fn problem(hash: &str) -> Option<&'static str> {
    let Ok(hash) = PasswordHash::new(hash) else {
        return Some("is no hash as prelim hash-password prints it");
    };
    match argon2::Params::try_from(&hash) {
        Ok(params) if params.m_cost() <= MEMORY_MAX_KIB => None,
        Ok(_) => Some("takes more than 64 MiB to check"),
        Err(_) => Some("is no Argon2 hash"),
    }
}
