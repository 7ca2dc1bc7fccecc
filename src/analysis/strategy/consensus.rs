//! Several models that read the same pictures side by side: their findings are matched by concept,
//! side and place, and what most of them see counts. What a few see is not hidden.

use std::collections::BTreeSet;

use crate::analysis::Reading;
use crate::analysis::RunLog;
use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredBox;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::ImageQuality;
use crate::analysis::answer::Side;
use crate::analysis::answer::Usable;
use crate::analysis::strategy;
use crate::domain::assessment::Algorithm;
use crate::domain::call::Tokens;
use crate::domain::finding::Presence;
use crate::domain::finding::Support;
use crate::domain::uid;
use crate::domain::urgency::Urgency;

/// One answer of several, and why a person has to look at it.
///
/// - Present: more than half of the readers who know it see it. Undetermined: some of them do.
/// - `answers`: at least one.
/// - `knows`: whether the reader of this answer has a word for the key at all: who has none says
///   nothing by his silence.
pub fn consensus(
    answers: &[&Answer],
    knows: impl Fn(usize, &str) -> bool,
) -> (Answer, Option<String>) {
    let mut findings: Vec<AnsweredFinding> = Vec::new();
    let mut review = Vec::new();
    for group in groups(answers) {
        let key = &group.said[0].1.key;
        let knowing = (0..answers.len()).filter(|reader| knows(*reader, key)).count();
        let readers = knowing.max(group.said.len());
        let (finding, present) = merged(&group, readers);
        let is_split = present > 0 && 2 * present <= readers;
        if is_split && strategy::urgency(&finding) >= Urgency::Urgent {
            let name = strategy::name(&finding);
            review.push(format!("{present} of {readers} models see {name}"));
        }
        findings.push(finding);
    }
    let worst = answers.iter().map(|answer| &answer.image_quality).max_by_key(|q| rank(q.usable));
    let image_quality = worst
        .cloned()
        .unwrap_or(ImageQuality { usable: Usable::NotDiagnostic, remarks: String::new() });
    let seen = |findings: &[AnsweredFinding]| -> BTreeSet<String> {
        let present = findings.iter().filter(|finding| finding.presence == Presence::Present);
        present.map(strategy::name).collect()
    };
    // The words of a reader who saw just this; else the judge puts it in words.
    let by_confidence = |a: &&&Answer, b: &&&Answer| a.confidence.total_cmp(&b.confidence);
    let alike = answers.iter().filter(|answer| seen(&answer.findings) == seen(&findings));
    let spokesman = alike.max_by(by_confidence);
    let text = |of: fn(&Answer) -> &String| spokesman.map_or_else(String::new, |a| of(a).clone());
    let answer = Answer {
        impression: text(|answer| &answer.impression),
        recommendation: text(|answer| &answer.recommendation),
        image_quality,
        urgency: answers.iter().map(|answer| answer.urgency).max().unwrap_or_default(),
        confidence: mean(answers.iter().map(|answer| answer.confidence)),
        findings,
    };
    (answer, (!review.is_empty()).then(|| review.join("; ")))
}

/// The readers as one, who said `answer`.
pub fn joint(readings: &[Reading], answer: Answer) -> Reading {
    let of = |text: fn(&Reading) -> &str, between: &str| {
        readings.iter().map(text).collect::<Vec<_>>().join(between)
    };
    let model = |one: &Algorithm| format!("model={} {}", one.name, one.version);
    let mut parameters: Vec<String> = readings.iter().map(|r| model(&r.algorithm)).collect();
    let first = readings.first().map(|reading| &reading.log);
    if let Some(log) = first {
        parameters.push(format!("prompt={} sha256:{}", log.prompt_version, log.prompt_digest));
    }
    let devices: Vec<&str> = readings.iter().map(|r| r.algorithm.device_uid.as_str()).collect();
    let sum = |of: fn(&Tokens) -> u64| readings.iter().map(|r| of(&r.log.tokens)).sum();
    Reading {
        answer,
        algorithm: Algorithm {
            name: "prelim-consensus".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            manufacturer: "Prelim".into(),
            device_uid: uid::derived(&[&["device", "consensus"], devices.as_slice()].concat()),
            parameters,
            provider: of(|r| &r.log.provider, "+"),
            measures_only: false,
        },
        notes: readings.iter().flat_map(|r| r.notes.iter().cloned()).collect(),
        log: RunLog {
            provider: of(|r| &r.log.provider, "+"),
            model: of(|r| &r.log.model, "+"),
            prompt_version: first.map_or_else(String::new, |log| log.prompt_version.clone()),
            prompt_digest: first.map_or_else(String::new, |log| log.prompt_digest.clone()),
            pictures: first.map_or_else(Vec::new, |log| log.pictures.clone()),
            answer_digest: of(|r| &r.log.answer_digest, "+"),
            tokens: Tokens { prompt: sum(|t| t.prompt), completion: sum(|t| t.completion) },
            latency_ms: readings.iter().map(|r| r.log.latency_ms).max().unwrap_or(0),
            repaired: readings.iter().any(|r| r.log.repaired),
            cached: readings.iter().all(|r| r.log.cached),
        },
    }
}

/// What the readers say of one thing, each at most once while they see it.
struct Group<'a> {
    said: Vec<(usize, &'a AnsweredFinding)>,
}

impl<'a> Group<'a> {
    fn takes(&self, reader: usize, finding: &AnsweredFinding) -> bool {
        self.said.iter().all(|(other, known)| *other != reader && is_same(known, finding))
    }
}

/// What somebody sees makes the groups; the others' word on it joins them.
fn groups<'a>(answers: &[&'a Answer]) -> Vec<Group<'a>> {
    let all =
        || answers.iter().enumerate().flat_map(|(r, a)| a.findings.iter().map(move |f| (r, f)));
    let is_seen = |f: &AnsweredFinding| f.presence == Presence::Present;
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (reader, finding) in all().filter(|(_, finding)| is_seen(finding)) {
        match groups.iter_mut().find(|group| group.takes(reader, finding)) {
            Some(group) => group.said.push((reader, finding)),
            None => groups.push(Group { said: vec![(reader, finding)] }),
        }
    }
    let seen = groups.len();
    for (reader, finding) in all().filter(|(_, finding)| !is_seen(finding)) {
        let mut known = false;
        for group in groups[..seen].iter_mut().filter(|g| g.said[0].1.key == finding.key) {
            known = true;
            if group.takes(reader, finding) {
                group.said.push((reader, finding));
            }
        }
        if known {
            continue;
        }
        match groups[seen..].iter_mut().find(|group| group.takes(reader, finding)) {
            Some(group) => group.said.push((reader, finding)),
            None => groups.push(Group { said: vec![(reader, finding)] }),
        }
    }
    groups
}

fn is_same(a: &AnsweredFinding, b: &AnsweredFinding) -> bool {
    let sides = match (a.laterality, b.laterality) {
        (Side::Right, Side::Left) | (Side::Left, Side::Right) => false,
        (Side::Right | Side::Left | Side::Bilateral | Side::None, _) => true,
    };
    let word = |finding: &AnsweredFinding| finding.name.trim().to_lowercase();
    let named = match (a.row(), b.row()) {
        (Some(one), Some(other)) => one.key == other.key,
        (None, None) => a.key == b.key && word(a) == word(b),
        (Some(_), None) | (None, Some(_)) => false,
    };
    named && sides && !are_apart(&a.boxes, &b.boxes)
}

/// Whether both are marked on the same picture, at different places.
fn are_apart(a: &[AnsweredBox], b: &[AnsweredBox]) -> bool {
    let pairs = || a.iter().flat_map(|one| b.iter().map(move |other| (one, other)));
    let shared = || pairs().filter(|(one, other)| one.picture == other.picture);
    let overlap = |one: &AnsweredBox, other: &AnsweredBox| {
        one.x0.max(other.x0) < one.x1.min(other.x1) && one.y0.max(other.y0) < one.y1.min(other.y1)
    };
    shared().next().is_some() && !shared().any(|(one, other)| overlap(one, other))
}

/// What counts of a group, and how many see it.
fn merged(group: &Group<'_>, readers: usize) -> (AnsweredFinding, usize) {
    let of = |presence| group.said.iter().map(|(_, f)| *f).filter(move |f| f.presence == presence);
    let present = of(Presence::Present).count();
    let presence = match present {
        n if 2 * n > readers => Presence::Present,
        0 if 2 * of(Presence::Undetermined).count() < readers => Presence::Absent,
        _ => Presence::Undetermined,
    };
    let by_probability =
        |a: &&AnsweredFinding, b: &&AnsweredFinding| a.probability.total_cmp(&b.probability);
    let loudest = of(Presence::Present).max_by(by_probability);
    let open = || of(Presence::Undetermined).max_by(by_probability);
    let speaker = loudest.or_else(open).unwrap_or(group.said[0].1);
    let support = Support {
        readers: u32::try_from(readers).unwrap_or(u32::MAX),
        present: u32::try_from(present).unwrap_or(u32::MAX),
        verdict: None,
    };
    let probability = mean(group.said.iter().map(|(_, f)| f.probability));
    let urgency = group.said.iter().map(|(_, f)| f.urgency).max().unwrap_or_default();
    // The mean of several is measured by no one's own threshold.
    let threshold = speaker.threshold.filter(|_| group.said.len() == 1);
    let merged =
        AnsweredFinding { presence, probability, urgency, support, threshold, ..speaker.clone() };
    (merged, present)
}

fn rank(usable: Usable) -> u8 {
    match usable {
        Usable::Good => 0,
        Usable::Limited => 1,
        Usable::NotDiagnostic => 2,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;
    use serde_json::Value;
    use serde_json::json;

    fn answer(findings: &[Value]) -> Answer {
        let mut whole = testing::answer(&testing::profile("chest_xray"), Vec::new());
        whole["findings"] = findings.iter().cloned().collect();
        whole["impression"] = "Words.".into();
        serde_json::from_value(whole).unwrap()
    }

    fn seen(key: &str, side: &str, x0: f64) -> Value {
        let boxes = json!([{"picture": 1, "x0": x0, "y0": 0.1, "x1": x0 + 0.2, "y1": 0.3}]);
        let changes =
            json!({"presence": "present", "probability": 0.9, "laterality": side, "boxes": boxes});
        testing::entry(key, changes)
    }

    fn not(key: &str) -> Value {
        testing::entry(key, json!({}))
    }

    /// What each reader said.
    type Given<'a> = &'a [&'a [Value]];
    /// key, presence, readers that see it
    type Row<'a> = (&'a str, Presence, u32);

    #[test]
    fn findings_are_matched_by_concept_side_and_place_and_most_votes_count() {
        use Presence::Absent;
        use Presence::Present;
        use Presence::Undetermined;
        let [left, right] = ["left", "right"].map(|side| [seen("pneumothorax", side, 0.1)]);
        let (no_air, no_nodule) = ([not("pneumothorax")], [not("nodule")]);
        let nodule = |x0| [seen("nodule", "none", x0)];
        let ([one], [other]) = (nodule(0.1), nodule(0.6));
        let (both, both_too) = ([one.clone(), other.clone()], [other, one]);
        let open = |key, present| (key, Undetermined, present);
        let rows: [(Given<'_>, &[Row<'_>], bool); 8] = [
            (&[&left, &left, &no_air], &[("pneumothorax", Present, 2)], false),
            (&[&left, &no_air, &no_air], &[open("pneumothorax", 1)], true),
            (&[&left, &no_air], &[open("pneumothorax", 1)], true),
            (&[&left, &right], &[open("pneumothorax", 1), open("pneumothorax", 1)], true),
            (&[&nodule(0.1), &nodule(0.2)], &[("nodule", Present, 2)], false),
            (
                &[&nodule(0.1), &nodule(0.6), &no_nodule],
                &[open("nodule", 1), open("nodule", 1)],
                false,
            ),
            (&[&both, &both_too], &[("nodule", Present, 2), ("nodule", Present, 2)], false),
            (&[&no_nodule, &no_nodule, &[]], &[("nodule", Absent, 0)], false),
        ];
        for (answers, expected, is_for_review) in rows {
            let answers: Vec<Answer> = answers.iter().map(|findings| answer(findings)).collect();
            let (answer, review) = consensus(&answers.iter().collect::<Vec<_>>(), |_, _| true);
            let found: Vec<Row> = answer
                .findings
                .iter()
                .map(|f| (f.key.as_str(), f.presence, f.support.present))
                .collect();
            assert_eq!(
                (found.as_slice(), review.is_some()),
                (expected, is_for_review),
                "{review:?}"
            );
            assert!(answer.findings.iter().all(|f| f.support.readers as usize == answers.len()));
        }
    }

    /// A model of a few findings beside one of all: its silence on the rest is no vote.
    #[test]
    fn who_has_no_word_for_a_finding_does_not_vote_on_it() {
        let (air, nodule) = (seen("pneumothorax", "left", 0.1), seen("nodule", "none", 0.1));
        let (whole, narrow) = (answer(&[air, nodule]), answer(&[not("nodule")]));
        let knows = |reader: usize, key: &str| reader == 0 || key == "nodule";
        let (answer, review) = consensus(&[&whole, &narrow], knows);
        let of = |key: &str| {
            let finding = answer.findings.iter().find(|finding| finding.key == key).unwrap();
            (finding.presence, finding.support.present, finding.support.readers)
        };
        assert_eq!(of("pneumothorax"), (Presence::Present, 1, 1));
        assert_eq!(of("nodule"), (Presence::Undetermined, 1, 2));
        assert_eq!(review, None, "a nodule is not urgent");
    }

    #[test]
    fn the_words_are_those_of_a_reader_who_saw_just_what_counts() {
        let (sees, none) = (answer(&[seen("nodule", "none", 0.1)]), answer(&[not("nodule")]));
        let (of_two, _) = consensus(&[&sees, &sees, &none], |_, _| true);
        assert_eq!(of_two.impression, "Words.");
        assert!((of_two.findings[0].probability - (0.9 + 0.9 + 0.05) / 3.0).abs() < 1e-9);
        let more = answer(&[seen("nodule", "none", 0.1), seen("mass", "none", 0.5)]);
        let (mixed, _) =
            consensus(&[&more, &sees, &answer(&[seen("mass", "none", 0.5)])], |_, _| true);
        assert_eq!(mixed.impression, "Words.");
        let (split, _) = consensus(&[&sees, &answer(&[seen("mass", "none", 0.5)])], |_, _| true);
        assert_eq!(split.impression, "", "nobody saw just this");
    }
}
