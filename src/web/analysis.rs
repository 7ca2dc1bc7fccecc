//! How the models do: what they take and cost, how doctors agree, and what an operator can move.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::agreement::By;
use crate::analysis::agreement::Share;
use crate::analysis::provider::GatewayView;
use crate::pipeline::canary::CanaryView;
use crate::pipeline::statistics;
use crate::pipeline::statistics::Statistics;
use crate::store::UsageRow;
use crate::web::Shared;
use crate::web::Web;
use crate::web::evidence::money;
use crate::web::inspect;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::query;
use crate::web::query::Choice;

const DAYS: [u32; 4] = [7, 30, 90, 365];
const DAYS_DEFAULT: u32 = 30;

#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    days: Option<u32>,
    by: Option<String>,
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    days: Vec<Choice>,
    groups: Vec<Choice>,
    usage: Vec<UsagePart>,
    by_day: Vec<UsagePart>,
    total: String,
    agreement: Vec<AgreementPart>,
    alerts_right: String,
    drifts: Vec<DriftPart>,
    canaries: Vec<CanaryPart>,
    gateways: Vec<GatewayPart>,
}

/// Calls of one group.
#[derive(Debug, Default, PartialEq, Serialize)]
struct UsagePart {
    group: String,
    calls: u64,
    failed: u64,
    cached: u64,
    tokens: u64,
    seconds: String,
    cost: String,
    unpriced: u64,
    /// Of the most expensive, else the busiest group, in percent: for the bar.
    share: u64,
}

#[derive(Serialize)]
struct AgreementPart {
    group: String,
    observations: u32,
    agreement: String,
    sensitivity: String,
    specificity: String,
    ppv: String,
}

#[derive(Serialize)]
struct DriftPart {
    examination: String,
    finding: String,
    week: String,
    before: String,
}

#[derive(Serialize)]
struct CanaryPart {
    name: String,
    of: String,
    candidate: String,
    phase: String,
    since: Moment,
    why: String,
    calls: usize,
    failed: usize,
    p99_ms: u64,
    differs: String,
    is_different: bool,
}

#[derive(Serialize)]
struct GatewayPart {
    name: String,
    model: String,
    key: &'static str,
    /// Why it is not asked, or what was wrong at the last look.
    problem: String,
    checked: Option<Moment>,
    keys: Vec<KeyPart>,
}

#[derive(Serialize)]
struct KeyPart {
    name: String,
    state: String,
    calls: u64,
    /// 0: no limit.
    calls_max: u64,
    expires: String,
}

pub async fn show(
    State(web): State<Web>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let page = web.read(move |web| page_of(web, &wanted)).await?;
    web.pages.render("analysis", &page)
}

fn page_of(web: &Shared, wanted: &Wanted) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let (store, currency) = (&web.node.store, &web.node.currency);
    let days = wanted.days.filter(|days| DAYS.contains(days)).unwrap_or(DAYS_DEFAULT);
    let by = wanted.by.as_deref().and_then(By::parse).unwrap_or(By::Finding);
    let last = now.to_zoned(TimeZone::system()).date();
    let first = last.saturating_sub(jiff::Span::new().days(i64::from(days) - 1));
    let rows = inspect::usage(store, first, last, currency)?.rows;
    let Statistics { lines, alert_precision, drift, .. } =
        statistics::statistics(store, &[by], days, now)?;
    let total: u64 = rows.iter().map(|row| row.cost_micro).sum();
    let words =
        |group: &str, values: Vec<String>, chosen: &str| query::words(group, values, chosen);
    Ok(Page {
        frame: Frame::new(web, "analysis", "analysis"),
        days: words("days", DAYS.iter().map(u32::to_string).collect(), &days.to_string()),
        groups: words("by", By::WORDS.map(str::to_owned).into(), by.as_str()),
        usage: grouped(&rows, currency, |row| format!("{} · {}", row.gateway, row.model)),
        by_day: grouped(&rows, currency, |row| row.day.to_string()),
        total: money(total, currency),
        agreement: lines
            .into_iter()
            .map(|line| AgreementPart {
                group: line.group.join(" · "),
                observations: line.observations,
                agreement: percent(line.agreement.as_ref()),
                sensitivity: percent(line.sensitivity.as_ref()),
                specificity: percent(line.specificity.as_ref()),
                ppv: percent(line.ppv.as_ref()),
            })
            .collect(),
        alerts_right: percent(alert_precision.as_ref()),
        drifts: drift
            .into_iter()
            .filter(|drift| drift.alarm)
            .map(|drift| DriftPart {
                week: percent(drift.week.as_ref()),
                before: percent(drift.before.as_ref()),
                examination: drift.examination,
                finding: drift.finding,
            })
            .collect(),
        canaries: (web.node.canaries)()?.into_iter().map(|view| canary(view, now)).collect(),
        gateways: (web.node.gateways)().into_iter().map(|view| gateway(view, now)).collect(),
    })
}

fn grouped(
    rows: &[UsageRow],
    currency: &str,
    group: impl Fn(&UsageRow) -> String,
) -> Vec<UsagePart> {
    #[derive(Default)]
    struct Sum {
        part: UsagePart,
        latency_ms: u64,
        cost_micro: u64,
    }
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry(group(row)).or_default();
        sum.part.calls += row.calls;
        sum.part.failed += row.failed;
        sum.part.cached += row.cached;
        sum.part.tokens += row.tokens.prompt + row.tokens.completion;
        sum.part.unpriced += row.unpriced;
        sum.latency_ms += row.latency_ms;
        sum.cost_micro += row.cost_micro;
    }
    let most_cost = sums.values().map(|sum| sum.cost_micro).max().unwrap_or(0);
    let most_calls = sums.values().map(|sum| sum.part.calls).max().unwrap_or(0);
    let parts = sums.into_iter().map(|(group, sum)| {
        let (of, most) = match most_cost {
            0 => (sum.part.calls, most_calls),
            most => (sum.cost_micro, most),
        };
        let asked = sum.part.calls.saturating_sub(sum.part.cached).max(1);
        let tenths = sum.latency_ms / asked / 100;
        UsagePart {
            group,
            seconds: format!("{}.{}", tenths / 10, tenths % 10),
            cost: money(sum.cost_micro, currency),
            share: (of * 100).checked_div(most).unwrap_or(0),
            ..sum.part
        }
    });
    parts.collect()
}

/// `83 % (71–91) of 48`; empty where nothing is known.
fn percent(share: Option<&Share>) -> String {
    let whole = |value: f64| (value * 100.0).round();
    share.map_or(String::new(), |share| {
        let (low, high) = (whole(share.low), whole(share.high));
        format!("{} % ({low}–{high}), n = {}", whole(share.value), share.of)
    })
}

fn canary(view: CanaryView, now: Timestamp) -> CanaryPart {
    CanaryPart {
        phase: view.phase.to_string(),
        since: page::moment(view.since, now),
        differs: match view.compared {
            0 => String::new(),
            n => format!("{:.0} %, n = {n}", view.difference * 100.0),
        },
        is_different: view.is_different,
        name: view.name,
        of: view.of,
        candidate: view.candidate,
        why: view.why,
        calls: view.calls,
        failed: view.failed,
        p99_ms: view.p99_ms,
    }
}

fn gateway(view: GatewayView, now: Timestamp) -> GatewayPart {
    let problem = view.rests.or(view.problem).unwrap_or_default();
    let key = match (problem.is_empty(), view.checked_at) {
        (false, _) => "failed",
        (true, Some(_)) => "done",
        (true, None) => "pending",
    };
    let keys = view.keys.into_iter().map(|key| KeyPart {
        name: key.name,
        state: key.state,
        calls: key.calls,
        calls_max: key.calls_max,
        expires: key.expires.map(|day| day.to_string()).unwrap_or_default(),
    });
    GatewayPart {
        name: view.name,
        model: view.model,
        key,
        problem,
        checked: view.checked_at.map(|at| page::moment(at, now)),
        keys: keys.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_group_are_added_and_a_cached_one_takes_no_time() {
        let row = |day: &str, calls: u64, cached: u64, cost_micro: u64| -> UsageRow {
            serde_json::from_value(serde_json::json!({
                "day": day, "gateway": "main", "key": "", "model": "m", "tier": "read",
                "modality": "CR", "source": "A", "calls": calls, "failed": 0, "cached": cached,
                "tokens": { "prompt": 10, "completion": 1 }, "pictures": 1, "cost_micro": cost_micro,
                "unpriced": 0, "latency_ms": 3000, "last_at": "2026-01-02T00:00:00Z",
            }))
            .unwrap()
        };
        let rows = [row("2026-01-01", 2, 1, 500), row("2026-01-02", 1, 0, 1000)];
        let days = grouped(&rows, "EUR", |row| row.day.to_string());
        assert_eq!(days.iter().map(|day| day.share).collect::<Vec<_>>(), [50, 100]);
        assert_eq!((days[0].seconds.as_str(), days[0].cost.as_str()), ("3.0", "0.0005 EUR"));
        let all = grouped(&rows, "EUR", |row| row.gateway.clone());
        assert_eq!((all.len(), all[0].calls, all[0].tokens), (1, 3, 22));
    }
}
