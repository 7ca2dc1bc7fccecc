//! C-FIND as requestor (PS3.4 C.4.1, PS3.7 9.1.2): one question, and each match as it comes.

use crate::dicom::command::Command;
use crate::dicom::command::field;
use crate::dicom::elements::Elements;
use crate::dicom::elements::SYNTAXES;
use crate::dicom::status::Status;
use crate::dicom::status::StatusKind;
use crate::dicom::storage_scu::Open;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;

/// Matches of one question; some archives match everything when they do not know a key.
const MATCHES_MAX: usize = 20_000;

/// An association on which questions are asked one after the other.
pub struct Finder {
    open: Open,
    model: &'static str,
    context: u8,
    transfer_syntax: String,
}

impl Finder {
    /// `model`: the SOP Class UID of the information model that is asked.
    pub async fn open(
        target: &Target,
        timeouts: &Timeouts,
        model: &'static str,
    ) -> Result<Finder, ScuError> {
        let contexts = SYNTAXES.map(|syntax| (model.to_owned(), syntax.to_owned()));
        let open = Open::new(target, timeouts, &contexts).await?;
        let (context, transfer_syntax) = open.first_of(&contexts).ok_or(ScuError::NoContext)?;
        Ok(Finder { open, model, context, transfer_syntax })
    }

    pub async fn release(self) {
        self.open.release().await;
    }

    /// `identifier` encodes the question in a transfer syntax, `on` reads a match of at most
    /// `match_bytes_max`. False: the archive refuses the question, or broke off.
    pub async fn ask(
        &mut self,
        identifier: impl FnOnce(&str) -> Vec<u8>,
        match_bytes_max: usize,
        mut on: impl FnMut(&Elements<'_>),
    ) -> Result<bool, ScuError> {
        let data = identifier(&self.transfer_syntax);
        let id = self.open.next_message_id();
        self.open.request(self.context, &Command::find_request(id, self.model), &data).await?;
        for _match in 0..=MATCHES_MAX {
            let (answer, data) = self.open.response(field::C_FIND_RSP, id, match_bytes_max).await?;
            match Status(answer.status.unwrap_or(0xC000)).kind() {
                StatusKind::Pending => {}
                StatusKind::Success => return Ok(true),
                StatusKind::Warning | StatusKind::Cancelled | StatusKind::Failure => {
                    return Ok(false);
                }
            }
            let found = Elements::read(&data, &self.transfer_syntax);
            on(&found.map_err(|_| ScuError::Protocol { what: "a match that cannot be read" })?);
        }
        Err(ScuError::Protocol { what: "more matches than a question can have" })
    }
}
