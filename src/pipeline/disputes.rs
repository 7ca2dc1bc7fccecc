//! On what the models that read a study do not agree, and who said what.

use crate::analysis::Reading;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::Side;
use crate::analysis::strategy;
use crate::analysis::strategy::Tier;
use crate::analysis::strategy::verify;
use crate::domain::assessment::Disputed;
use crate::domain::assessment::Opinion;
use crate::domain::finding::Presence;
use crate::domain::finding::Verdict;
use crate::pipeline::record::Run;

/// What at least one reader calls present and another does not, the most urgent first. A verifier
/// is a reader of what it was shown; a shadow is none.
pub fn of(runs: &[Run]) -> Vec<Disputed> {
    let reads = |run: &&Run| matches!(run.tier, Tier::Read | Tier::Third);
    let readings: Vec<&Reading> =
        runs.iter().filter(reads).filter_map(|run| run.reading.as_ref()).collect();
    let mut found: Vec<Disputed> = Vec::new();
    for reading in &readings {
        for finding in strategy::present(&reading.answer) {
            let (name, laterality) = (strategy::name(finding), finding.laterality.laterality());
            let key = finding.row().map_or(&finding.key, |row| &row.key).clone();
            let is_same = |one: &Disputed| one.name == name && one.laterality == laterality;
            if found.iter().any(is_same) {
                continue;
            }
            let mut said: Vec<Opinion> =
                readings.iter().filter_map(|other| opinion(other, finding)).collect();
            said.extend(runs.iter().filter_map(|run| verdict(run, &readings, finding)));
            let urgency = strategy::urgency(finding).max(reading.answer.urgency);
            if said.iter().any(|one| one.presence != Presence::Present) {
                found.push(Disputed { key, name, laterality, urgency, said });
            }
        }
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.urgency));
    found
}

/// What a reader says of it; `None` when it says nothing.
fn opinion(reading: &Reading, of: &AnsweredFinding) -> Option<Opinion> {
    let same = |one: &&AnsweredFinding| one.key == of.key && one.name == of.name;
    let said: Vec<&AnsweredFinding> = reading.answer.findings.iter().filter(same).collect();
    let other_side = |one: &AnsweredFinding| {
        matches!(
            (one.laterality, of.laterality),
            (Side::Left, Side::Right) | (Side::Right, Side::Left)
        )
    };
    let on_it = said.iter().find(|one| !other_side(one));
    // Who sees it on the other side alone does not see it on this one.
    let presence = on_it.map(|one| one.presence);
    let presence = presence.or((!said.is_empty()).then_some(Presence::Absent))?;
    let probability = on_it.map(|one| one.probability);
    Some(Opinion { who: reading.algorithm.label(), presence, probability })
}

/// What a verifier made of the claim of the reading that it was shown.
fn verdict(run: &Run, readings: &[&Reading], of: &AnsweredFinding) -> Option<Opinion> {
    let verdicts = run.verdicts.as_ref()?;
    let number = readings.iter().find_map(|reading| {
        let claims = verify::claims(&reading.answer);
        let at = claims.iter().position(|claim| {
            claim.key == of.key && claim.name == of.name && claim.laterality == of.laterality
        });
        at.and_then(|at| u32::try_from(at + 1).ok())
    })?;
    let verdict = verdicts.answer.verdicts.iter().find(|one| one.number == number)?;
    Some(Opinion {
        who: verdicts.algorithm.label(),
        presence: match verdict.verdict {
            Verdict::Upheld => Presence::Present,
            Verdict::Refuted => Presence::Absent,
            Verdict::Unclear => Presence::Undetermined,
        },
        probability: Some(verdict.probability),
    })
}
