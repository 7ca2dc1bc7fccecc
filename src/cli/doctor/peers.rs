//! Who is asked and told: gateways, destinations, mail, worklist, people.

use std::pin::Pin;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::analysis::config::Gateway;
use crate::analysis::config::Kind;
use crate::analysis::provider::command;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::cli::doctor::Check;
use crate::cli::doctor::sight;
use crate::config::Settings;
use crate::deliver;
use crate::deliver::DeliverError;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls_client;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::pipeline::audit;
use crate::pipeline::traces;

type Asking<'a> = Pin<Box<dyn Future<Output = Check> + 'a>>;

/// Days for which a place on call should have its holder.
const DAYS: u32 = 14;

/// Everyone who can be asked, each within the limit.
pub fn all(settings: &Settings, limit: Duration) -> Vec<Asking<'_>> {
    let mut asking: Vec<Asking<'_>> = Vec::new();
    for (name, gateway) in &settings.analysis.gateways {
        let limit = limit.max(sight::PATIENCE);
        asking.push(Box::pin(within(limit, format!("gateway {name}"), reads(name, gateway))));
    }
    for destination in settings.deliver.destinations() {
        asking.push(Box::pin(reached(settings, destination, limit)));
    }
    if settings.deliver.email.is_set() {
        asking.push(Box::pin(async move {
            let asked = tokio::time::timeout(limit, deliver::email::reach(&settings.deliver.email));
            let mend =
                "deliver.email: host, port, mode, user and password_file; the mail server's log";
            match asked.await {
                Ok(Ok(found)) => Check::ok("mail", found),
                Ok(Err(error)) => Check::broken("mail", error.to_string(), mend),
                Err(_) => Check::broken("mail", format!("no answer within {limit:?}"), mend),
            }
        }));
    }
    if !settings.audit.syslog.address.is_empty() {
        let mend = "audit.syslog: address, transport and tls; the server's log";
        asking.push(Box::pin(within(limit, "audit.syslog".to_owned(), async {
            let asked = audit::reach(&settings.audit).await;
            asked.map(|()| "it takes messages".to_owned()).map_err(|why| (why, mend.to_owned()))
        })));
    }
    if !settings.traces.url.is_empty() {
        let mend = "traces: url with its path (/v1/traces), token_file; the collector's log";
        asking.push(Box::pin(within(limit, "traces".to_owned(), async {
            let asked = traces::reach(&settings.traces).await;
            asked.map(|()| "it takes spans".to_owned()).map_err(|why| (why, mend.to_owned()))
        })));
    }
    if settings.orders.worklist.target().is_some() {
        let mend = "orders.worklist.archive; does the worklist know our AE title?";
        let asked = worklist(settings);
        asking.push(Box::pin(async move {
            match tokio::time::timeout(limit, asked).await {
                Ok(Ok(())) => Check::ok("worklist", "answers C-ECHO"),
                Ok(Err(why)) => Check::broken("worklist", why, mend),
                Err(_) => Check::broken("worklist", format!("no answer within {limit:?}"), mend),
            }
        }));
    }
    asking
}

async fn within(
    limit: Duration,
    what: String,
    asked: impl Future<Output = Result<String, (String, String)>>,
) -> Check {
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(found)) => Check::ok(what, found),
        Ok(Err((found, mend))) => Check::broken(what, found, mend),
        Err(_) => {
            let mend = "is it running, and is a firewall between?";
            Check::broken(what, format!("no answer within {limit:?}"), mend)
        }
    }
}

/// Whether a gateway can be asked, and sees a picture of ours; a reading is not made.
async fn reads(name: &str, gateway: &Gateway) -> Result<String, (String, String)> {
    let at = format!("analysis.gateways.{name}");
    match gateway.kind {
        Kind::Openai => sight::sees(name, gateway).await,
        Kind::Onnx => {
            let checked = Manifest::open(&gateway.folder)
                .map_err(|problems| problems.join("; "))
                .and_then(|manifest| manifest.is_of_graph(&gateway.folder).map(|()| manifest));
            let mend = format!("{at}.folder: the model with the manifest that belongs to it");
            checked
                .map(|manifest| format!("{} {} is whole", manifest.name, manifest.version))
                .map_err(|why| (why, mend))
        }
        Kind::Command => {
            let mend =
                format!("{at}.program: a file that the node's user may run, and only root change");
            command::can_be_run(&gateway.program)
                .map(|()| format!("{} can be run", gateway.program.display()))
                .map_err(|why| (why, mend))
        }
    }
}

async fn reached(settings: &Settings, destination: String, limit: Duration) -> Check {
    let asked = deliver::reach::reach(&settings.deliver, &destination);
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(found)) => Check::ok(destination, found),
        Ok(Err(error)) => {
            let mend = mend(&error, &destination);
            Check::broken(destination, error.to_string(), mend)
        }
        Err(_) => {
            let error = DeliverError::TimedOut { waited: limit };
            let mend = mend(&error, &destination);
            Check::broken(destination, error.to_string(), mend)
        }
    }
}

fn mend(error: &DeliverError, destination: &str) -> String {
    let key = format!("deliver.{destination}");
    match error {
        DeliverError::Unreachable { .. } => {
            format!("is it running, and is the address in {key} right? A firewall may be between")
        }
        DeliverError::TimedOut { .. } => {
            format!("a firewall that drops, or a peer that is too slow; {key}.timeout_s")
        }
        DeliverError::Deferred { .. }
        | DeliverError::Refused { .. }
        | DeliverError::NoSuchAddress { .. }
        | DeliverError::ContentRefused { .. } => {
            format!("its log says why: does it know our name, address and token? {key}")
        }
        DeliverError::NotTaken { .. } => {
            format!(
                "have these kinds allowed there, or set {key}.artefacts; prelim probe shows more"
            )
        }
        DeliverError::NotEncrypted => "deliver.email.mode = \"tls\", or STARTTLS there".to_owned(),
        DeliverError::File { .. } => format!("the folder's owner and mode; {key}"),
        DeliverError::PartlyRefused { .. } | DeliverError::Settings { .. } => {
            format!("correct {key}; config/example.toml shows what it takes")
        }
    }
}

async fn worklist(settings: &Settings) -> Result<(), String> {
    let config = &settings.orders.worklist;
    let Some((ae_title, address)) = config.target() else { return Ok(()) };
    let tls = tls_client::read(config.tls.as_ref()).await.map_err(|e| e.to_string())?;
    let calling_ae = settings.dicom.ae_title.clone();
    let target = Target { ae_title, calling_ae, address, tls };
    let wait = Duration::from_secs(config.timeout_s);
    let timeouts = Timeouts { connect: wait, answer: wait, ..Timeouts::default() };
    storage_scu::echo(&target, &timeouts).await.map_err(|error| error.to_string())
}

/// Whether anybody hears of what is urgent, and can answer.
pub fn people(settings: &Settings) -> Vec<Check> {
    let config = &settings.alert;
    if config.recipients.is_empty() {
        let mend = "[alert.recipients.on_call] with emails or webhooks";
        return vec![Check::broken("alerts", "nobody is told of urgent findings", mend)];
    }
    let mut checks = vec![Check::ok(
        "alerts",
        format!("lists of people: {}; prelim drill tries the whole loop", config.recipients.len()),
    )];
    if config.base_url.is_empty() {
        let found = "messages hold no link: alerts can be answered on the pages alone";
        checks.push(Check::warning(
            "alert.base_url",
            found,
            "the address of the pages, as people reach it",
        ));
    }
    if config.technical().is_empty() {
        let found = "nobody is told of missing images and undelivered results";
        let mend = "technical = true in one of [alert.recipients]";
        checks.push(Check::warning("alert.recipients", found, mend));
    }
    let site = settings.report.zone().unwrap_or(TimeZone::UTC);
    for (name, schedule) in &config.schedules {
        let shifts = schedule.shifts(SystemClock.now(), DAYS, &site, &config.holidays);
        let what = format!("on call {name}");
        checks.push(match shifts.iter().find(|shift| shift.who.is_none()) {
            None => Check::ok(what, format!("somebody holds it for the next {DAYS} days")),
            Some(gap) => {
                let local = gap.from.to_zoned(schedule.zone(&site));
                let found = format!("nobody holds it from {}", local.strftime("%a %Y-%m-%d %H:%M"));
                Check::warning(what, found, format!("prelim oncall {name}; a layer or an override"))
            }
        });
    }
    checks
}
