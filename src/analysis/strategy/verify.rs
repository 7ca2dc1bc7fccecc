//! The verifier: a model that is shown what another found, and tries to refute it before anyone is
//! told. What it refutes is not dropped: it becomes undetermined, and a person looks.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::analysis::answer;
use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::Written;
use crate::analysis::strategy;
use crate::domain::finding::Presence;
use crate::domain::finding::Verdict;
use crate::domain::urgency::Urgency;

/// More than this are not sent: an answer with so many is odd by itself.
const CLAIMS_MAX: usize = 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    pub verdicts: Vec<AnsweredVerdict>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredVerdict {
    /// Of the claim, from 1.
    pub number: u32,
    pub verdict: Verdict,
    pub probability: f64,
    pub why: String,
}

impl Written for Verdicts {
    fn text(&self) -> String {
        let all: Vec<&str> = self.verdicts.iter().map(|verdict| verdict.why.as_str()).collect();
        all.join(". ")
    }
}

/// What is to be refuted, in the order of their numbers.
pub fn claims(answer: &Answer) -> Vec<&AnsweredFinding> {
    strategy::present(answer).take(CLAIMS_MAX).collect()
}

/// JSON Schema (draft 2020-12) of the verifier's answer.
pub fn schema(claims: usize) -> Value {
    let verdict = answer::object(&[
        ("number", json!({"type": "integer", "minimum": 1, "maximum": claims})),
        ("why", json!({"type": "string", "maxLength": 1000})),
        ("probability", json!({"type": "number", "minimum": 0, "maximum": 1})),
        ("verdict", json!({"type": "string", "enum": ["upheld", "refuted", "unclear"]})),
    ]);
    let list = json!({"type": "array", "maxItems": CLAIMS_MAX, "items": verdict});
    answer::object(&[("verdicts", list)])
}

/// The answer as it stands after the verifier, and why a person has to look at it. A claim without
/// a verdict is unclear: it stands, as does what the verifier upholds.
pub fn verified(answer: &Answer, verdicts: &Verdicts) -> (Answer, Option<String>) {
    let mut after = answer.clone();
    let mut refuted = Vec::new();
    let claims = after.findings.iter_mut().filter(|f| f.presence == Presence::Present);
    for (number, finding) in (1..).zip(claims.take(CLAIMS_MAX)) {
        // Two words on one claim are none.
        let mut on_it = verdicts.verdicts.iter().filter(|verdict| verdict.number == number);
        let verdict = match (on_it.next(), on_it.next()) {
            (Some(verdict), None) => verdict,
            _ => {
                finding.support.verdict = Some(Verdict::Unclear);
                continue;
            }
        };
        finding.support.verdict = Some(verdict.verdict);
        match verdict.verdict {
            Verdict::Upheld | Verdict::Unclear => {}
            Verdict::Refuted => {
                refuted.push(strategy::name(finding));
                finding.presence = Presence::Undetermined;
                finding.probability = (finding.probability + verdict.probability) / 2.0;
            }
        }
    }
    if refuted.is_empty() {
        return (after, None);
    }
    // The words spoke of what is open now. What is left says how urgent it is; a person looks
    // at the rest, and soon.
    after.impression.clear();
    after.recommendation.clear();
    let left = strategy::present(&after).map(strategy::urgency).max().unwrap_or_default();
    after.urgency = after.urgency.min(left.max(Urgency::Significant));
    let review = format!("a second model does not see {}", refuted.join(", "));
    (after, Some(review))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;

    fn answer() -> Answer {
        let present = |key| testing::entry(key, json!({"presence": "present", "probability": 0.8}));
        let findings =
            vec![present("pneumothorax"), testing::entry("mass", json!({})), present("nodule")];
        let mut whole = testing::answer(&testing::profile("chest_xray"), findings);
        whole["urgency"] = "critical".into();
        whole["impression"] = "Pneumothorax and a nodule.".into();
        serde_json::from_value(whole).unwrap()
    }

    fn say(words: &[(u32, Verdict)]) -> Verdicts {
        let verdict = |(number, verdict): &(u32, Verdict)| AnsweredVerdict {
            number: *number,
            verdict: *verdict,
            probability: 0.2,
            why: String::new(),
        };
        Verdicts { verdicts: words.iter().map(verdict).collect() }
    }

    #[test]
    fn what_is_refuted_is_open_and_for_a_person_and_the_rest_stands() {
        use Presence::Present;
        use Presence::Undetermined;
        use Verdict::Refuted;
        use Verdict::Unclear;
        use Verdict::Upheld;
        let before = answer();
        assert_eq!(
            claims(&before).iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
            ["pneumothorax", "nodule"]
        );
        type Row<'a> = (&'a [(u32, Verdict)], [Presence; 2], [Verdict; 2], Urgency);
        let rows: [Row<'_>; 6] = [
            (&[(1, Upheld), (2, Upheld)], [Present; 2], [Upheld; 2], Urgency::Critical),
            (
                &[(1, Refuted), (2, Upheld)],
                [Undetermined, Present],
                [Refuted, Upheld],
                Urgency::Significant,
            ),
            (
                &[(1, Upheld), (2, Refuted)],
                [Present, Undetermined],
                [Upheld, Refuted],
                Urgency::Urgent,
            ),
            (&[], [Present; 2], [Unclear; 2], Urgency::Critical),
            (&[(1, Refuted), (1, Upheld)], [Present; 2], [Unclear; 2], Urgency::Critical),
            (&[(9, Refuted), (2, Unclear)], [Present; 2], [Unclear; 2], Urgency::Critical),
        ];
        for (words, presence, verdicts, urgency) in rows {
            let (after, review) = verified(&before, &say(words));
            let of = |at: usize| &after.findings[at];
            assert_eq!([of(0).presence, of(2).presence], presence, "{words:?}");
            assert_eq!([of(0), of(2)].map(|f| f.support.verdict), verdicts.map(Some), "{words:?}");
            assert_eq!(after.urgency, urgency, "{words:?}");
            let any = presence != [Present; 2];
            assert_eq!((review.is_some(), after.impression.is_empty()), (any, any), "{words:?}");
        }
        let (after, review) = verified(&before, &say(&[(1, Refuted)]));
        assert_eq!(review.unwrap(), "a second model does not see Pneumothorax");
        assert!((after.findings[0].probability - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_schema_takes_what_a_verifier_says() {
        let text =
            r#"{"verdicts": [{"number": 1, "why": "", "probability": 0.1, "verdict": "refuted"}]}"#;
        let read: Verdicts = crate::analysis::answer::parse(text, &schema(1)).unwrap();
        assert_eq!(read.verdicts[0].verdict, Verdict::Refuted);
        let of_another = text.replace("\"number\": 1", "\"number\": 2");
        assert!(crate::analysis::answer::parse::<Verdicts>(&of_another, &schema(1)).is_err());
    }
}
