//! Who reads a study: the local model behind its gate, or gateways in turn, with what may leave.

use std::time::Duration;

use crate::analysis;
use crate::analysis::AnalyzeError;
use crate::analysis::Reading;
use crate::analysis::gate;
use crate::analysis::plan::Route;
use crate::analysis::prompt;
use crate::analysis::provider::Provider;
use crate::analysis::strategy;
use crate::analysis::strategy::Settled;
use crate::analysis::strategy::Tier;
use crate::analysis::strategy::Tiered;
use crate::deid;
use crate::domain::context::ClinicalContext;
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
use crate::pipeline::record::Run;
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
        Route::Gateway { name, then, tiers } => {
            let mut asking = Asking::begin(way, &study, &plan)?;
            let answered = match asking.why_nobody() {
                Some(reason) => Ok(alone(AnswerRecord::NeedsReview { reason })),
                None => asking.in_tiers(name, then, tiers, is_last).await,
            };
            // Also of a try that failed: the next one does not ask again what was answered.
            asking.keep_runs()?;
            events.append(&mut asking.events);
            answered?
        }
    };
    way.save(record::ANSWER, &answered)?;
    events.push(way.next(JobKind::Judge));
    Ok(events)
}

fn alone(answer: AnswerRecord) -> Answered {
    Answered { answer, notes: Vec::new(), review: None }
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

/// The asking of gateways about one study.
struct Asking<'a> {
    way: &'a Way<'a>,
    study: &'a Study,
    plan: &'a PlanRecord,
    /// What else of the patient may leave.
    context: ClinicalContext,
    made: PicturesRecord,
    /// Of this try, after those of the tries before that gave a reading.
    runs: Vec<Run>,
    events: Vec<Event>,
}

impl<'a> Asking<'a> {
    fn begin(
        way: &'a Way<'a>,
        study: &'a Study,
        plan: &'a PlanRecord,
    ) -> Result<Asking<'a>, StepError> {
        let runs: Vec<Run> = way.load_if_there(record::RUNS)?.unwrap_or_default();
        let runs = runs.into_iter().filter(|run| run.reading.is_some()).collect();
        let request: Request = way.load_if_there(record::REQUEST)?.unwrap_or_default();
        let notes = (!request.clinical_notes.is_empty()).then_some(request.clinical_notes.as_str());
        let context = deid::context(study, notes);
        let made = way.load(record::PICTURES)?;
        Ok(Asking { way, study, plan, context, made, runs, events: Vec::new() })
    }

    /// Why no gateway may be asked.
    fn why_nobody(&self) -> Option<String> {
        let none = || "none of the images could be shown to a model".to_owned();
        self.plan.pixels_held.clone().or_else(|| self.made.pictures.is_empty().then(none))
    }

    fn keep_runs(&mut self) -> Result<(), StepError> {
        let bytes = serde_json::to_vec_pretty(&self.runs).map_err(StepError::lasting)?;
        self.events.push(self.way.keep(record::RUNS, "application/json", &bytes)?);
        Ok(())
    }

    /// A cheap look, the reading, a third opinion: as far as there are such models and each is
    /// needed.
    async fn in_tiers(
        &mut self,
        name: &str,
        then: &[String],
        tiers: &Tiered,
        is_last: bool,
    ) -> Result<Answered, StepError> {
        let mut notes = Vec::new();
        if !tiers.screen.is_empty() {
            match self.one(Tier::Screen, &tiers.screen).await? {
                Ok(reading) => match strategy::after_screen(
                    &reading.answer,
                    &self.plan.profile.findings,
                    tiers.confident,
                ) {
                    Ok(why) => {
                        let told = format!("Screened only by {}: {why}.", tiers.screen);
                        self.say(&why);
                        return Ok(Answered { notes: vec![told], ..gateway(reading) });
                    }
                    Err(why) => self.say(&why),
                },
                Err(error) => notes.push(format!("Not screened, because {error}.")),
            }
        }
        let reading = match self.in_turn(name, then, is_last).await? {
            Answered { answer: AnswerRecord::Gateway { reading }, notes: more, .. } => {
                notes.extend(more);
                *reading
            }
            Answered { answer, notes: more, review } => {
                notes.extend(more);
                return Ok(Answered { answer, notes, review });
            }
        };
        // Without a strategy the reading is what it is.
        let is_tiered = !(tiers.screen.is_empty() && tiers.third.is_empty());
        let unsure = strategy::after_read(&reading.answer, tiers.unsure).filter(|_| is_tiered);
        let Some(why) = unsure else {
            return Ok(Answered { notes, ..gateway(reading) });
        };
        self.say(&why);
        if tiers.third.is_empty() {
            return Ok(Answered { notes, review: Some(why), ..gateway(reading) });
        }
        match self.one(Tier::Third, &tiers.third).await? {
            Ok(third) => {
                notes.push(format!("Read again by {}, because {why}.", tiers.third));
                let Settled { third_counts, review } =
                    strategy::settle(&reading.answer, &third.answer);
                self.say(review.as_deref().unwrap_or("the two agree"));
                let counts = if third_counts { third } else { reading };
                Ok(Answered { notes, review, ..gateway(counts) })
            }
            Err(error) => {
                let review = Some(format!("{why}, and no third reading: {error}"));
                Ok(Answered { notes, review, ..gateway(reading) })
            }
        }
    }

    /// The first of these gateways that gives a reading. When none does: a later try where one may
    /// do better then; else the local model where its gate opens; else a person.
    async fn in_turn(
        &mut self,
        name: &str,
        then: &[String],
        is_last: bool,
    ) -> Result<Answered, StepError> {
        let mut failed = Vec::new();
        for name in [name].into_iter().chain(then.iter().map(String::as_str)) {
            match self.one(Tier::Read, name).await? {
                Ok(reading) => {
                    return Ok(Answered { notes: sentences(&failed), ..gateway(reading) });
                }
                Err(error) => failed.push(error),
            }
        }
        match after_all(&failed, is_last) {
            After::Again { wait } => {
                Err(StepError { verdict: Failure::Passing { wait }, cause: causes(&failed) })
            }
            After::Person => Ok(alone(AnswerRecord::NeedsReview { reason: causes(&failed) })),
            After::Local => match gate::gate(self.study) {
                Ok(_) => {
                    let answer = ask_local(self.way, self.study).await?;
                    Ok(Answered { notes: sentences(&failed), ..alone(answer) })
                }
                // A job for a person, tried again by hand when the gateway can be used.
                Err(_) => Err(StepError::lasting(causes(&failed))),
            },
        }
    }

    /// What one gateway says, or has said in a try before.
    async fn one(
        &mut self,
        tier: Tier,
        name: &str,
    ) -> Result<Result<Reading, AnalyzeError>, StepError> {
        let before = |run: &Run| run.tier == tier && run.gateway == name && run.reading.is_some();
        if let Some(at) = self.runs.iter().position(before) {
            // `say` speaks of the last.
            self.runs[at..].rotate_left(1);
            if let Some(reading) = self.runs.last().and_then(|run| run.reading.clone()) {
                return Ok(Ok(reading));
            }
        }
        let provider = self.way.kit.providers.get(name).cloned();
        let asked = match provider {
            Some(provider) => self.with_smaller_pictures(provider.as_ref()).await?,
            None => Err(AnalyzeError::Misconfigured {
                provider: name.to_owned(),
                why: "it is not in the configuration any more".to_owned(),
            }),
        };
        let (reading, failed) = match &asked {
            Ok(reading) => (Some(reading.clone()), None),
            Err(error) => {
                tracing::warn!(gateway = name, %error, "no reading");
                (None, Some(error.to_string()))
            }
        };
        let (gateway, at) = (name.to_owned(), self.way.kit.clock.now());
        self.runs.push(Run { tier, gateway, at, reading, failed, then: String::new() });
        Ok(asked)
    }

    /// Takes down why the last run was the last, or not.
    fn say(&mut self, why: &str) {
        if let Some(run) = self.runs.last_mut() {
            why.clone_into(&mut run.then);
        }
    }

    /// What one gateway makes of the pictures, made smaller until it takes them.
    async fn with_smaller_pictures(
        &mut self,
        provider: &dyn Provider,
    ) -> Result<Result<Reading, AnalyzeError>, StepError> {
        let (way, study, plan) = (self.way, self.study, self.plan);
        let mut budget = plan.profile.pictures.clone();
        loop {
            let gateway = way.kit.analysis.gateways.get(provider.name());
            let sheets_max = gateway.map_or(0, |gateway| gateway.pictures_max);
            let pictures = way.kit.pool.sheets(load_pictures(way, &self.made)?, sheets_max).await;
            let pictures = pictures.map_err(steps::unworked)?;
            let sent: Vec<PictureRef> = pictures.iter().map(|p| p.reference.clone()).collect();
            let prompt = prompt::render(&plan.profile, &self.context, study, &sent);
            let prompt = prompt.map_err(StepError::lasting)?;
            let asked = analysis::analyze(provider, &prompt, &pictures, &plan.profile).await;
            let smaller = match &asked {
                Err(AnalyzeError::TooLarge { .. }) => analysis::smaller(&budget),
                _ => None,
            };
            let Some(smaller) = smaller else { return Ok(asked) };
            let (again, written) = steps::make_pictures(way, study, plan, &smaller).await?;
            self.events.extend(written);
            if again.pictures.is_empty() {
                return Ok(asked);
            }
            (self.made, budget) = (again, smaller);
        }
    }
}

fn gateway(reading: Reading) -> Answered {
    alone(AnswerRecord::Gateway { reading: Box::new(reading) })
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
