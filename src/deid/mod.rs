//! What may leave the building: an allow-list of context, and pixels in which text is masked.

mod config;
mod instruction;
mod network;
mod pixels;
mod reading;
pub mod text;
mod tilt;

pub use config::Config;
pub use config::Policy;
pub use pixels::Leaving;
pub use pixels::leaving;
pub use pixels::staying;

use crate::domain::context::ClinicalContext;
use crate::domain::context::Earlier;
use crate::domain::identity::Identity;
use crate::domain::study::Study;

/// The context of a request: allow-listed attributes with allow-listed values.
///
/// - `notes`: what an operator wrote for the model, if anything; identifiers of the study are masked.
/// - `earlier`: readings of the same patient; identifiers of this study are masked here as well.
///
/// Text that speaks to a model is in none of it: also returns where such text stands.
pub fn context(
    study: &Study,
    notes: Option<&str>,
    earlier: Vec<Earlier>,
) -> (ClinicalContext, Vec<&'static str>) {
    let identity = Identity::of(study);
    let mask =
        |reading: Earlier| Earlier { impression: identity.mask(&reading.impression).0, ..reading };
    let earlier = earlier.into_iter().map(mask).collect();
    let mut context = ClinicalContext { earlier, ..ClinicalContext::of(study, notes) };
    let instructions = instruction::take_out(study, &mut context);
    (context, instructions)
}
