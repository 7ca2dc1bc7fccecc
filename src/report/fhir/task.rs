//! That somebody has to acknowledge a critical result, as a Task.

use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::domain::urgency::Urgency;
use crate::report::fhir::Writer;
use crate::report::fhir::values::instant;
use crate::report::fhir::values::label;
use crate::report::fhir::values::system;
use crate::report::fhir::values::token;

impl Writer<'_> {
    /// Only of a critical result. It is made where the server has none, so that neither a repeat nor a
    /// revision asks again who has acknowledged already; one that an earlier revision asked for is
    /// cancelled when this one is not critical any more.
    pub fn task(&self) -> Option<Value> {
        let is_critical = self.a.urgency == Some(Urgency::Critical);
        let was_critical =
            || self.options.previous.iter().any(|a| a.urgency == Some(Urgency::Critical));
        if !is_critical && !was_critical() {
            return None;
        }
        let number = format!("{}/acknowledge", self.number());
        let found_at = self.a.finished_at;
        let wait = i64::try_from(self.options.critical_wait_s).unwrap_or(900);
        let until = found_at.saturating_add(SignedDuration::from_secs(wait));
        let mut resource = json!({
            "resourceType": "Task",
            "meta": {"security": [label()]},
            "identifier": [{"system": system(), "value": number}],
            "status": "requested",
            "intent": "order",
            "priority": "stat",
            "description": "Acknowledge a critical result. It is preliminary and unverified: \
                            software output, not a diagnosis.",
            "focus": {"reference": self.full_url("report")},
            "for": self.subject(),
            "authoredOn": instant(found_at, self.zone),
            "requester": {"reference": self.full_url("device")},
            "restriction": {"period": {
                "start": instant(found_at, self.zone),
                "end": instant(until.unwrap_or(Timestamp::MAX), self.zone),
            }},
        });
        let identifier = token(&system(), &number);
        if is_critical {
            return Some(self.made("task", resource, &format!("identifier={identifier}")));
        }
        resource["status"] = "cancelled".into();
        resource["statusReason"] = json!({
            "text": format!("revision {}, read with all images that came since, is not critical", self.a.revision)
        });
        Some(self.put("task", resource, &identifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assessment::Assessment;
    use crate::domain::sample;
    use crate::report::Language;
    use crate::report::ReportInput;
    use crate::report::fhir::Options;
    use crate::report::fhir::fhir;
    use crate::report::sample::site;

    fn of(assessment: &Assessment, options: &Options<'_>) -> Value {
        let (site, language) = (site(), Language::En);
        let input =
            ReportInput { assessment, language, pictures: &[], communications: &[], site: &site };
        fhir(&input, options)
    }

    fn entry(bundle: &Value, kind: &str) -> Option<Value> {
        let mut entries = bundle["entry"].as_array().unwrap().iter();
        entries.find(|entry| entry["resource"]["resourceType"] == kind).cloned()
    }

    /// Asked for once, with its time; taken back by a revision that does not find it.
    #[test]
    fn a_critical_result_asks_for_somebody_who_acknowledges_it() {
        let critical = Assessment { urgency: Some(Urgency::Critical), ..sample::positive_chest() };
        let options = Options { critical_wait_s: 900, filler_prefix: "AI1-", ..Options::default() };
        let bundle = of(&critical, &options);
        let task = entry(&bundle, "Task").unwrap()["resource"].clone();
        assert_eq!((&task["status"], &task["priority"]), (&json!("requested"), &json!("stat")));
        let at = |key: &str| {
            task["restriction"]["period"][key].as_str().unwrap().parse::<jiff::Timestamp>()
        };
        assert_eq!(
            (at("end").unwrap() - at("start").unwrap()).total(jiff::Unit::Second).unwrap(),
            900.0
        );
        assert_eq!(
            task["focus"]["reference"],
            entry(&bundle, "DiagnosticReport").unwrap()["fullUrl"]
        );
        let made = entry(&bundle, "Task").unwrap()["request"].clone();
        assert_eq!(made["method"], "POST", "who has acknowledged is not asked again");

        let before = [critical.clone()];
        let options = Options { previous: &before, ..options };
        let routine =
            Assessment { revision: 2, urgency: Some(Urgency::Routine), ..critical.clone() };
        let cancelled = entry(&of(&routine, &options), "Task").unwrap();
        assert_eq!(cancelled["resource"]["status"], "cancelled");
        let condition = made["ifNoneExist"].as_str().unwrap();
        assert_eq!(cancelled["request"]["url"], format!("Task?{condition}"));
        for urgency in [Urgency::Routine, Urgency::Significant, Urgency::Urgent] {
            let other = Assessment { urgency: Some(urgency), ..critical.clone() };
            let bundle = of(&other, &Options::default());
            assert_eq!(entry(&bundle, "Task"), None, "{urgency:?}");
        }
    }
}
