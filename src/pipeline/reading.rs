//! Who reads a study: the local model behind its gate, or gateways in turn, with what may leave.

use std::time::Duration;

use crate::analysis;
use crate::analysis::AnalyzeError;
use crate::analysis::gate;
use crate::analysis::plan::Route;
use crate::analysis::prompt;
use crate::analysis::provider::Provider;
use crate::deid;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureRef;
use crate::domain::study::Study;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::AnswerRecord;
use crate::pipeline::record::Answered;
use crate::pipeline::record::PicturesRecord;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::record::Request;
use crate::pipeline::steps;
use crate::pipeline::way::Way;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::worker::WorkerError;

/// Asks who the plan says.
///
/// - `is_last`: no further try follows when this one fails.
pub async fn analyse(way: &Way<'_>, is_last: bool) -> Result<Vec<Event>, StepError> {
    let study: Study = way.load(record::STUDY)?;
    let plan: PlanRecord = way.load(record::PLAN)?;
    let mut events = Vec::new();
    let answered = match &plan.route {
        Route::Local => alone(ask_local(way, &study).await?),
        Route::Nobody { reason } => alone(AnswerRecord::NotCovered { reason: reason.clone() }),
        Route::Gateway { .. } if plan.pixels_held.is_some() => alone(AnswerRecord::NeedsReview {
            reason: plan.pixels_held.clone().unwrap_or_default(),
        }),
        Route::Gateway { name, then } => {
            let names: Vec<&String> = [name].into_iter().chain(then).collect();
            ask_in_turn(way, &study, &plan, &names, is_last, &mut events).await?
        }
    };
    way.save(record::ANSWER, &answered)?;
    events.push(way.next(JobKind::Judge));
    Ok(events)
}

fn alone(answer: AnswerRecord) -> Answered {
    Answered { answer, tried: Vec::new() }
}

async fn ask_local(way: &Way<'_>, study: &Study) -> Result<AnswerRecord, StepError> {
    let instance = match gate::gate(study) {
        Ok(instance) => instance.clone(),
        Err(closed) => return Ok(AnswerRecord::NotCovered { reason: closed.reason }),
    };
    match way.kit.pool.local_read(way.kit.store.data(), &instance).await {
        Ok(reading) => Ok(AnswerRecord::Local { instance: Box::new(instance), reading }),
        Err(WorkerError::Refused(reason)) => Ok(AnswerRecord::NeedsReview { reason }),
        Err(error) => Err(steps::unworked(error)),
    }
}

/// The first gateway of those that gives a reading. When none does: a later try where one may do
/// better then; else the local model where its gate opens; else a person.
async fn ask_in_turn(
    way: &Way<'_>,
    study: &Study,
    plan: &PlanRecord,
    names: &[&String],
    is_last: bool,
    events: &mut Vec<Event>,
) -> Result<Answered, StepError> {
    let mut failed = Vec::new();
    for name in names {
        let asked = match way.kit.providers.get(*name) {
            Some(provider) => ask_gateway(way, study, plan, provider.as_ref(), events).await?,
            None => Err(AnalyzeError::Misconfigured {
                provider: (*name).clone(),
                why: "it is not in the configuration any more".to_owned(),
            }),
        };
        match asked {
            Ok(answer) => return Ok(Answered { answer, tried: sentences(&failed) }),
            Err(error) => {
                tracing::warn!(gateway = name, %error, "no reading");
                failed.push(error);
            }
        }
    }
    match after_all(&failed, is_last) {
        After::Again { wait } => {
            Err(StepError { verdict: Failure::Passing { wait }, cause: causes(&failed) })
        }
        After::Person => Ok(alone(AnswerRecord::NeedsReview { reason: causes(&failed) })),
        After::Local => match gate::gate(study) {
            Ok(_) => {
                let answer = ask_local(way, study).await?;
                Ok(Answered { answer, tried: sentences(&failed) })
            }
            // A job for a person, tried again by hand when the gateway can be used.
            Err(_) => Err(StepError::lasting(causes(&failed))),
        },
    }
}

/// What follows when no gateway gave a reading.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// - `wait`: the shortest that one of them named.
    Again {
        wait: Option<Duration>,
    },
    /// At least one has looked, and could not read it.
    Person,
    Local,
}

fn after_all(failed: &[AnalyzeError], is_last: bool) -> After {
    if !is_last && failed.iter().any(AnalyzeError::is_transient) {
        let passing = failed.iter().filter(|error| error.is_transient());
        let waits: Option<Vec<Duration>> = passing.map(AnalyzeError::retry_after).collect();
        return After::Again { wait: waits.and_then(|waits| waits.into_iter().min()) };
    }
    match failed.iter().any(AnalyzeError::is_for_review) {
        true => After::Person,
        false => After::Local,
    }
}

fn causes(failed: &[AnalyzeError]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// For a reader of the report.
fn sentences(failed: &[AnalyzeError]) -> Vec<String> {
    failed.iter().map(|error| format!("Read by another, because {error}.")).collect()
}

/// What one gateway makes of the pictures, made smaller until it takes them.
async fn ask_gateway(
    way: &Way<'_>,
    study: &Study,
    plan: &PlanRecord,
    provider: &dyn Provider,
    events: &mut Vec<Event>,
) -> Result<Result<AnswerRecord, AnalyzeError>, StepError> {
    let request: Request = way.load_if_there(record::REQUEST)?.unwrap_or_default();
    let notes = (!request.clinical_notes.is_empty()).then_some(request.clinical_notes.as_str());
    let context = deid::context(study, notes);
    let mut budget = plan.profile.pictures.clone();
    let mut made: PicturesRecord = way.load(record::PICTURES)?;
    loop {
        if made.pictures.is_empty() {
            let reason = "none of the images could be shown to a model".to_owned();
            return Ok(Ok(AnswerRecord::NeedsReview { reason }));
        }
        let prompt = prompt::render(&plan.profile, &context, study, &made.pictures);
        let prompt = prompt.map_err(StepError::lasting)?;
        let pictures = load_pictures(way, &made)?;
        let error = match analysis::analyze(provider, &prompt, &pictures, &plan.profile).await {
            Ok(reading) => return Ok(Ok(AnswerRecord::Gateway { reading: Box::new(reading) })),
            Err(error) => error,
        };
        let smaller = match error {
            AnalyzeError::TooLarge { .. } => analysis::smaller(&budget),
            _ => None,
        };
        let Some(smaller) = smaller else { return Ok(Err(error)) };
        let (again, written) = steps::make_pictures(way, study, plan, &smaller).await?;
        (made, budget) = (again, smaller);
        events.extend(written);
    }
}

fn load_pictures(way: &Way<'_>, made: &PicturesRecord) -> Result<Vec<Picture>, StepError> {
    let load = |reference: &PictureRef| {
        let bytes = way.load_bytes(&reference.file)?;
        let bytes = bytes.ok_or_else(|| StepError::lasting("a picture is gone"))?;
        let media_type = match reference.file.ends_with(".png") {
            true => "image/png",
            false => "image/jpeg",
        };
        Ok(Picture { reference: reference.clone(), media_type, bytes })
    };
    made.pictures.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::BadAnswer;

    #[test]
    fn a_study_that_no_gateway_reads_goes_on_by_what_failed() {
        let provider = || "main".to_owned();
        let wait = Duration::from_secs(20);
        let gone = AnalyzeError::Unreachable { provider: provider(), why: String::new() };
        let busy =
            AnalyzeError::Busy { provider: provider(), status: 503, retry_after: Some(wait) };
        let resting = AnalyzeError::Resting { provider: provider(), wait: wait * 2 };
        let refused = AnalyzeError::Refused { provider: provider(), status: 401 };
        let refusal = AnalyzeError::BadAnswer { provider: provider(), why: BadAnswer::Refusal };
        let large = AnalyzeError::TooLarge { provider: provider() };
        let again = |wait| After::Again { wait };
        for (failed, is_last, after) in [
            (vec![&gone], false, again(None)),
            (vec![&gone], true, After::Local),
            (vec![&busy, &resting], false, again(Some(wait))),
            (vec![&busy, &gone], false, again(None)),
            (vec![&refused, &busy], false, again(Some(wait))),
            (vec![&refused], false, After::Local),
            (vec![&refused, &refusal], false, After::Person),
            (vec![&refusal, &gone], false, again(None)),
            (vec![&refusal, &gone], true, After::Person),
            (vec![&large], false, After::Person),
        ] {
            let told = format!("{failed:?} {is_last}");
            let failed: Vec<AnalyzeError> = failed.into_iter().cloned().collect();
            assert_eq!(after_all(&failed, is_last), after, "{told}");
        }
    }
}
