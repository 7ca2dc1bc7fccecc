//! Everything the steps work with, built from the settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use tokio_util::task::TaskTracker;

use crate::alert;
use crate::analysis;
use crate::analysis::AnalyzeError;
use crate::analysis::config::Gateway;
use crate::analysis::config::Kind;
use crate::analysis::provider::Provider;
use crate::analysis::provider::cache::Cache;
use crate::analysis::provider::command::Program;
use crate::analysis::provider::keeper::Kept;
use crate::analysis::provider::onnx::Onnx;
use crate::analysis::provider::openai::OpenAi;
use crate::config::Settings;
use crate::dicom::tls;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::text;
use crate::orders::worklist::Worklist;
use crate::pipeline::earlier::Marks;
use crate::pipeline::escalating::Started;
use crate::pipeline::key_file;
use crate::pipeline::way::Kit;
use crate::store::Orders;
use crate::store::Store;
use crate::worker;
use crate::worker::Pool;

/// The key of the links by which people answer alerts.
const ALERTS_KEY: &str = "alerts.key";

/// Everything the steps work with, and the workers that they share.
///
/// - `answers`: folder of the answers that are kept.
/// - `before`: the kit that this one follows: what it has counted goes on, and so do gateways that did
///   not change.
pub fn kit(
    settings: &Settings,
    store: &Store,
    answers: &Path,
    program: &Path,
    tasks: &TaskTracker,
    before: Option<&Kit>,
) -> anyhow::Result<Kit> {
    let profiles = analysis::profile::load(settings.analysis.site_profiles())
        .context("the profiles cannot be used")?;
    let same_cache = before.filter(|kit| kit.analysis.cache == settings.analysis.cache);
    let answers = match same_cache {
        Some(kit) => Arc::clone(&kit.answers),
        None => Arc::new(
            Cache::open(answers, &settings.analysis.cache)
                .context("the folder of answers that are kept cannot be used")?,
        ),
    };
    let orders = match before {
        Some(kit) => Arc::clone(&kit.orders),
        None => {
            Arc::new(Orders::open(store.data()).context("the folder of orders cannot be used")?)
        }
    };
    let pool = match before {
        Some(kit) => kit.pool.clone(),
        None => Pool::start(&settings.worker, program.to_owned(), tasks.clone()),
    };
    let marks = Marks::open(store.data()).context("the key of patients' marks cannot be made")?;
    Ok(Kit {
        providers: gateways(settings, store, &pool, program, before)?,
        gateway_marks: marks_of(settings),
        pool,
        store: store.clone(),
        clock: Arc::new(SystemClock),
        started: before.map_or_else(|| Started::now(SystemClock.now()), |kit| kit.started),
        profiles,
        canaries: before.map_or_else(Arc::default, |kit| Arc::clone(&kit.canaries)),
        answers,
        equipment: equipment(settings),
        pipeline: settings.pipeline.clone(),
        assemble: settings.assemble.clone(),
        analysis: settings.analysis.clone(),
        deid: settings.deid.clone(),
        report: settings.report.clone(),
        deliver: settings.deliver.clone(),
        alert: settings.alert.clone(),
        audit: settings.audit.clone(),
        traces: settings.traces.clone(),
        commitment: settings.commitment.clone(),
        hl7: settings.hl7.clone(),
        orders,
        orders_keep_days: settings.orders.keep_days,
        worklist: Arc::new(Worklist::new(&settings.orders.worklist)),
        ae_title: settings.dicom.ae_title.clone(),
        attention: before.map_or_else(Arc::default, |kit| Arc::clone(&kit.attention)),
        digests: before.map_or_else(Arc::default, |kit| Arc::clone(&kit.digests)),
        links: alert::Signer::new(
            key_file::open(store.data(), ALERTS_KEY, "links in earlier alerts do not hold")
                .context("the key of the links in alerts cannot be made")?,
        ),
        marks,
    })
}

/// The doors with TLS of DICOM, of the page and of HL7, where they have an address.
///
/// # Errors
/// Names the section whose files cannot be used.
pub fn servers(settings: &Settings) -> anyhow::Result<[Option<Arc<tls::Server>>; 3]> {
    let open = |config: &tls::Config, at: &str| match config.is_on() {
        true => {
            let server = tls::Server::new(config);
            Ok(Some(Arc::new(server.with_context(|| format!("{at} cannot be used"))?)))
        }
        false => anyhow::Ok(None),
    };
    Ok([
        open(&settings.dicom.tls, "dicom.tls")?,
        open(&settings.http.tls, "http.tls")?,
        open(&settings.hl7.tls, "hl7.tls")?,
    ])
}

/// Workers for viewers alone.
pub fn viewers(settings: &Settings) -> worker::Config {
    let processes = settings.http.dicomweb.workers;
    worker::Config { processes, ..settings.worker.clone() }
}

/// The gateways of the configuration, with what their keys were used for this month.
///
/// - `pool`: where models of the site run.
/// - `program`: this program, which sets the limits of programs of the site.
fn gateways(
    settings: &Settings,
    store: &Store,
    pool: &Pool,
    program: &Path,
    before: Option<&Kit>,
) -> anyhow::Result<BTreeMap<String, Arc<Kept>>> {
    let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // An index that is being made anew knows later; quotas are then counted from now.
    let rows = store.usage(today.first_of_month(), today).unwrap_or_default();
    let mut gateways = BTreeMap::new();
    for (name, gateway) in &settings.analysis.gateways {
        let unchanged = before.filter(|kit| kit.gateway_marks.get(name) == Some(&mark(gateway)));
        if let Some(kept) = unchanged.and_then(|kit| kit.providers.get(name)) {
            gateways.insert(name.clone(), Arc::clone(kept));
            continue;
        }
        let used = |key: &str| {
            let of_it = rows.iter().filter(|row| row.gateway == *name && row.key == key);
            of_it.map(|row| row.calls - row.cached).sum()
        };
        let provider: Result<Arc<dyn Provider>, AnalyzeError> = match gateway.kind {
            Kind::Openai => OpenAi::new(name, gateway, used).map(|one| Arc::new(one) as _),
            Kind::Onnx => {
                Onnx::new(name, gateway, Arc::new(pool.clone())).map(|one| Arc::new(one) as _)
            }
            Kind::Command => {
                let folder = store.data().join("readers").join(name);
                Program::new(name, gateway, program, &folder).map(|one| Arc::new(one) as _)
            }
        };
        let provider = provider.with_context(|| format!("the gateway {name} cannot be used"))?;
        let kept = Kept::new(provider, &gateway.limits);
        gateways.insert(name.clone(), Arc::new(kept));
    }
    Ok(gateways)
}

fn marks_of(settings: &Settings) -> BTreeMap<String, String> {
    settings.analysis.gateways.iter().map(|(name, gateway)| (name.clone(), mark(gateway))).collect()
}

/// Of the settings of a gateway and what the files hold that they name: a key may be another under
/// the same name.
fn mark(gateway: &Gateway) -> String {
    let settings = serde_json::to_value(gateway).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(settings.to_string());
    hash_files(&settings, &mut hash);
    let manifest = std::fs::read(gateway.folder.join("manifest.json"));
    hash.update(manifest.unwrap_or_default());
    text::hex(&hash.finalize())
}

fn hash_files(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key.ends_with("_file")) {
                    Some(file) => hash.update(std::fs::read(file).unwrap_or_default()),
                    None => hash_files(value, hash),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| hash_files(value, hash)),
        _ => {}
    }
}

/// The node as General Equipment of what it writes.
fn equipment(settings: &Settings) -> crate::sr::Equipment {
    crate::sr::Equipment {
        station_name: settings.dicom.ae_title.to_string(),
        time_zone: settings.report.zone().unwrap_or(jiff::tz::TimeZone::UTC),
        ..crate::sr::Equipment::default()
    }
}
