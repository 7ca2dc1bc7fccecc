//! (room dicom)
