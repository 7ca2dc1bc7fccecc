//! Settings that are read again while the node works.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::parts;
use crate::config::ConfigError;
use crate::config::Settings;
use crate::dicom::storage_scp::Shared;
use crate::dicom::tls;
use crate::pipeline::audit;
use crate::pipeline::runner;
use crate::pipeline::way::Kits;
use crate::telemetry;
use crate::web::Setting;
use crate::web::Site;
use crate::web::local::Reloaded;
use crate::worker::Pool;

/// Reads the settings again, from where they came at the start.
pub type Load = Box<dyn Fn() -> Result<Settings, ConfigError> + Send + Sync>;

/// Keys that are told of; a file that was written anew may have hundreds.
const KEYS_MAX: usize = 50;
/// How this part names itself among what an operator should know.
const SETTINGS: &str = "settings";

pub struct Reloader {
    pub load: Load,
    /// In force.
    pub settings: Mutex<Settings>,
    pub kits: Arc<Kits>,
    pub shared: Arc<Shared>,
    /// Ends the runners of the kit in force, once they have done what they do.
    pub retire: Mutex<CancellationToken>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// Of the answers that are kept, and this program's own file.
    pub answers: PathBuf,
    pub program: PathBuf,
    /// The doors with TLS, as [`parts::servers`] has them.
    pub servers: [Option<Arc<tls::Server>>; 3],
    /// Workers for viewers.
    pub viewers: Pool,
    /// Once it is open.
    pub site: OnceLock<Arc<Site>>,
}

impl Reloader {
    /// Reads the settings again and takes them, all or nothing, within a tokio runtime. Blocking.
    pub fn reload(&self) -> Reloaded {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = (self.load)();
        let taken = loaded
            .map_err(|error| error.problems.iter().map(ToString::to_string).collect())
            .and_then(|wanted| self.take(&mut settings, wanted));
        let kit = self.kits.now();
        let (is_taken, lines) = match taken {
            Ok(lines) => {
                tracing::info!("the settings were read again");
                lines.iter().for_each(|line| tracing::info!("settings: {line}"));
                kit.attention.say(SETTINGS, Vec::new());
                let note = audit::note(&kit, audit::message::words::RELOADED);
                tokio::runtime::Handle::current().block_on(note);
                (true, lines)
            }
            Err(lines) => {
                tracing::error!("the settings cannot be used; those from before stay in force");
                lines.iter().for_each(|line| tracing::error!("settings: {line}"));
                let first = lines.first().map_or("", String::as_str);
                let (at, more) =
                    (kit.clock.now().strftime("%H:%M UTC"), lines.len().saturating_sub(1));
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let told = format!(
                    "the settings that were read at {at} cannot be used, those from before stay in \
                     force: {first}{more}"
                );
                kit.attention.say(SETTINGS, vec![told]);
                (false, lines)
            }
        };
        metrics::gauge!("prelim_settings_refused").set(if is_taken { 0.0 } else { 1.0 });
        Reloaded { taken: is_taken, lines }
    }

    /// What is in force, value by value.
    pub fn effective(&self) -> Vec<Setting> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).effective()
    }

    /// Puts `wanted` in force. What changed, and what waits for a restart, as lines.
    fn take(&self, settings: &mut Settings, wanted: Settings) -> Result<Vec<String>, Vec<String>> {
        let next = without_restart(settings, &wanted);
        let in_words = |error: anyhow::Error| vec![format!("{error:#}")];
        let before = self.kits.now();
        let (store, tasks) = (&before.store, &self.tasks);
        // All that can fail comes first.
        let kit = parts::kit(&next, store, &self.answers, &self.program, tasks, Some(&before));
        let kit = kit.map_err(in_words)?;
        parts::servers(&next).map_err(in_words)?;
        let token = next.http.token().map_err(|error| vec![error.to_string()])?;
        store.configure(&next.store).map_err(|error| vec![error.to_string()])?;
        let changed = differences(settings, &next).into_iter().map(|key| format!("changed: {key}"));
        let waits = differences(&next, &wanted);
        let waits = waits.into_iter().map(|key| format!("needs a restart: {key}"));
        let mut lines: Vec<String> = changed.chain(waits).collect();
        let doors = [&next.dicom.tls, &next.http.tls, &next.hl7.tls];
        for (server, config) in self.servers.iter().zip(doors) {
            // A file may have gone since it was looked at.
            if let Some(Err(error)) = server.as_ref().map(|server| server.configure(config)) {
                lines.push(format!("the certificate from before stays: {error}"));
            }
        }
        telemetry::configure(&next.telemetry);
        self.shared.configure(next.dicom.clone());
        kit.pool.configure(&next.worker);
        self.viewers.configure(&parts::viewers(&next));
        self.kits.replace(kit);
        let retire = self.stop.child_token();
        let mut running = self.retire.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *running, retire.clone()).cancel();
        runner::start(&self.kits.now(), &retire, &self.stop, tasks);
        if let Some(site) = self.site.get() {
            site.change(|state| {
                state.config = Arc::new(next.http.clone());
                state.token = token;
                state.currency.clone_from(&next.analysis.currency);
                state.dicomweb.ae_title = next.dicom.ae_title.to_string();
                state.dicomweb.object_bytes_max = next.dicom.object_bytes_max;
            });
        }
        *settings = next;
        Ok(lines)
    }
}

/// `wanted`, but for what only a start can change: addresses, and the memory of the index.
fn without_restart(now: &Settings, wanted: &Settings) -> Settings {
    let mut next = wanted.clone();
    next.dicom.listen.clone_from(&now.dicom.listen);
    next.dicom.tls.listen.clone_from(&now.dicom.tls.listen);
    next.http.listen = now.http.listen;
    next.http.tls.listen.clone_from(&now.http.tls.listen);
    next.hl7.listen.clone_from(&now.hl7.listen);
    next.hl7.tls.listen.clone_from(&now.hl7.tls.listen);
    next.store.index_cache_bytes = now.store.index_cache_bytes;
    next
}

/// Keys that differ, without their values.
fn differences(one: &Settings, other: &Settings) -> Vec<String> {
    let value = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    let mut found = Vec::new();
    compare("", &value(one), &value(other), &mut found);
    if found.len() > KEYS_MAX {
        let more = found.len() - KEYS_MAX;
        found.truncate(KEYS_MAX);
        found.push(format!("{more} more"));
    }
    found
}

fn compare(at: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                let there = other.get(key).unwrap_or(&Value::Null);
                compare(&below(key), value, there, found);
            }
            for (key, _) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                found.push(below(key));
            }
        }
        (one, other) if one == other => {}
        _ => found.push(at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_start_can_change_stays_and_is_named() {
        let now = Settings::default();
        let mut wanted = Settings::default();
        wanted.assemble.quiet_period_s = 77;
        wanted.http.requests_max = 7;
        wanted.hl7.listen = "127.0.0.1:2575".into();
        wanted.http.tls.listen = "127.0.0.1:8443".into();
        wanted.deliver.email.from = "node@hospital.example".into();
        let next = without_restart(&now, &wanted);
        let changed = ["assemble.quiet_period_s", "deliver.email.from", "http.requests_max"];
        let mut found = differences(&now, &next);
        found.sort();
        assert_eq!(found, changed);
        let mut waits = differences(&next, &wanted);
        waits.sort();
        assert_eq!(waits, ["hl7.listen", "http.tls.listen"]);
    }
}
