//! The demo's PACS stand-in: a storage SCP that keeps what it is sent as Part 10 files.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use dicom_object::FileMetaTableBuilder;
use tokio::io::AsyncWriteExt as _;

use crate::dicom::status::Status;
use crate::dicom::storage_scp::InstanceSink;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::StorageHandler;
use crate::dicom::storage_scp::StoreRequest;
use crate::domain::uid::SopInstanceUid;

/// Keeps each instance as `<folder>/<SOP Instance UID>.dcm`.
pub struct Folder(pub PathBuf);

#[async_trait]
impl StorageHandler for Folder {
    async fn begin(&self, request: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal> {
        let refuse = |why: String| Refusal::new(Status::CANNOT_UNDERSTAND, why);
        let uid =
            SopInstanceUid::parse(&request.sop_instance_uid).map_err(|e| refuse(e.to_string()))?;
        let mut head = vec![0u8; 128];
        head.extend_from_slice(b"DICM");
        FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(request.sop_class_uid)
            .media_storage_sop_instance_uid(uid.as_str())
            .transfer_syntax(request.transfer_syntax_uid)
            .build()
            .map_err(|e| refuse(e.to_string()))?
            .write(&mut head)
            .map_err(|e| refuse(e.to_string()))?;
        let part = self.0.join(format!("{uid}.part"));
        let mut file = tokio::fs::File::create(&part).await.map_err(full)?;
        file.write_all(&head).await.map_err(full)?;
        Ok(Box::new(Kept { file, part, whole: self.0.join(format!("{uid}.dcm")) }))
    }
}

struct Kept {
    file: tokio::fs::File,
    part: PathBuf,
    whole: PathBuf,
}

#[async_trait]
impl InstanceSink for Kept {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        self.file.write_all(&chunk).await.map_err(full)
    }

    async fn finish(mut self: Box<Self>) -> Result<(), Refusal> {
        self.file.flush().await.map_err(full)?;
        tokio::fs::rename(&self.part, &self.whole).await.map_err(full)
    }
}

fn full(error: std::io::Error) -> Refusal {
    Refusal::new(Status::OUT_OF_RESOURCES, error.to_string())
}
