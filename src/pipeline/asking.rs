//! Asks an archive how many instances the open studies have. One association at a time, each study
//! at its interval and a limited number of times; an archive that does not answer is left alone for
//! longer and longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dicom::query_scu::Count;
use crate::dicom::query_scu::Query;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls_client;
use crate::domain::ae_title::AeTitle;
use crate::domain::uid::StudyUid;
use crate::pipeline::way::Kit;
use crate::store::DeliveryState;
use crate::store::OpenRevision;
use crate::store::StoreError;
use crate::store::event::Event;

const LOOK: Duration = Duration::from_secs(1);
/// A study is not asked for while its images still come.
const PAUSE: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// Studies asked for on one association.
const STUDIES_MAX: usize = 50;
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// What was asked of one revision so far.
struct Asked {
    tries: u32,
    answer: Option<u32>,
    /// How often in a row it was the same.
    equal: u32,
    next: Instant,
}

type Memory = HashMap<(StudyUid, u32), Asked>;

/// Asks until the node stops; returns at once when no archive is named.
pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let Some(archive) = kit.assemble.query.target() else { return };
    let interval = Duration::from_secs(kit.assemble.query.interval_s);
    let (mut memory, mut failures, mut wait) = (Memory::new(), 0_u32, LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => (),
        }
        wait = LOOK;
        let due = match due(&kit, &mut memory) {
            Ok(due) => due,
            Err(StoreError::Remaking { .. }) => continue,
            Err(error) => {
                tracing::error!(%error, "open studies cannot be looked up");
                continue;
            }
        };
        if due.is_empty() {
            continue;
        }
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            asked = ask(&kit, archive.clone(), &due, &mut memory) => asked,
        };
        match asked {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                metrics::counter!("prelim_archive_queries_failed_total").increment(1);
                let longer = interval * 2_u32.saturating_pow(failures.min(16));
                wait = longer.clamp(LOOK, BACKOFF_MAX);
                tracing::warn!(%error, again_s = wait.as_secs(), "the archive cannot be asked");
            }
        }
    }
}

/// Open revisions whose time has come, and no others in the memory.
fn due(kit: &Kit, memory: &mut Memory) -> Result<Vec<OpenRevision>, StoreError> {
    let (now, clock) = (Instant::now(), kit.clock.now());
    let mut open = kit.store.open_revisions()?;
    let key = |open: &OpenRevision| (open.study_uid.clone(), open.revision);
    let keys: std::collections::HashSet<_> = open.iter().map(key).collect();
    memory.retain(|key, _| keys.contains(key));
    open.retain(|open| {
        let pauses = clock.duration_since(open.last_received_at).abs() >= PAUSE;
        let may = memory
            .get(&key(open))
            .is_none_or(|asked| asked.next <= now && asked.tries < kit.assemble.query.tries_max);
        pauses && may
    });
    open.truncate(STUDIES_MAX);
    Ok(open)
}

async fn ask(
    kit: &Kit,
    (ae_title, address): (AeTitle, String),
    due: &[OpenRevision],
    memory: &mut Memory,
) -> Result<(), ScuError> {
    let query = &kit.assemble.query;
    let wait = Duration::from_secs(query.timeout_s);
    // Each try counts, answered or not.
    for open in due {
        let next = Instant::now() + Duration::from_secs(query.interval_s);
        let asked = memory.entry((open.study_uid.clone(), open.revision));
        let asked = asked.or_insert(Asked { tries: 0, answer: None, equal: 0, next });
        asked.tries += 1;
        asked.next = next;
    }
    let (calling_ae, tls) = (kit.ae_title.clone(), tls_client::read(query.tls.as_ref()).await?);
    let target = &Target { ae_title, calling_ae, address, tls };
    let mut association =
        Query::open(target, &Timeouts { connect: wait, answer: wait, write: wait }).await?;
    for open in due {
        let count = association.instances_of(&open.study_uid).await?;
        metrics::counter!("prelim_archive_queries_total").increment(1);
        let Some(asked) = memory.get_mut(&(open.study_uid.clone(), open.revision)) else {
            continue;
        };
        let answer = match count {
            Count::Instances(count) => Some(count),
            Count::Unknown => None,
            Count::NotCounted => {
                tracing::debug!(study_uid = %open.study_uid, "the archive does not count");
                asked.tries = query.tries_max;
                None
            }
        };
        asked.equal = if answer == asked.answer { asked.equal + 1 } else { 1 };
        asked.answer = answer;
        if let Some(count) = answer.filter(|_| asked.equal >= query.answers_equal)
            && let Err(error) = keep(kit, target, open, count).await
        {
            tracing::error!(%error, "an archive's count cannot be kept");
        }
    }
    association.release().await;
    Ok(())
}

/// Keeps a count that says something new. What we sent there ourselves is no image of the study.
async fn keep(
    kit: &Kit,
    target: &Target,
    open: &OpenRevision,
    count: u32,
) -> Result<(), StoreError> {
    let store = &kit.store;
    let ours = store.deliveries(&open.study_uid)?.into_iter().filter(|row| {
        let name = row.destination.strip_prefix("pacs.");
        let pacs = name.and_then(|name| kit.deliver.pacs.get(name));
        let is_there = matches!(row.state, DeliveryState::Done | DeliveryState::Unproven);
        is_there && pacs.is_some_and(|pacs| pacs.address == target.address)
    });
    let instances = count.saturating_sub(u32::try_from(ours.count()).unwrap_or(u32::MAX));
    let known = store.count(&open.study_uid)?;
    if known.is_some_and(|known| known.instances == instances) {
        return Ok(());
    }
    let (study_uid, by, at) =
        (open.study_uid.clone(), target.ae_title.to_string(), kit.clock.now());
    store.commit(vec![Event::InstancesCounted { study_uid, instances, by, at }]).await
}
