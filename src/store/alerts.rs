//! Alerts as the events leave them: who was told, who answered, what is still open.

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::domain::alert::Answer;
use crate::domain::alert::Doubt;
use crate::domain::alert::Standing;
use crate::domain::alert::address;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::index::history;
use crate::store::key;
use crate::store::rows::AlertRow;
use crate::store::rows::AlertSending;
use crate::store::rows::AlertStep;
use crate::store::rows::ChannelRow;
use crate::store::rows::DeliveryState;
use crate::store::rows::HeldAlert;
use crate::store::txn::Txn;

/// Study, revision and key of an alert.
type Of<'a> = (&'a StudyUid, u32, &'a str);

/// Times kept of one address.
const SENT_MAX: usize = 256;

/// Applies an event about an alert; the others are not for this room.
pub fn apply(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    match event {
        Event::AlertRaised { .. } => raised(txn, event, order),
        Event::AlertEscalated { study_uid, revision, alert, level, why, channels, at } => {
            let of = (study_uid, *revision, alert.as_str());
            let changed = change(txn, of, |row| {
                let is_new = row.steps.is_empty() || *level > row.level;
                if is_new && row.standing == Standing::Open {
                    row.level = *level;
                    let (why, channels) = (why.clone(), channels.clone());
                    row.steps.push(AlertStep { level: *level, why, channels, at: *at });
                }
            })?;
            let detail = format!("level {level} to {}: {why}", channels.join(", "));
            match changed && *level > 0 {
                true => said(txn, of, order, *at, "alert escalated", detail),
                false => Ok(()),
            }
        }
        Event::AlertHeld { study_uid, revision, alert, channel, level, until, at } => {
            let (alert, channel, level) = (alert.clone(), channel.clone(), *level);
            let key = key::channel(address(&channel));
            let mut row = txn.get::<ChannelRow>(&key)?.unwrap_or_default();
            let detail = format!("{channel}: told with others by {until}");
            let held = HeldAlert {
                study_uid: study_uid.clone(),
                revision: *revision,
                alert,
                channel,
                level,
                until: Some(*until),
            };
            let of = (study_uid, *revision, held.alert.clone());
            let same = |other: &HeldAlert| HeldAlert { until: held.until, ..other.clone() } == held;
            if !row.held.iter().any(same) {
                row.held.push(held);
            }
            txn.put(key, row);
            said(txn, (of.0, of.1, &of.2), order, *at, "alert held", detail)
        }
        Event::AlertSent { study_uid, revision, alert, channel, level, detail, at } => {
            let of = (study_uid, *revision, alert.as_str());
            change_sending(txn, of, channel, *level, *at, |sending| {
                sending.state = DeliveryState::Done;
                sending.detail.clone_from(detail);
                sending.cause.clear();
                sending.at = *at;
            })?;
            sent(txn, channel, of, *at)?;
            said(txn, of, order, *at, "alert sent", format!("{channel}: {detail}"))
        }
        Event::AlertJoined { study_uid, revision, alert, by_revision, at } => {
            let of = (study_uid, *revision, alert.as_str());
            change(txn, of, |row| {
                if !row.joined.contains(by_revision) && row.joined.len() < SENT_MAX {
                    row.joined.push(*by_revision);
                }
                row.doubt = row.doubt.take().filter(|doubt| doubt.by_revision >= *by_revision);
            })?;
            let detail = format!("revision {by_revision} shows the same");
            said(txn, of, order, *at, "alert joined", detail)
        }
        Event::AlertAcknowledged { study_uid, revision, alert, answer } => {
            let of = (study_uid, *revision, alert.as_str());
            let taken = close(txn, of, Standing::Acknowledged(answer.clone()))?;
            let what = if taken { "alert acknowledged" } else { "alert acknowledged again" };
            said(txn, of, order, answer.at, what, words(answer))
        }
        Event::AlertDeclined { study_uid, revision, alert, answer } => {
            let of = (study_uid, *revision, alert.as_str());
            change(txn, of, |row| {
                if row.declined.len() < SENT_MAX {
                    row.declined.push(answer.clone());
                }
            })?;
            said(txn, of, order, answer.at, "alert handed over", words(answer))
        }
        Event::AlertExhausted { study_uid, revision, alert, why, at } => {
            let of = (study_uid, *revision, alert.as_str());
            change(txn, of, |row| {
                if row.standing == Standing::Open {
                    row.standing = Standing::Exhausted { at: *at };
                }
            })?;
            said(txn, of, order, *at, "alert unanswered", why.clone())
        }
        Event::AlertBegunAgain { study_uid, revision, alert, at } => {
            let of = (study_uid, *revision, alert.as_str());
            let mut is_open = false;
            change(txn, of, |row| {
                if matches!(row.standing, Standing::Exhausted { .. }) {
                    row.standing = Standing::Open;
                    if row.begun_again.len() >= SENT_MAX {
                        row.begun_again.remove(0);
                    }
                    row.begun_again.push(*at);
                    is_open = true;
                }
            })?;
            match is_open {
                true => said(txn, of, order, *at, "alert begun again", String::new()),
                false => Ok(()),
            }
        }
        Event::AlertDoubted { study_uid, revision, alert, by_revision, why, at } => {
            let of = (study_uid, *revision, alert.as_str());
            let doubt = Doubt { by_revision: *by_revision, why: why.clone(), at: *at };
            change(txn, of, |row| row.doubt = Some(doubt))?;
            said(txn, of, order, *at, "alert doubted", why.clone())
        }
        Event::AlertClosed { study_uid, revision, alert, answer } => {
            let of = (study_uid, *revision, alert.as_str());
            let taken = close(txn, of, Standing::Closed(answer.clone()))?;
            let what = if taken { "alert closed" } else { "alert closed again" };
            said(txn, of, order, answer.at, what, words(answer))
        }
        Event::AlertWithdrawn { study_uid, revision, alert, why, at } => {
            let of = (study_uid, *revision, alert.as_str());
            change(txn, of, |row| {
                row.standing = Standing::Withdrawn { why: why.clone(), at: *at };
            })?;
            txn.remove(key::unanswered(of.0, of.1, of.2));
            said(txn, of, order, *at, "alert withdrawn", why.clone())
        }
        _ => Ok(()),
    }
}

fn raised(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    let Event::AlertRaised {
        study_uid,
        revision,
        alert,
        urgency,
        findings,
        recipients: _,
        kind,
        service,
        told,
        at,
    } = event
    else {
        return Ok(());
    };
    let key = key::alert(study_uid, *revision, alert);
    if txn.has(&key)? {
        return Ok(());
    }
    let row = AlertRow {
        study_uid: study_uid.clone(),
        alert: alert.clone(),
        revision: *revision,
        urgency: kind.assessed(*urgency),
        findings: findings.clone(),
        kind: *kind,
        service: service.clone(),
        told: told.clone(),
        raised_at: *at,
        standing: Standing::Open,
        level: 0,
        steps: Vec::new(),
        declined: Vec::new(),
        joined: Vec::new(),
        doubt: None,
        begun_again: Vec::new(),
        sendings: Vec::new(),
    };
    txn.put(key, row);
    txn.put(key::alert_place(alert), (study_uid.clone(), *revision));
    txn.put(key::unanswered(study_uid, *revision, alert), ());
    let urgency = kind.assessed(*urgency).map_or("not assessed", Urgency::as_str);
    let detail = match findings.is_empty() {
        true => urgency.to_owned(),
        false => format!("{urgency}: {}", findings.join(", ")),
    };
    said(txn, (study_uid, *revision, alert), order, *at, "alert raised", detail)
}

/// Of an alert whose answer the ledger has lost.
///
/// - `mark`: key of its mark as unanswered.
pub fn is_over(
    txn: &mut Txn<'_>,
    mark: Vec<u8>,
    why: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut key = mark.clone();
    key[0] = b'l';
    if let Some(mut row) = txn.get::<AlertRow>(&key)? {
        row.standing = Standing::Withdrawn { why: why.to_owned(), at };
        txn.put(key, row);
    }
    txn.remove(mark);
    Ok(())
}

/// False when there is no such alert.
fn change(
    txn: &mut Txn<'_>,
    of: Of<'_>,
    change: impl FnOnce(&mut AlertRow),
) -> Result<bool, StoreError> {
    let key = key::alert(of.0, of.1, of.2);
    let Some(mut row) = txn.get::<AlertRow>(&key)? else { return Ok(false) };
    change(&mut row);
    txn.put(key, row);
    Ok(true)
}

/// The first who takes it over counts. False when somebody had.
fn close(txn: &mut Txn<'_>, of: Of<'_>, to: Standing) -> Result<bool, StoreError> {
    let mut taken = false;
    change(txn, of, |row| {
        if row.standing.is_unanswered() {
            row.standing = to;
            taken = true;
        }
    })?;
    if taken {
        txn.remove(key::unanswered(of.0, of.1, of.2));
    }
    Ok(taken)
}

pub fn change_sending(
    txn: &mut Txn<'_>,
    of: Of<'_>,
    channel: &str,
    level: u32,
    at: Timestamp,
    with: impl FnOnce(&mut AlertSending),
) -> Result<(), StoreError> {
    change(txn, of, |row| {
        let is_it = |sending: &AlertSending| sending.channel == channel && sending.level == level;
        let place = row.sendings.iter().position(is_it);
        let place = place.unwrap_or_else(|| {
            row.sendings.push(AlertSending {
                channel: channel.to_owned(),
                level,
                state: DeliveryState::Queued,
                detail: String::new(),
                attempts: 0,
                cause: String::new(),
                at,
            });
            row.sendings.len() - 1
        });
        with(&mut row.sendings[place]);
    })?;
    Ok(())
}

/// Counts a message of an address and takes the alert out of those that wait to be told together.
/// Several told together are one message: they were sent at the same moment.
fn sent(txn: &mut Txn<'_>, channel: &str, of: Of<'_>, at: Timestamp) -> Result<(), StoreError> {
    let key = key::channel(address(channel));
    let mut row = txn.get::<ChannelRow>(&key)?.unwrap_or_default();
    let hour_ago = at.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
    row.sent.retain(|sent| *sent > hour_ago);
    if row.sent.last() != Some(&at) {
        row.sent.push(at);
    }
    if row.sent.len() > SENT_MAX {
        row.sent.remove(0);
    }
    row.held.retain(|held| (&held.study_uid, held.revision, held.alert.as_str()) != of);
    txn.put(key, row);
    Ok(())
}

fn said(
    txn: &mut Txn<'_>,
    of: Of<'_>,
    order: u64,
    at: Timestamp,
    what: &str,
    detail: String,
) -> Result<(), StoreError> {
    history(txn, of.0, order, at, Some(of.1), what, detail)
}

fn words(answer: &Answer) -> String {
    let note = match answer.note.as_str() {
        "" => String::new(),
        note => format!(": {note}"),
    };
    format!("by {} ({}){note}", answer.by, answer.how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Kind;
    use crate::store::Store;
    use crate::store::testing::at;
    use crate::store::testing::open;
    use crate::store::testing::study;

    fn raise(alert: &str) -> Event {
        Event::AlertRaised {
            study_uid: study(1),
            revision: 1,
            alert: alert.into(),
            urgency: Urgency::Urgent,
            findings: vec!["Mass".into()],
            recipients: vec![],
            kind: Kind::Finding,
            service: String::new(),
            told: vec![],
            at: at(1),
        }
    }

    fn escalate(alert: &str, level: u32) -> Event {
        Event::AlertEscalated {
            study_uid: study(1),
            revision: 1,
            alert: alert.into(),
            level,
            why: "x".into(),
            channels: vec!["a/a@h.example".into()],
            at: at(2 + i64::from(level)),
        }
    }

    fn answer(by: &str) -> Answer {
        Answer { by: by.into(), how: "link".into(), note: String::new(), at: at(9) }
    }

    fn acknowledge(alert: &str, by: &str) -> Event {
        let (study_uid, alert) = (study(1), alert.to_owned());
        Event::AlertAcknowledged { study_uid, revision: 1, alert, answer: answer(by) }
    }

    fn row(store: &Store) -> AlertRow {
        store.alerts(&study(1)).unwrap().remove(0)
    }

    #[tokio::test]
    async fn the_first_answer_counts_and_ends_the_escalation() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.commit(vec![raise("a"), escalate("a", 0), escalate("a", 1)]).await.unwrap();
        assert_eq!((row(&store).level, row(&store).steps.len()), (1, 2));
        assert_eq!(store.unanswered().unwrap().len(), 1);
        store.commit(vec![escalate("a", 1)]).await.unwrap();
        assert_eq!(row(&store).steps.len(), 2, "the same level again is no step");
        store.commit(vec![acknowledge("a", "kim"), acknowledge("a", "lee")]).await.unwrap();
        store.commit(vec![escalate("a", 2)]).await.unwrap();
        assert_eq!((row(&store).level, row(&store).standing), {
            (1, Standing::Acknowledged(answer("kim")))
        });
        assert_eq!(store.unanswered().unwrap(), []);
        assert_eq!(store.alert("a").unwrap().unwrap().alert, "a");
        assert_eq!(store.alert("b").unwrap(), None);
    }

    #[tokio::test]
    async fn an_alert_that_everyone_left_can_still_be_answered() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (study_uid, alert) = (study(1), "a".to_owned());
        let why = "nobody answered".to_owned();
        let ended = Event::AlertExhausted { study_uid, revision: 1, alert, why, at: at(5) };
        store.commit(vec![raise("a"), escalate("a", 0), ended]).await.unwrap();
        assert_eq!(store.unanswered().unwrap().len(), 1, "it stays with the people");
        store.commit(vec![acknowledge("a", "kim")]).await.unwrap();
        assert_eq!(row(&store).standing, Standing::Acknowledged(answer("kim")));
    }

    #[tokio::test]
    async fn messages_of_an_address_are_counted_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let sent = |alert: &str, s: i64| Event::AlertSent {
            study_uid: study(1),
            revision: 1,
            alert: alert.into(),
            channel: "list/a@h.example".into(),
            level: 0,
            detail: "250".into(),
            at: at(s),
        };
        let held = Event::AlertHeld {
            study_uid: study(1),
            revision: 1,
            alert: "b".into(),
            channel: "other/a@h.example".into(),
            level: 0,
            until: at(300),
            at: at(3),
        };
        store.commit(vec![raise("a"), raise("b"), sent("a", 2), held]).await.unwrap();
        let lately = store.channel("a@h.example").unwrap();
        assert_eq!((lately.sent.len(), lately.held.len()), (1, 1));
        // Two that are told together are one message.
        store.commit(vec![sent("b", 300), sent("c", 300)]).await.unwrap();
        let lately = store.channel("a@h.example").unwrap();
        assert_eq!((lately.sent.len(), lately.held.len()), (2, 0));
        store.commit(vec![sent("a", 3700)]).await.unwrap();
        assert_eq!(store.channel("a@h.example").unwrap().sent, [at(300), at(3700)]);
    }
}
