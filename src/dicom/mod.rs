//! (room dicom)

pub mod charset;
