//! What may leave the building: an allow-list of context, and pixels only where no text is burned in.

mod pixels;

pub use pixels::Destination;
pub use pixels::pixels;

use crate::domain::context::ClinicalContext;
use crate::domain::context::Earlier;
use crate::domain::identity::Identity;
use crate::domain::study::Study;

/// The context of a request: allow-listed attributes with allow-listed values.
///
/// - `notes`: what an operator wrote for the model, if anything; identifiers of the study are masked.
/// - `earlier`: readings of the same patient; identifiers of this study are masked here as well.
pub fn context(study: &Study, notes: Option<&str>, earlier: Vec<Earlier>) -> ClinicalContext {
    let identity = Identity::of(study);
    let mask =
        |reading: Earlier| Earlier { impression: identity.mask(&reading.impression).0, ..reading };
    let earlier = earlier.into_iter().map(mask).collect();
    ClinicalContext { earlier, ..ClinicalContext::of(study, notes) }
}
