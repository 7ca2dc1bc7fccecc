//! The order of a study: looked up when its images are there.

use crate::domain::order::Sought;
use crate::domain::study::Study;
use crate::orders;
use crate::pipeline::way::Kit;

/// Looks for the order of the study and puts what it says where the images say nothing. The images'
/// own numbers stay as they are. Returns what a reader should know.
pub async fn look_up(kit: &Kit, study: &mut Study) -> Vec<String> {
    let mut notes = Vec::new();
    if !kit.hl7.is_on() && !kit.worklist.is_on() {
        return notes;
    }
    let accession = study.attributes.accession_number.trim();
    let kept = kit.orders.of([study.study_uid.as_str(), accession]);
    study.order = orders::choose(kept, study);
    if kit.worklist.is_on() && !matches!(study.order, Sought::Found { .. }) {
        match kit.worklist.ask(study, &kit.ae_title, kit.clock.now()).await {
            Ok(found) => match (orders::choose(found, study), &study.order) {
                // One that was sent to us for another patient stays a warning.
                (Sought::NotFound, _) => {}
                (sought, _) => study.order = sought,
            },
            Err(error) => {
                tracing::warn!(%error, "the worklist cannot be asked");
                metrics::counter!("prelim_worklist_queries_failed_total").increment(1);
                notes.push("The worklist could not be asked for the order of this study.".into());
            }
        }
    }
    match &study.order {
        Sought::Found { order } => {
            let (order, attributes) = (order.as_ref(), &mut study.attributes);
            for (own, said) in [
                (&mut attributes.reason_for_request, &order.reason),
                (&mut attributes.requested_procedure, &order.procedure_description),
            ] {
                if own.trim().is_empty() {
                    own.clone_from(said);
                }
            }
        }
        Sought::OtherPatient => {
            tracing::warn!(study = %study.study_uid, "an order of this number is of another patient");
            let note = "An order of this accession number names another patient: nothing of it is used, and the number of the images may be wrong.";
            notes.push(note.into());
        }
        Sought::Nowhere | Sought::NotFound => {}
    }
    notes
}
