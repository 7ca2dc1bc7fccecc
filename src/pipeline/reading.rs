//! The reading of a study: the local model behind its gate, or gateways as the strategy has them.

use std::time::Duration;

use crate::analysis::AnalyzeError;
use crate::analysis::Reading;
use crate::analysis::codes;
use crate::analysis::gate;
use crate::analysis::plan::Route;
use crate::analysis::provider::Provider as _;
use crate::analysis::strategy;
use crate::analysis::strategy::Settled;
use crate::analysis::strategy::Strategy;
use crate::analysis::strategy::Tier;
use crate::analysis::strategy::consensus;
use crate::analysis::strategy::verify;
use crate::domain::profile::Profile;
use crate::domain::study::Study;
use crate::pipeline::budget;
use crate::pipeline::budget::Overdrawn;
use crate::pipeline::calling::Caller;
use crate::pipeline::canary;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::AnswerRecord;
use crate::pipeline::record::Answered;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::steps;
use crate::pipeline::way::Way;
use crate::pipeline::word;
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
        Route::Nobody { reason } => alone(AnswerRecord::MeasuredOnly { reason: reason.clone() }),
        Route::Gateway { name, then, strategy } => {
            let mut asking = Caller::begin(way, &study, &plan, record::RUNS)?;
            let modality = asking.kind().0.to_owned();
            let turn = canary::turn(way.kit, name, &modality, way.study_uid).await;
            let turn = turn.map_err(StepError::passing)?;
            // Who is stood in for stands in for the candidate.
            let (name, then) = match &turn.reads {
                Some(candidate) => (candidate, [std::slice::from_ref(name), then].concat()),
                None => (name, then.clone()),
            };
            let answered = match asking.why_nobody() {
                Some(reason) => Ok(alone(AnswerRecord::NeedsReview { reason })),
                None => read(&mut asking, name, &then, strategy, is_last).await,
            };
            // Also of a try that failed: the next one does not ask again what was answered.
            asking.keep_runs(record::RUNS)?;
            events.append(&mut asking.events);
            let later = way.kit.analysis.waits.read_again_s > 0;
            if let Some(gateway) = asking.waits_for.take().filter(|_| later) {
                events.push(way.next(JobKind::ReadAgain { gateway }));
            }
            let shadows = strategy.shadow.iter().chain(&turn.mirrors);
            let is_compared = asking.why_nobody().is_none() && !plan.profile.is_free();
            let shadows = shadows.filter(|_| is_compared);
            events.extend(
                shadows.map(|gateway| way.next(JobKind::Shadow { gateway: gateway.clone() })),
            );
            let mut answered = answered?;
            let review = [answered.review.take(), asking.review()];
            let review: Vec<String> = review.into_iter().flatten().collect();
            answered.review = (!review.is_empty()).then(|| review.join("; "));
            answered
        }
    };
    way.save(record::ANSWER, &answered)?;
    events.push(way.next(JobKind::Judge));
    Ok(events)
}

/// Asks once more about a study that no gateway has read, and lets it be read again when there is an
/// answer: that reading is made of the answer as it is kept.
pub async fn read_again(way: &Way<'_>, gateway: &str) -> Result<Vec<Event>, StepError> {
    let row = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    let row = row.filter(|row| row.revision == way.revision && row.objects_removed_at.is_none());
    let Some(row) = row else {
        return Err(StepError::needless("the study is another one by now"));
    };
    if !way.kit.providers.contains_key(gateway) {
        return Err(StepError::needless(format!("{gateway} is not in the configuration any more")));
    }
    let (study, plan): (Study, PlanRecord) = (way.load(record::STUDY)?, way.load(record::PLAN)?);
    let mut asking = Caller::begin(way, &study, &plan, record::RUNS)?;
    match answer(&mut asking, gateway).await? {
        Ok(_) => {}
        // It answers, and would say the same again.
        Err(error) if error.is_for_review() => return Err(StepError::needless(error)),
        Err(error) => {
            let (wait, cause) = (error.retry_after(), error.to_string());
            return Err(StepError { verdict: Failure::Passing { wait }, cause });
        }
    }
    asking.keep_runs(record::RUNS)?;
    let (mut events, reason) = (asking.events, format!("{gateway} answers again"));
    tracing::info!(gateway, "the study is read again: it waited for this gateway");
    events.extend(word::reading_again(&row, reason, way.kit.clock.now()));
    Ok(events)
}

/// Shows the study to a model whose answer has no effect, and takes down what it says.
pub async fn shadow(way: &Way<'_>, gateway: &str, is_last: bool) -> Result<Vec<Event>, StepError> {
    let study: Study = way.load(record::STUDY)?;
    let plan: PlanRecord = way.load(record::PLAN)?;
    let Answered { answer, .. } = way.load(record::ANSWER)?;
    let file = record::shadow(gateway);
    let mut asking = Caller::begin(way, &study, &plan, &file)?;
    let said = asking.reading(Tier::Shadow, gateway).await?;
    let differs = match (&said, &answer) {
        (Ok(shadow), AnswerRecord::Gateway { reading }) => {
            let differences = strategy::differences(&reading.answer, &shadow.answer);
            asking.say(&match differences.is_empty() {
                true => "it sees what the reading has".to_owned(),
                false => format!("only one of the two sees {}", differences.join(", ")),
            });
            let differs = !differences.is_empty();
            canary::compared(way.kit, gateway, differs).map_err(StepError::passing)?;
            if differs { "yes" } else { "no" }
        }
        (Ok(_), _) => "not_compared",
        (Err(error), _) if error.is_transient() && !is_last => {
            let wait = error.retry_after();
            return Err(StepError { verdict: Failure::Passing { wait }, cause: error.to_string() });
        }
        (Err(AnalyzeError::NotCovered { .. }), _) => "not_compared",
        (Err(_), _) => "failed",
    };
    metrics::counter!("prelim_shadow_readings_total", "gateway" => gateway.to_owned(), "differs" => differs)
        .increment(1);
    asking.keep_runs(&file)?;
    Ok(asking.events)
}

fn alone(answer: AnswerRecord) -> Answered {
    Answered { answer, notes: Vec::new(), review: None }
}

fn gateway(reading: Reading) -> Answered {
    alone(AnswerRecord::Gateway { reading: Box::new(reading) })
}

/// What one gateway says, as the profile wants it.
async fn answer(
    asking: &mut Caller<'_>,
    name: &str,
) -> Result<Result<AnswerRecord, AnalyzeError>, StepError> {
    Ok(match asking.plan.profile.is_free() {
        true => {
            let said = asking.object(name).await?;
            said.map(|said| AnswerRecord::Object { said: Box::new(said) })
        }
        false => {
            let reading = asking.reading(Tier::Read, name).await?;
            reading.map(|reading| AnswerRecord::Gateway { reading: Box::new(reading) })
        }
    })
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

/// A cheap look, the reading, a third opinion, a try to refute it: as far as there are such models
/// and each is needed.
async fn read(
    asking: &mut Caller<'_>,
    name: &str,
    then: &[String],
    strategy: &Strategy,
    is_last: bool,
) -> Result<Answered, StepError> {
    let mut notes = Vec::new();
    // What cannot wait is read whatever it costs.
    let over = if asking.is_pressing { None } else { budget::overdrawn(asking, name)? };
    if let Some(over) = over {
        return cheaper(asking, name, over, is_last).await;
    }
    if !strategy.screen.is_empty() {
        let enough = screen(asking, strategy, &mut notes).await?;
        if let Some(reading) = enough {
            return Ok(Answered { notes, ..gateway(reading) });
        }
    }
    let read = match strategy.panel.is_empty() {
        true => in_turn(asking, name, then, is_last).await?,
        false => side_by_side(asking, name, then, &strategy.panel, is_last).await?,
    };
    notes.extend(read.notes);
    let AnswerRecord::Gateway { reading } = read.answer else {
        return Ok(Answered { notes, ..read });
    };
    // A panel that is split has said already why a person looks.
    let has_said = read.review.is_some() && strategy.third.is_empty();
    let weighed = match strategy.is_weighed() && !has_said {
        true => opinions(asking, *reading, strategy, &mut notes).await?,
        // Without a strategy the reading is what it is.
        false => (*reading, None),
    };
    let (reading, review) = weighed;
    let (reading, refuted) = match strategy.verify.as_str() {
        "" => (reading, None),
        verifier => refute(asking, reading, verifier, &mut notes).await?,
    };
    let review = [read.review, review, refuted].into_iter().flatten().collect::<Vec<_>>();
    let review = (!review.is_empty()).then(|| review.join("; "));
    Ok(Answered { notes, review, ..gateway(reading) })
}

/// The reading by who stands in once a budget is used up, and it is said.
async fn cheaper(
    asking: &mut Caller<'_>,
    name: &str,
    over: Overdrawn,
    is_last: bool,
) -> Result<Answered, StepError> {
    let Overdrawn { name: budget, instead } = over;
    let why = format!("the budget {budget} is used up");
    metrics::counter!("prelim_readings_over_budget_total", "budget" => budget).increment(1);
    let gateways = &asking.way.kit.analysis.gateways;
    let may = match (gateways.get(name), gateways.get(&instead)) {
        (Some(first), Some(other)) => {
            let modality = asking.kind().0;
            !other.is_further_out_than(first) && other.may_see(modality)
        }
        (_, None) | (None, _) => false,
    };
    if may {
        let read = in_turn(asking, &instead, &[], is_last).await?;
        if let AnswerRecord::NotCovered { reason } = &read.answer {
            let reason = format!("{why}, and {reason}");
            return Ok(alone(AnswerRecord::NeedsReview { reason }));
        }
        let mut notes = vec![format!("Read by {instead} alone, because {why}.")];
        notes.extend(read.notes);
        let open = left_open(asking, &instead).map(|open| format!("{why}; {open}"));
        return Ok(Answered { notes, review: read.review.or(open), ..read });
    }
    if asking.plan.profile.is_free() {
        return Ok(alone(AnswerRecord::NeedsReview { reason: why }));
    }
    match ask_local(asking.way, asking.study).await? {
        AnswerRecord::NotCovered { .. } => {
            let reason = format!("{why}, and no local model covers this study");
            Ok(alone(AnswerRecord::NeedsReview { reason }))
        }
        answer => {
            let notes = vec![format!("Read by the local model, because {why}.")];
            let review = left_open_by_local(asking).map(|open| format!("{why}; {open}"));
            Ok(Answered { notes, review, ..alone(answer) })
        }
    }
}

/// The screening's answer, when nobody else has to look.
async fn screen(
    asking: &mut Caller<'_>,
    strategy: &Strategy,
    notes: &mut Vec<String>,
) -> Result<Option<Reading>, StepError> {
    let screen = &strategy.screen;
    let reading = match asking.reading(Tier::Screen, screen).await? {
        Ok(reading) => reading,
        Err(error) => {
            notes.push(format!("Not screened, because {error}."));
            return Ok(None);
        }
    };
    let findings = &asking.plan.profile.findings;
    match strategy::after_screen(&reading.answer, findings, strategy.confident) {
        Ok(why) => {
            asking.say(&why);
            notes.push(format!("Screened only by {screen}: {why}."));
            Ok(Some(reading))
        }
        Err(why) => {
            asking.say(&why);
            Ok(None)
        }
    }
}

/// The first of these gateways that gives a reading. When none does: a later try where one may
/// do better then; else the local model where its gate opens; else a person.
async fn in_turn(
    asking: &mut Caller<'_>,
    name: &str,
    then: &[String],
    is_last: bool,
) -> Result<Answered, StepError> {
    let mut failed = Vec::new();
    for gateway in [name].into_iter().chain(then.iter().map(String::as_str)) {
        match answer(asking, gateway).await? {
            Ok(answer) => {
                let stands_in = (!failed.is_empty()).then_some(gateway);
                let review = stands_in.and_then(|gateway| left_open(asking, gateway));
                return Ok(Answered { notes: sentences(&failed), review, ..alone(answer) });
            }
            Err(error) => failed.push(error),
        }
    }
    // Who was to read it first has not seen it: it is read when that can be done.
    let has_not_seen = |error: &AnalyzeError| !error.is_for_review() && !is_outside(error);
    asking.waits_for = failed.first().is_some_and(has_not_seen).then(|| name.to_owned());
    match after_all(&failed, is_last) {
        After::Again { wait } => {
            Err(StepError { verdict: Failure::Passing { wait }, cause: causes(&failed) })
        }
        After::Person => Ok(alone(AnswerRecord::NeedsReview { reason: causes(&failed) })),
        After::Local => match gate::gate(asking.study) {
            Ok(_) if !asking.plan.profile.is_free() => {
                let answer = ask_local(asking.way, asking.study).await?;
                let review = left_open_by_local(asking);
                let review = review.map(|open| format!("{}; {open}", causes(&failed)));
                Ok(Answered { notes: sentences(&failed), review, ..alone(answer) })
            }
            Ok(_) | Err(_) if failed.iter().all(is_outside) => {
                Ok(alone(AnswerRecord::NotCovered { reason: causes(&failed) }))
            }
            Ok(_) | Err(_) => Ok(alone(AnswerRecord::NeedsReview { reason: causes(&failed) })),
        },
    }
}

fn is_outside(error: &AnalyzeError) -> bool {
    matches!(error, AnalyzeError::NotCovered { .. })
}

/// What most of several models say. Those that give no reading are missing, and it is said; when
/// all are, it goes on as with one.
async fn side_by_side(
    asking: &mut Caller<'_>,
    name: &str,
    then: &[String],
    panel: &[String],
    is_last: bool,
) -> Result<Answered, StepError> {
    let asked: Vec<&str> = [name].into_iter().chain(panel.iter().map(String::as_str)).collect();
    let (mut readings, mut notes) = (Vec::new(), Vec::new());
    for said in asking.readings(&asked).await? {
        match said {
            Ok(reading) => readings.push(reading),
            Err(error) => {
                notes.push(format!("One of {} readers is missing, because {error}.", asked.len()))
            }
        }
    }
    if readings.is_empty() {
        return in_turn(asking, name, then, is_last).await;
    }
    let answers: Vec<_> = readings.iter().map(|reading| &reading.answer).collect();
    let providers = &asking.way.kit.providers;
    let knows = |reader: usize, key: &str| {
        let provider = providers.get(&readings[reader].log.provider);
        let manifest = provider.and_then(|provider| provider.manifest());
        manifest.is_none_or(|manifest| manifest.label(key).is_some())
    };
    let (answer, review) = consensus::consensus(&answers, knows);
    asking.say(review.as_deref().unwrap_or("most of them agree"));
    let count = readings.len();
    let reading = match count {
        1 => readings.swap_remove(0),
        _ => consensus::joint(&readings, answer),
    };
    notes.push(format!("Read by {count} of {} models side by side.", asked.len()));
    Ok(Answered { notes, review, ..gateway(reading) })
}

/// The reading, or the third's where it counts more, and why a person has to look.
async fn opinions(
    asking: &mut Caller<'_>,
    reading: Reading,
    strategy: &Strategy,
    notes: &mut Vec<String>,
) -> Result<(Reading, Option<String>), StepError> {
    let Some(why) = strategy::after_read(&reading.answer, strategy.unsure) else {
        return Ok((reading, None));
    };
    asking.say(&why);
    let third = &strategy.third;
    if third.is_empty() {
        return Ok((reading, Some(why)));
    }
    match asking.reading(Tier::Third, third).await? {
        Ok(other) => {
            notes.push(format!("Read again by {third}, because {why}."));
            let Settled { third_counts, review } = strategy::settle(&reading.answer, &other.answer);
            asking.say(review.as_deref().unwrap_or("the two agree"));
            Ok((if third_counts { other } else { reading }, review))
        }
        Err(error) => Ok((reading, Some(format!("{why}, and no third reading: {error}")))),
    }
}

/// The reading after somebody tried to refute it. A verifier that cannot be asked changes nothing:
/// what was found is told.
async fn refute(
    asking: &mut Caller<'_>,
    mut reading: Reading,
    verifier: &str,
    notes: &mut Vec<String>,
) -> Result<(Reading, Option<String>), StepError> {
    if verify::claims(&reading.answer).is_empty() {
        return Ok((reading, None));
    }
    match asking.verdicts(verifier, &reading.answer).await? {
        Ok(verdicts) => {
            let (answer, review) = verify::verified(&reading.answer, &verdicts);
            asking.say(review.as_deref().unwrap_or("nothing was refuted"));
            reading.answer = answer;
            reading.algorithm.parameters.push(format!("verifier={verifier}"));
            notes.push(format!("What was found was shown to {verifier} to refute it."));
            Ok((reading, review))
        }
        Err(error) => {
            notes.push(format!("Nobody tried to refute what was found, because {error}."));
            Ok((reading, None))
        }
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

/// Why a person must look at what a gateway read that stood in for another: what it has no word for
/// is open. `None`: it has been asked all of it.
fn left_open(asking: &Caller<'_>, name: &str) -> Option<String> {
    let manifest = asking.way.kit.providers.get(name)?.manifest()?;
    open_questions(&asking.plan.profile, name, |key| manifest.label(key).is_some())
}

/// The same of the local model.
fn left_open_by_local(asking: &Caller<'_>) -> Option<String> {
    open_questions(&asking.plan.profile, "the local model", |key| key == LOCAL_FINDING)
}

fn open_questions(profile: &Profile, who: &str, knows: impl Fn(&str) -> bool) -> Option<String> {
    let asked = &profile.findings;
    let open: Vec<&str> = asked
        .iter()
        .filter(|key| !knows(key))
        .map(|key| codes::find(key).map_or(key.as_str(), |row| row.concept.meaning.as_str()))
        .collect();
    let (read, all) = (asked.len() - open.len(), asked.len());
    let names = open.join(", ");
    (!open.is_empty()).then(|| {
        format!("{who} stands in and looks for {read} of {all} findings; open are: {names}")
    })
}

/// All that the local model looks for.
const LOCAL_FINDING: &str = "pneumonia";

fn causes(failed: &[AnalyzeError]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// For a reader of the report.
fn sentences(failed: &[AnalyzeError]) -> Vec<String> {
    failed.iter().map(|error| format!("Read by another, because {error}.")).collect()
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
        let busy = AnalyzeError::Busy {
            provider: provider(),
            status: 503,
            retry_after: Some(wait),
            words: String::new(),
        };
        let resting =
            AnalyzeError::Resting { provider: provider(), wait: wait * 2, why: String::new() };
        let refused =
            AnalyzeError::Refused { provider: provider(), status: 401, words: String::new() };
        let malformed =
            AnalyzeError::Refused { provider: provider(), status: 400, words: String::new() };
        let why = BadAnswer::NotACompletion;
        let page = AnalyzeError::BadAnswer { provider: provider(), why };
        let refusal = AnalyzeError::BadAnswer { provider: provider(), why: BadAnswer::Refusal };
        let large = AnalyzeError::TooLarge { provider: provider() };
        let outside = AnalyzeError::NotCovered { provider: provider(), why: String::new() };
        let crashed = AnalyzeError::Failed { provider: provider(), why: String::new() };
        let again = |wait| After::Again { wait };
        for (failed, is_last, after) in [
            (vec![&gone], false, again(None)),
            (vec![&gone], true, After::Local),
            (vec![&busy, &resting], false, again(Some(wait))),
            (vec![&busy, &gone], false, again(None)),
            (vec![&refused, &busy], false, again(None)),
            (vec![&refused], false, again(None)),
            (vec![&refused], true, After::Local),
            (vec![&refused, &refusal], true, After::Person),
            (vec![&page], false, again(None)),
            (vec![&page], true, After::Local),
            (vec![&malformed], false, After::Local),
            (vec![&refusal, &gone], false, again(None)),
            (vec![&refusal, &gone], true, After::Person),
            (vec![&large], false, After::Person),
            (vec![&outside], false, After::Local),
            (vec![&outside, &busy], false, again(Some(wait))),
            (vec![&outside, &crashed], false, After::Person),
        ] {
            let told = format!("{failed:?} {is_last}");
            let failed: Vec<AnalyzeError> = failed.into_iter().cloned().collect();
            assert_eq!(after_all(&failed, is_last), after, "{told}");
        }
    }
}
