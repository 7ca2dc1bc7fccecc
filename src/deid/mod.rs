//! What may leave the building: an allow-list of context, and pixels only where no text is burned in.

mod pixels;

pub use pixels::Destination;
pub use pixels::pixels;

use crate::domain::context::ClinicalContext;
use crate::domain::study::Study;

/// The context of a request: allow-listed attributes with allow-listed values.
///
/// - `notes`: what an operator wrote for the model, if anything; identifiers of the study are masked.
pub fn context(study: &Study, notes: Option<&str>) -> ClinicalContext {
    ClinicalContext::of(study, notes)
}
