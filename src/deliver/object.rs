//! What a result object says of itself.

use std::path::Path;

use crate::deliver::DeliverError;
use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::scan;
use crate::dicom::storage_commitment::Reference;
use crate::dicom::storage_scu::Head;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::TransferSyntaxUid;

/// What an archive is asked about.
pub struct Object {
    pub study_uid: String,
    pub series_uid: String,
    pub reference: Reference,
}

impl Object {
    /// - `bytes`: of a Part 10 file.
    pub fn of(bytes: &[u8]) -> Result<Object, DeliverError> {
        let broken = || DeliverError::Settings { what: "the result is no DICOM object".into() };
        let head = Head::of_bytes(bytes).map_err(|_| broken())?;
        let at = usize::try_from(head.data_at).map_err(|_| broken())?;
        let data = bytes.get(at..).ok_or_else(broken)?;
        let syntax = TransferSyntaxUid::parse(&head.transfer_syntax_uid).map_err(|_| broken())?;
        let (length, limits) = (data.len() as u64, ScanLimits::default());
        let facts = scan(std::io::Cursor::new(data), length, &syntax, &limits);
        let facts = facts.map_err(|_| broken())?;
        let class = SopClassUid::parse(&head.sop_class_uid).map_err(|_| broken())?;
        let instance = SopInstanceUid::parse(&head.sop_instance_uid).map_err(|_| broken())?;
        Ok(Object {
            study_uid: facts.study_uid,
            series_uid: facts.series_uid,
            reference: (class, instance),
        })
    }
}

/// A result file.
pub async fn read(file: &Path) -> Result<Vec<u8>, DeliverError> {
    let unread = |source| DeliverError::File { what: "the result cannot be read", source };
    tokio::fs::read(file).await.map_err(unread)
}
