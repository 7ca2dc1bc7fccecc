//! Headers, pixels, pictures and measurements of what came from outside. Runs in a worker.

pub mod dataset;
pub mod decode;
pub mod density;
pub mod document;
pub mod frames;
pub mod inspect;
pub mod json;
pub mod key_image;
pub mod measure;
pub mod montage;
pub mod picture;
pub mod select;
pub mod show;
pub mod survey;
pub mod transcode;
pub mod window;
pub mod wrap;

mod codec;
#[cfg(test)]
mod compare;
mod encapsulated;
pub mod glyphs;
mod jpeg;
mod jpeg12;
mod native;
mod palette;

/// Why an instance gives no picture. Holds no value that names a patient.
#[derive(Debug, thiserror::Error)]
pub enum ImagingError {
    #[error("cannot read: {0}")]
    Unreadable(#[from] dataset::Unreadable),
    #[error("cannot decode: {0}")]
    Undecodable(String),
    #[error("has no pixels")]
    NoPixels,
    #[error("cannot make a picture: {0}")]
    Picture(String),
    #[error("is not shown outside: {0}")]
    NotShown(String),
}

impl ImagingError {
    fn undecodable(why: impl Into<String>) -> ImagingError {
        ImagingError::Undecodable(why.into())
    }
}
