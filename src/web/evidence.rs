//! What a reading rests on: who was asked with what, what it cost, and what doctors said of it.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::agreement::Origin;
use crate::domain::agreement::Verdict;
use crate::pipeline::record::Run;
use crate::store::ComparisonRow;
use crate::web::page;
use crate::web::page::Moment;

/// Characters of a digest that are shown.
const DIGEST_CHARS: usize = 12;

/// One model that was asked.
#[derive(Debug, Serialize)]
pub struct RunPart {
    tier: String,
    gateway: String,
    model: String,
    prompt_version: String,
    prompt_digest: String,
    pictures: usize,
    tokens: u64,
    seconds: String,
    cost: String,
    cached: bool,
    repaired: bool,
    failed: String,
    then: String,
    at: Moment,
}

pub fn runs(runs: &[Run], currency: &str, now: Timestamp) -> Vec<RunPart> {
    runs.iter().map(|run| part(run, currency, now)).collect()
}

fn part(run: &Run, currency: &str, now: Timestamp) -> RunPart {
    let log = run.reading.as_ref().map(|reading| &reading.log);
    let log = log.or_else(|| run.verdicts.as_ref().map(|said| &said.log));
    let log = log.or_else(|| run.object.as_ref().map(|said| &said.log));
    let sum = |of: fn(&crate::domain::call::Call) -> u64| run.calls.iter().map(of).sum::<u64>();
    let milliseconds = sum(|call| call.latency_ms);
    RunPart {
        tier: crate::web::query::word(&run.tier),
        gateway: run.gateway.clone(),
        model: log.map(|log| log.model.clone()).unwrap_or_default(),
        prompt_version: log.map(|log| log.prompt_version.clone()).unwrap_or_default(),
        prompt_digest: log
            .map(|log| log.prompt_digest.chars().take(DIGEST_CHARS).collect())
            .unwrap_or_default(),
        pictures: run.pictures.len(),
        tokens: sum(|call| call.tokens.prompt + call.tokens.completion),
        seconds: format!("{}.{}", milliseconds / 1000, milliseconds / 100 % 10),
        cost: cost(std::slice::from_ref(run), currency),
        cached: log.is_some_and(|log| log.cached),
        repaired: log.is_some_and(|log| log.repaired),
        failed: run.failed.clone().unwrap_or_default(),
        then: run.then.clone(),
        at: page::moment(run.at, now),
    }
}

/// What all calls together cost; empty where none had a price.
pub fn cost(runs: &[Run], currency: &str) -> String {
    let priced = runs.iter().flat_map(|run| &run.calls).filter_map(|call| call.cost_micro);
    let mut priced = priced.peekable();
    match priced.peek() {
        None => String::new(),
        Some(_) => money(priced.sum(), currency),
    }
}

/// Millionths as people write them, four digits after the point.
pub fn money(micro: u64, currency: &str) -> String {
    format!("{}.{:04} {currency}", micro / 1_000_000, micro % 1_000_000 / 100)
}

/// A doctor's word.
#[derive(Debug, Serialize)]
pub struct OpinionPart {
    /// `F1`, …; empty for what was missed and for a final report.
    pub finding: String,
    /// `agree`, `disagree`, `missed` or `final`.
    verdict: &'static str,
    /// What was missed, or the kind of report.
    what: String,
    comment: String,
    by: String,
    at: Moment,
}

pub fn opinions(rows: &[ComparisonRow], now: Timestamp) -> Vec<OpinionPart> {
    let part = |row: &ComparisonRow| {
        let keys = row.comparison.findings.iter().map(|compared| compared.key.as_str());
        let (finding, verdict, what, comment) = match &row.comparison.origin {
            Origin::Feedback { finding, verdict, comment } => {
                let missed = if *verdict == Verdict::Missed { keys.collect() } else { Vec::new() };
                (finding.clone(), verdict.as_str(), missed.join(", "), comment.clone())
            }
            Origin::Final { kind, .. } => {
                (String::new(), "final", kind.as_str().to_owned(), String::new())
            }
        };
        let by = row.comparison.by.clone();
        OpinionPart { finding, verdict, what, comment, by, at: page::moment(row.at, now) }
    };
    rows.iter().rev().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_said_only_where_a_model_has_a_price() {
        assert_eq!(money(1_234_567, "EUR"), "1.2345 EUR");
        assert_eq!(cost(&[], "EUR"), "");
    }
}
