//! Models side by side: what each took, how often it answered, how much it said, and how far it
//! agrees with the others that saw the same study.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::answer::Answer;
use crate::analysis::strategy::Tier;
use crate::domain::finding::Presence;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::record::Run;
use crate::pipeline::replay;
use crate::store::Store;
use crate::store::StoreError;

/// Studies that are looked through; the newest ones.
const STUDIES_MAX: usize = 20_000;

/// What was asked about one study.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Keys of the findings that its profile asks for.
    pub findings: Vec<String>,
    pub runs: Vec<Run>,
}

/// The readings of one gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub gateway: String,
    pub model: String,
    /// Studies that it was asked about.
    pub asked: usize,
    /// Share of them that it answered.
    pub success_rate: f64,
    /// Median and 99th percentile of the time to an answer, repairs included; of answers that
    /// were not kept from before.
    pub latency_ms_p50: u64,
    pub latency_ms_p99: u64,
    /// Of an answer, on average.
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Millionths of the currency for a study, on average, failed calls included; `None` without a
    /// price.
    pub cost_micro: Option<u64>,
    /// Share of the findings asked for on which it says something.
    pub completeness: f64,
    /// Studies that another model has read too.
    pub compared: usize,
    /// Share of the findings asked for on which it says the same as another, over those studies.
    pub agreement: Option<f64>,
}

/// All of them, and who is ahead in what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub studies: usize,
    pub rows: Vec<Row>,
    pub fastest: Option<String>,
    pub cheapest: Option<String>,
    pub most_complete: Option<String>,
    pub most_reliable: Option<String>,
}

/// The runs of the studies that changed since then, from their result folders.
///
/// # Errors
/// The index cannot be read. Files that cannot be read are passed over.
pub fn gather(store: &Store, since: Timestamp) -> Result<Vec<Asked>, StoreError> {
    let recent = store.studies_that(move |row| row.changed_at >= since)?;
    let mut all = Vec::new();
    for row in recent.into_iter().take(STUDIES_MAX) {
        let (uid, revision) = (&row.study_uid, row.revision);
        let Some(plan) = replay::file::<PlanRecord>(store, uid, revision, record::PLAN) else {
            continue;
        };
        let runs = replay::runs(store, uid, revision)?;
        if !runs.is_empty() && !plan.profile.is_free() {
            all.push(Asked { findings: plan.profile.findings, runs });
        }
    }
    Ok(all)
}

/// What stands in the runs, by gateway. A verifier reads nothing and is not among them.
pub fn compare(studies: &[Asked]) -> Comparison {
    let mut gathered: BTreeMap<String, Gathered> = BTreeMap::new();
    for study in studies {
        let readings =
            || study.runs.iter().filter(|run| run.tier != Tier::Verify && !run.is_outside);
        for run in readings() {
            let one = gathered.entry(run.gateway.clone()).or_default();
            one.take(run, &study.findings);
            let Some(answer) = run.reading.as_ref().map(|reading| &reading.answer) else {
                continue;
            };
            let others = readings().filter(|other| other.gateway != run.gateway);
            let others = others.filter_map(|other| other.reading.as_ref());
            let same: Vec<f64> =
                others.map(|other| agreement(answer, &other.answer, &study.findings)).collect();
            if !same.is_empty() {
                one.agreements.push(mean(&same));
            }
        }
    }
    let rows: Vec<Row> = gathered.into_iter().map(|(name, one)| one.row(name)).collect();
    let answered = || rows.iter().filter(|row| row.success_rate > 0.0);
    let most = |value: fn(&Row) -> f64| {
        answered().max_by(|a, b| value(a).total_cmp(&value(b))).map(|row| row.gateway.clone())
    };
    let priced = || answered().filter(|row| row.cost_micro.is_some());
    Comparison {
        studies: studies.len(),
        fastest: answered().min_by_key(|row| row.latency_ms_p50).map(|row| row.gateway.clone()),
        cheapest: priced().min_by_key(|row| row.cost_micro).map(|row| row.gateway.clone()),
        most_complete: most(|row| row.completeness),
        most_reliable: most(|row| row.success_rate),
        rows,
    }
}

#[derive(Default)]
struct Gathered {
    model: String,
    asked: usize,
    latencies_ms: Vec<u64>,
    answers: usize,
    tokens: (u64, u64),
    cost_micro: u64,
    unpriced: bool,
    completeness: Vec<f64>,
    agreements: Vec<f64>,
}

impl Gathered {
    fn take(&mut self, run: &Run, findings: &[String]) {
        self.asked += 1;
        for call in &run.calls {
            self.model.clone_from(&call.model);
            self.cost_micro += call.cost_micro.unwrap_or(0);
            self.unpriced |= call.cost_micro.is_none();
        }
        let Some(reading) = &run.reading else { return };
        self.answers += 1;
        self.tokens.0 += reading.log.tokens.prompt;
        self.tokens.1 += reading.log.tokens.completion;
        if !reading.log.cached {
            self.latencies_ms.push(reading.log.latency_ms);
        }
        let said = findings.iter().filter(|key| presence(&reading.answer, key).is_some());
        self.completeness.push(said.count() as f64 / findings.len().max(1) as f64);
    }

    fn row(mut self, gateway: String) -> Row {
        self.latencies_ms.sort_unstable();
        let percentile = |of: usize| {
            let rank = (self.latencies_ms.len() * of).div_ceil(100).saturating_sub(1);
            self.latencies_ms.get(rank).copied().unwrap_or(0)
        };
        let answers = self.answers.max(1) as u64;
        Row {
            gateway,
            asked: self.asked,
            success_rate: self.answers as f64 / self.asked.max(1) as f64,
            latency_ms_p50: percentile(50),
            latency_ms_p99: percentile(99),
            tokens_in: self.tokens.0 / answers,
            tokens_out: self.tokens.1 / answers,
            cost_micro: (!self.unpriced).then(|| self.cost_micro / self.asked.max(1) as u64),
            completeness: mean(&self.completeness),
            compared: self.agreements.len(),
            agreement: (!self.agreements.is_empty()).then(|| mean(&self.agreements)),
            model: self.model,
        }
    }
}

/// Present when one entry of several says so.
fn presence(answer: &Answer, key: &str) -> Option<Presence> {
    let said = || answer.findings.iter().filter(|finding| finding.key == key);
    let present = said().find(|finding| finding.presence == Presence::Present);
    present.or(said().next()).map(|finding| finding.presence)
}

/// Share of the findings on which both say the same, silence included.
fn agreement(one: &Answer, other: &Answer, findings: &[String]) -> f64 {
    let same = findings.iter().filter(|key| presence(one, key) == presence(other, key));
    same.count() as f64 / findings.len().max(1) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(gateway: &str, tier: &str, ms: u64, said: &[(&str, &str)]) -> Run {
        let finding = |(key, presence): &(&str, &str)| {
            json!({"key": key, "name": "", "presence": presence, "probability": 0.9,
                "laterality": "none", "severity": "none", "site": "", "description": "",
                "pictures": [], "boxes": [], "measurements": [], "differential": [],
                "recommendation": "", "urgency": "routine"})
        };
        let findings: Vec<_> = said.iter().map(finding).collect();
        let tokens = json!({"prompt": 900, "completion": 200});
        let reading = json!({
            "answer": {"findings": findings, "impression": "", "recommendation": "",
                "image_quality": {"usable": "good", "remarks": ""}, "urgency": "routine",
                "confidence": 0.9},
            "algorithm": {"name": "m", "version": "1", "manufacturer": "", "device_uid": "2.25.1",
                "parameters": [], "provider": gateway, "measures_only": false},
            "log": {"provider": gateway, "model": "m", "prompt_version": "", "prompt_digest": "",
                "pictures": [], "answer_digest": "", "tokens": tokens, "latency_ms": ms,
                "repaired": false},
        });
        let failed = said.is_empty();
        let call = json!({"gateway": gateway, "model": "m", "tokens": tokens, "pictures": 1,
            "latency_ms": ms, "outcome": "answered", "cost_micro": 10 * ms});
        serde_json::from_value(
            json!({"tier": tier, "gateway": gateway, "at": "2026-11-22T00:00:00Z",
            "calls": [call], "reading": if failed { json!(null) } else { reading },
            "failed": if failed { json!("busy") } else { json!(null) }, "then": ""}),
        )
        .unwrap()
    }

    #[test]
    fn models_are_compared_over_the_studies_that_they_were_asked_about() {
        let findings = || vec!["nodule".to_owned(), "mass".to_owned()];
        let both = [("nodule", "present"), ("mass", "absent")];
        let studies = [
            Asked {
                findings: findings(),
                runs: vec![
                    run("slow", "read", 400, &both),
                    run("quick", "shadow", 100, &[("nodule", "present")]),
                    run("sceptic", "verify", 1, &both),
                ],
            },
            Asked {
                findings: findings(),
                runs: vec![
                    run("slow", "read", 200, &[("nodule", "present"), ("mass", "present")]),
                    run("quick", "screen", 50, &[]),
                ],
            },
        ];
        let found = compare(&studies);
        let row = |name: &str| found.rows.iter().find(|row| row.gateway == name).unwrap();
        assert_eq!(found.rows.len(), 2, "a verifier is no reader");
        let (slow, quick) = (row("slow"), row("quick"));
        assert_eq!((slow.asked, slow.success_rate, slow.completeness), (2, 1.0, 1.0));
        assert_eq!(
            (slow.latency_ms_p50, slow.latency_ms_p99, slow.cost_micro),
            (200, 400, Some(3000))
        );
        assert_eq!(
            (quick.success_rate, quick.completeness, quick.cost_micro),
            (0.5, 0.5, Some(750))
        );
        assert_eq!((quick.compared, quick.agreement), (1, Some(0.5)), "on one of two findings");
        let ahead = [&found.fastest, &found.cheapest, &found.most_complete, &found.most_reliable];
        assert_eq!(ahead.map(|name| name.as_deref().unwrap()), ["quick", "quick", "slow", "slow"]);
        assert_eq!(compare(&[]), Comparison::default());
    }
}
