//! Those outside who are told what the ledger says, each from a place that is remembered: nothing is
//! left out over a restart or a server that is away; after either, some may come twice.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::pipeline::way::Kit;
use crate::pipeline::way::Kits;
use crate::store::FollowPlace;
use crate::store::Store;
use crate::store::Written;

const LOOK: Duration = Duration::from_secs(1);
/// Longest pause before a server that is away is called again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Records of the ledger that are read and sent at one time.
const RECORDS_MAX: usize = 200;
/// From here on people are told that nothing arrives.
const BEHIND_MAX: Duration = Duration::from_secs(300);

/// Who is told.
pub trait Listener: Send + 'static {
    /// In the name of its file in the data folder.
    const NAME: &'static str;
    /// What it is sent, in words.
    const SENT: &'static str;
    const METRICS: Metrics;

    /// What it has to remember beside the place.
    type State: Clone + Default + Send + Serialize + DeserializeOwned;

    /// Where it is; `None` where nobody is to be told.
    fn server(kit: &Kit) -> Option<&str>;

    /// Goes on by other settings. True where the way there is another now.
    fn take(&mut self, before: &Kit, now: &Kit) -> bool;

    /// Sends what `records` say, and returns how much that was once it has arrived, as far as can be
    /// known.
    ///
    /// # Errors
    /// In words: all of it will be told again, with the state from before.
    fn tell(
        &mut self,
        kit: &Kit,
        records: &[Written],
        state: &mut Self::State,
    ) -> impl Future<Output = Result<u64, String>> + Send;
}

/// Names of what is counted.
pub struct Metrics {
    pub sent: &'static str,
    pub failures: &'static str,
    /// Records of the ledger, and seconds since something waits.
    pub behind: &'static str,
    pub behind_s: &'static str,
}

/// How far a listener is: what its file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept<S> {
    #[serde(flatten)]
    place: FollowPlace,
    #[serde(default)]
    state: S,
}

struct Follower<L: Listener> {
    kit: Arc<Kit>,
    listener: L,
    kept: Kept<L::State>,
    failures: u32,
    /// Since when something waits.
    behind_since: Option<Instant>,
    why: String,
}

/// How far the ledger was told by an earlier run; without one, its end: what was done before the
/// listener was switched on is not told. So is a place that the ledger does not have: it was made
/// anew. To be asked for before anything is written that should be told.
pub fn remembered<L: Listener>(kit: &Kit) -> Kept<L::State> {
    let end = Kept { place: kit.store.followed_to(), state: L::State::default() };
    if L::server(kit).is_none() {
        return end;
    }
    let bytes = std::fs::read(kit.store.data().join(file::<L>())).ok();
    let kept = bytes.and_then(|bytes| serde_json::from_slice::<Kept<L::State>>(&bytes).ok());
    match kept {
        Some(kept) if kept.place.number <= end.place.number => return kept,
        Some(_) => tracing::error!("the ledger ends before what was told: {} begin anew", L::SENT),
        None => (),
    }
    keep::<L>(&kit.store, &end);
    end
}

/// Tells the listener until `stop`, and then once more what stands in the ledger.
///
/// - `kept`: see [`remembered`].
pub async fn run_until_stopped<L: Listener>(
    listener: L,
    kits: Arc<Kits>,
    kept: Kept<L::State>,
    stop: CancellationToken,
) {
    let (kit, why) = (kits.now(), String::new());
    let mut follower = Follower { kit, listener, kept, failures: 0, behind_since: None, why };
    loop {
        let is_last = stop.is_cancelled();
        follower.take(kits.now());
        if is_last && follower.failures > 0 {
            return;
        }
        let more = follower.step().await;
        follower.show();
        if is_last {
            return;
        }
        let pause = match (follower.failures, more) {
            (0, true) => continue,
            (0, false) => LOOK,
            (n, _) => PAUSE_MAX.min(LOOK * 2u32.saturating_pow(n.min(10))),
        };
        tokio::select! {
            () = stop.cancelled() => (),
            () = tokio::time::sleep(pause) => (),
        }
    }
}

impl<L: Listener> Follower<L> {
    /// Goes on by the settings in force.
    fn take(&mut self, kit: Arc<Kit>) {
        if self.listener.take(&self.kit, &kit) {
            self.failures = 0;
        }
        self.kit = kit;
    }

    /// Sends what stands in the ledger now. True when there may be more.
    async fn step(&mut self) -> bool {
        match self.try_step().await {
            Ok(more) => {
                self.failures = 0;
                more
            }
            Err(why) => {
                if self.failures == 0 {
                    let server = L::server(&self.kit).unwrap_or_default();
                    tracing::warn!(server, why, "{} do not arrive; they are kept", L::SENT);
                }
                self.failures += 1;
                self.why = why;
                metrics::counter!(L::METRICS.failures).increment(1);
                false
            }
        }
    }

    async fn try_step(&mut self) -> Result<bool, String> {
        if L::server(&self.kit).is_none() {
            // Nobody is told; who is told later is told from then on.
            self.kept.place = self.kit.store.followed_to();
            self.kept.state = L::State::default();
            return Ok(false);
        }
        let (store, after) = (self.kit.store.clone(), self.kept.place);
        let read = tokio::task::spawn_blocking(move || store.follow(&after, RECORDS_MAX)).await;
        let records =
            read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut state = self.kept.state.clone();
        let sent = self.listener.tell(&self.kit, &records, &mut state).await?;
        if let Some(last) = records.last() {
            self.kept = Kept { place: last.end, state };
            keep::<L>(&self.kit.store, &self.kept);
            metrics::counter!(L::METRICS.sent).increment(sent);
        }
        Ok(records.len() >= RECORDS_MAX)
    }

    /// How far behind, in metrics and on the pages.
    fn show(&mut self) {
        let end = self.kit.store.followed_to().number;
        let behind = end.saturating_sub(self.kept.place.number);
        metrics::gauge!(L::METRICS.behind).set(behind as f64);
        let late = match (behind, self.failures) {
            (0, _) | (_, 0) => {
                self.behind_since = None;
                Duration::ZERO
            }
            _ => self.behind_since.get_or_insert_with(Instant::now).elapsed(),
        };
        metrics::gauge!(L::METRICS.behind_s).set(late.as_secs_f64());
        let told = (late > BEHIND_MAX).then(|| {
            let server = L::server(&self.kit).unwrap_or_default();
            let (minutes, why) = (late.as_secs() / 60, &self.why);
            format!("{} have not reached {server} for {minutes} minutes: {why}", L::SENT)
        });
        self.kit.attention.say(L::NAME, told.into_iter().collect());
    }
}

fn file<L: Listener>() -> String {
    format!("{}.place", L::NAME)
}

fn keep<L: Listener>(store: &Store, kept: &Kept<L::State>) {
    let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other);
    if let Err(error) = bytes.and_then(|bytes| store.keep_beside(&file::<L>(), &bytes)) {
        tracing::error!(%error, "how far {} are cannot be kept: some may come again", L::SENT);
    }
}
