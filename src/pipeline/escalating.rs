//! The way of an alert through its levels: who is told now, and when those who come next are. Time
//! alone leads on; what a server refuses is tried again beside it.

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::alert;
use crate::alert::Course;
use crate::alert::From;
use crate::alert::Sent;
use crate::alert::Then;
use crate::alert::Why;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::alert::Unless;
use crate::pipeline::alerting;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::telling;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store::AlertRow;
use crate::store::AlertSending;
use crate::store::DeliveryState;
use crate::store::JobState;
use crate::store::Lane;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;

/// Alerts that everyone was told of before the node knew of pauses are told again when they are not
/// older.
const STILL_NEWS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Since when a node has worked: what waits by length began then, where its beginning lies in the
/// future of a clock that was ahead.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    at: Timestamp,
    clock: tokio::time::Instant,
}

impl Started {
    pub fn now(at: Timestamp) -> Started {
        Started { at, clock: tokio::time::Instant::now() }
    }

    /// When a wait began that was noted at `noted`, by the clock of `now`. A clock that was set back
    /// since makes no wait longer than from the start of this node.
    fn begin(&self, noted: Timestamp, now: Timestamp) -> Timestamp {
        if noted <= now {
            return noted;
        }
        let ticked = SignedDuration::try_from(self.clock.elapsed()).unwrap_or(SignedDuration::MAX);
        let lived = ticked.max(now.duration_since(self.at));
        let as_before = self.at.saturating_add(lived).unwrap_or(Timestamp::MAX);
        let waited = if noted <= as_before { as_before.duration_since(noted) } else { lived };
        now.saturating_sub(waited).unwrap_or(Timestamp::MIN)
    }
}

/// Tells the next level at which there is somebody, and sets the time at which is looked who comes
/// after. Nobody left: after a pause all are told from the beginning.
pub fn tell(way: &Way<'_>, key: &str, going: &alert::Way<'_>, from: From, why: &str) -> Vec<Event> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    let next = alert::level(going, from, now, &way.kit.equipment.time_zone, config);
    let Some(level) = next else { return exhausted(way, key, going, from, why) };
    if level.number > 0 {
        metrics::counter!("prelim_alerts_escalated_total").increment(1);
        tracing::warn!(level = level.number, why, "an alert is escalated");
    }
    let mut events = vec![Event::AlertEscalated {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: key.to_owned(),
        level: level.number,
        why: why.to_owned(),
        channels: level.channels.clone(),
        at: now,
    }];
    for channel in level.channels {
        let alert = key.to_owned();
        events.push(way.next(JobKind::Alert { alert, channel, level: level.number }));
    }
    let first_look = config.undelivered_s.min(level.wait_s);
    let unless = Unless::Acknowledged;
    let kind = JobKind::Escalate { alert: key.to_owned(), level: level.number, unless };
    events.push(way.at(kind, later(now, seconds(first_look))));
    events
}

/// Everyone was told: it stays on the pages, the operator is alarmed, and after a pause it begins
/// again where the configuration names somebody.
fn exhausted(
    way: &Way<'_>,
    key: &str,
    going: &alert::Way<'_>,
    from: From,
    why: &str,
) -> Vec<Event> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    metrics::counter!("prelim_alerts_exhausted_total").increment(1);
    tracing::error!(
        urgency = going.urgency.as_str(),
        why,
        "everyone was told of an alert and nobody has answered"
    );
    let why = match why {
        "" => "nobody is named in the configuration",
        why => why,
    };
    let mut events = vec![Event::AlertExhausted {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: key.to_owned(),
        why: why.to_owned(),
        at: now,
    }];
    let last = match from {
        From::Beginning => return events,
        From::After(level) | From::Again(level) => level,
    };
    if going.kind != Kind::Drill {
        let kind = JobKind::Escalate { alert: key.to_owned(), level: last, unless: Unless::Again };
        events.push(way.at(kind, later(now, seconds(config.again_s))));
    }
    events
}

/// A time of an alert has come: tells the next, unless what it waited for has come about. A second
/// run finds them told and does nothing.
///
/// # Errors
/// [`StepError::not_yet`]: it looks again later.
pub async fn escalate(
    way: &Way<'_>,
    key: &str,
    level: u32,
    unless: Unless,
) -> Result<Vec<Event>, StepError> {
    let Some(row) = alerting::row(way, key)? else { return Ok(Vec::new()) };
    if row.level != level {
        return Ok(Vec::new());
    }
    let going = going(&row);
    let (until, from, why) = match (&row.standing, unless) {
        (Standing::Open, Unless::Never) => {
            let by = row.declined.last().map_or("", |answer| answer.by.as_str());
            (None, From::After(level), format!("{by} has handed it over"))
        }
        (Standing::Open, Unless::Delivered | Unless::Acknowledged | Unless::Again) => {
            name_untold(way, &row).await?;
            match then(way, &row)? {
                Then::Wait(until) => (Some(until), From::After(level), String::new()),
                Then::Tell(why) => (None, From::After(level), words(way, why)),
            }
        }
        (Standing::Exhausted { at }, Unless::Again) => {
            let (config, now) = (&way.kit.alert, way.kit.clock.now());
            let until = pause(way.kit, *at);
            let next =
                alert::level(&going, From::Again(level), now, &way.kit.equipment.time_zone, config);
            let until = match next {
                Some(_) => Some(until).filter(|until| *until > now),
                // Nobody is named any more, or yet.
                None => Some(later(now, seconds(config.again_s))),
            };
            (until, From::Again(level), "nobody has answered; it begins again".to_owned())
        }
        (Standing::Exhausted { .. }, Unless::Delivered | Unless::Acknowledged | Unless::Never)
        | (Standing::Acknowledged(_) | Standing::Withdrawn { .. } | Standing::Closed(_), _) => {
            return Ok(Vec::new());
        }
    };
    match until {
        // Another time looks again.
        Some(_) if unless == Unless::Delivered => Ok(Vec::new()),
        Some(until) => Err(StepError::not_yet(until)),
        None => {
            let mut events = Vec::new();
            if matches!(row.standing, Standing::Exhausted { .. }) {
                events.push(Event::AlertBegunAgain {
                    study_uid: way.study_uid.clone(),
                    revision: way.revision,
                    alert: key.to_owned(),
                    at: way.kit.clock.now(),
                });
            }
            events.extend(tell(way, key, &going, from, &why));
            Ok(events)
        }
    }
}

fn words(way: &Way<'_>, why: Why) -> String {
    match why {
        Why::Unanswered { since } => format!("nobody has answered since {}", way.local(since)),
        Why::Undelivered => "no server has taken the messages to those before".to_owned(),
    }
}

pub fn going(row: &AlertRow) -> alert::Way<'_> {
    let urgency = row.urgency.unwrap_or_default();
    alert::Way { service: &row.service, kind: row.kind, urgency }
}

/// What an open alert needs now.
fn then(way: &Way<'_>, row: &AlertRow) -> Result<Then, StepError> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    let zone = &way.kit.equipment.time_zone;
    let begin = |noted| way.kit.started.begin(noted, now);
    let going = going(row);
    let round = alert::round(&going, row.level, config);
    let next = alert::level(&going, From::After(row.level), now, zone, config);
    let step = row.steps.iter().find(|step| step.level == row.level);
    let mut undelivered = seconds(config.undelivered_s);
    for sending in row.sendings.iter().filter(|sending| sending.level == row.level) {
        let lately = way.kit.store.channel(alert::address(&sending.channel));
        let held = lately.map_err(StepError::passing)?.held;
        if held.iter().any(|held| held.alert == row.alert) {
            // It waits to be told with others.
            undelivered = seconds(config.undelivered_s.saturating_add(config.group_s));
        }
    }
    let sent = |of: &dyn Fn(u32) -> bool| -> Vec<Sent> {
        let of = row.sendings.iter().filter(|sending| of(sending.level));
        of.map(|sending| match sending.state {
            DeliveryState::Done => Sent::Taken(begin(sending.at)),
            DeliveryState::Queued | DeliveryState::Unproven => Sent::Trying,
            DeliveryState::Dead | DeliveryState::Dropped => Sent::Over,
        })
        .collect()
    };
    let course = Course {
        told_at: begin(step.map_or(row.raised_at, |step| step.at)),
        wait: seconds(alert::wait_s(&going, row.level, config)),
        undelivered,
        own: sent(&|level| level == row.level),
        before: sent(&|level| round.contains(&level) && level < row.level),
        is_round_open: next.is_some_and(|next| round.contains(&next.number)),
    };
    Ok(alert::then(&course, now))
}

/// When an alert begins again of which everyone was told at `noted`.
fn pause(kit: &Kit, noted: Timestamp) -> Timestamp {
    later(kit.started.begin(noted, kit.clock.now()), seconds(kit.alert.again_s))
}

fn seconds(s: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX))
}

fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Messages of an alert that a server does not take, by way.
pub fn untold(row: &AlertRow) -> impl Iterator<Item = &AlertSending> {
    row.sendings.iter().filter(|sending| match sending.state {
        DeliveryState::Queued => !sending.cause.is_empty(),
        DeliveryState::Dead => true,
        DeliveryState::Done | DeliveryState::Unproven | DeliveryState::Dropped => false,
    })
}

/// The technical staff hears of a way by which alerts do not go out: once for the alerts of an hour.
async fn name_untold(way: &Way<'_>, row: &AlertRow) -> Result<(), StepError> {
    let mut ways: Vec<String> =
        untold(row).map(|sending| alert::by(&sending.channel).server()).collect();
    ways.sort_unstable();
    ways.dedup();
    let events: Vec<Event> =
        ways.iter().flat_map(|by| telling::raise_untold(way.kit, by, row.raised_at)).collect();
    let mut new = Vec::new();
    for event in events {
        if let Event::JobEnqueued { job } = &event
            && way.kit.store.job(&job.id).map_err(StepError::passing)?.is_none()
        {
            new.push(event);
        }
    }
    match new.is_empty() {
        true => Ok(()),
        false => way.kit.store.commit(new).await.map_err(StepError::passing),
    }
}

/// Every unanswered alert has a time at which it goes on, and none that a clock which was ahead has
/// put off; what an earlier version let go of goes on too.
pub async fn resume(kit: &Kit) -> Result<(), StoreError> {
    let now = kit.clock.now();
    let mut events = Vec::new();
    for row in kit.store.unanswered()? {
        let way = Way { kit, study_uid: &row.study_uid, revision: row.revision };
        let Some((unless, due)) = next_look(&way, &row) else { continue };
        let kind = |unless| {
            let (alert, level) = (row.alert.clone(), row.level);
            JobKind::Escalate { alert, level, unless }
        };
        let id = |unless| job::job(kind(unless), way.study_uid, way.revision, due).id;
        let known = kit.store.job(&id(unless))?;
        match known.map(|known| (known.state, known.due)) {
            Some((JobState::Running, _)) => {}
            Some((JobState::Waiting, until)) if until <= due => {}
            Some((JobState::Waiting | JobState::Dead, _)) => {
                events.push(Event::JobRetried { id: id(unless), by: String::new(), at: due });
            }
            None => events.push(way.at(kind(unless), due)),
            // Taken out of the queue by somebody, as could be done once.
            Some((JobState::Done | JobState::Dropped, _)) => {
                events.push(way.at(kind(Unless::Again), due));
            }
        }
    }
    // What is tried again waits no longer than its schedule has it.
    let longest = later(now, seconds(kit.alert.group_s.max(600)));
    for row in kit.store.jobs()? {
        let is_told = matches!(Lane::of(&row.job.kind), Lane::Messages(_));
        if is_told && row.state == JobState::Waiting && row.due > longest {
            events.push(Event::JobRetried { id: row.job.id, by: String::new(), at: now });
        }
    }
    match events.is_empty() {
        true => Ok(()),
        false => kit.store.commit(events).await,
    }
}

/// By what time an unanswered alert goes on.
fn next_look(way: &Way<'_>, row: &AlertRow) -> Option<(Unless, Timestamp)> {
    let now = way.kit.clock.now();
    match &row.standing {
        Standing::Open if row.steps.is_empty() => None,
        Standing::Open => {
            let due = match then(way, row) {
                Ok(Then::Wait(until)) => until,
                Ok(Then::Tell(_)) | Err(_) => now,
            };
            Some((Unless::Acknowledged, due))
        }
        Standing::Exhausted { at } => {
            let is_news = now.duration_since(*at) <= STILL_NEWS;
            let is_drill = row.kind == Kind::Drill;
            let (config, zone) = (&way.kit.alert, &way.kit.equipment.time_zone);
            let somebody =
                alert::level(&going(row), From::Again(row.level), now, zone, config).is_some();
            let goes_on = is_news && !is_drill && somebody;
            goes_on.then(|| (Unless::Again, pause(way.kit, *at)))
        }
        Standing::Acknowledged(_) | Standing::Withdrawn { .. } | Standing::Closed(_) => None,
    }
}
