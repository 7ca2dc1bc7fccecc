use crate::report::ReportError;
use crate::report::ReportInput;
pub fn pdf(_: &ReportInput<'_>) -> Result<Vec<u8>, ReportError> {
    Err(ReportError::Pdf { reason: "not written yet".into() })
}
