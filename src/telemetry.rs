//! Log lines and metrics.
//!
//! The rule for both: no patient data. A log line, a span field or a metric label may hold UIDs,
//! AE titles, addresses, counts, states and causes of our own wording. It never holds a patient's
//! name, ID, birth date or accession number, text of a report or of a model, a key or a token.
//! Whoever logs a value that came from outside logs its length or its kind instead. Libraries know
//! nothing of this rule and quote what they work on: see [`may_be_told`].
//!
//! Of lines that one peer causes again and again the first of a minute are told: see [`repeats`].

mod meanings;
mod repeats;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde::Serialize;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::telemetry::repeats::Repeats;

/// Section `telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How a log line looks: `human`, or `json` with one object a line.
    pub format: Format,
    /// What is logged: a level, or levels by module: `info,prelim::dicom=debug`. Libraries are
    /// heard at `info` at most, because below that they quote what they work on.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Human,
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config { format: Format::Human, filter: "info".into() }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(error) = EnvFilter::try_new(&self.filter) {
            problems.push(format!(
                "{at}.filter = {:?}: use a level (error, warn, info, debug, trace) or levels by \
                 module such as 'info,prelim::dicom=debug' (default info); {error}",
                self.filter
            ));
        }
    }
}

type Change = Box<dyn Fn(&Config) + Send + Sync>;

/// Changes what is logged and how, once lines are sent anywhere.
static CHANGE: OnceLock<Change> = OnceLock::new();

fn filter(config: &Config) -> EnvFilter {
    EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn lines<S>(config: &Config) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // A line that cannot be written (the log is on the full disk) is lost and no more: told about
    // on standard error it would panic, in the panic hook even, which ends the node.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    match config.format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

/// Libraries that move bytes or keep rows: up to `info` they speak of connections and files.
const WITHOUT_DATA: [&str; 10] =
    ["axum", "h2", "hyper", "hyper_util", "mio", "reqwest", "rustls", "sled", "tokio", "tower"];

/// Whatever the filter says: of libraries, which quote names and texts at `debug` (a template
/// library) or `warn` (a parser), only those are heard that have none, and not below `info`.
fn may_be_told(what: &Metadata<'_>) -> bool {
    let module = what.target().split("::").next().unwrap_or_default();
    let ours = module == env!("CARGO_PKG_NAME");
    ours || (WITHOUT_DATA.contains(&module) && *what.level() <= Level::INFO)
}

/// Sends log lines to standard error, and keeps panic messages, which can quote the data they
/// stumbled over, out of them. The first call wins, so tests may call it more than once.
pub fn init(config: &Config) {
    let (wanted, change_filter) = reload::Layer::new(filter(config));
    let (lines_now, change_lines) = reload::Layer::new(lines(config));
    // Of all lines, and beside what can be changed: a layer with a filter of its own cannot be.
    let tellable = filter_fn(may_be_told);
    let repeats = Repeats::default();
    let all = tracing_subscriber::registry().with(tellable).with(wanted);
    let all = all.with(repeats.clone()).with(lines_now);
    if all.try_init().is_ok() {
        repeats.tell_each_minute();
        let _ = CHANGE.set(Box::new(move |config| {
            let changed = change_filter.reload(filter(config));
            if let Err(error) = changed.and_then(|()| change_lines.reload(lines(config))) {
                tracing::error!(%error, "log lines stay as they are");
            }
        }));
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
            tracing::error!(place = place.unwrap_or_default(), "a thread panicked");
        }));
    }
}

/// Goes on by other settings.
pub fn configure(config: &Config) {
    if let Some(change) = CHANGE.get() {
        change(config);
    }
}

/// Upper bounds of the histograms' buckets, for durations from a socket write to an analysis.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Installs the recorder behind `metrics::counter!` and its siblings, and hands out what
/// `/metrics` renders. In one process a second call gives a handle that records nothing.
pub fn metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("a metrics recorder is installed already");
    }
    meanings::describe();
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let mut problems = Vec::new();
        Config::default().check("telemetry", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        Config { filter: "info,prelim=loud".into(), ..Config::default() }
            .check("telemetry", &mut problems);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("telemetry.filter = "), "{problems:?}");
    }
}
