//! Orders: from an HL7 message or a modality worklist, and which of them is that of a study.

pub mod message;
pub mod worklist;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::order::Order;
use crate::domain::order::Sought;
use crate::domain::study::Study;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days for which an order that was sent to us is kept.
    pub keep_days: u32,
    pub worklist: worklist::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config { keep_days: 60, worklist: worklist::Config::default() }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let days = self.keep_days;
        if !(1..=3650).contains(&days) {
            let why = "an order must be there when its images come";
            problems.push(format!("{at}.keep_days = {days}: use 1 to 3650 (default 60); {why}"));
        }
        self.worklist.check(&format!("{at}.worklist"), problems);
    }
}

/// The order of a study: one of its number or UID, and of its patient. One of another patient under
/// the same number is never used.
pub fn choose(found: Vec<Order>, study: &Study) -> Sought {
    let accession = study.attributes.accession_number.trim();
    let of_number = |order: &Order| {
        let by_uid = order.study_uid == study.study_uid.as_str();
        by_uid || (!accession.is_empty() && order.numbers.iter().any(|n| n.trim() == accession))
    };
    let (own, others): (Vec<Order>, Vec<Order>) = found
        .into_iter()
        .filter(|order| of_number(order) && !order.is_cancelled)
        .partition(|order| is_of_patient(order, study));
    let newest = own.iter().max_by_key(|order| order.received_at).cloned();
    match (newest, others.is_empty()) {
        (None, true) => Sought::NotFound,
        (None, false) => Sought::OtherPatient,
        (Some(mut order), _) => {
            // Several procedures of one request: each says why.
            let mut reasons: Vec<&str> = Vec::new();
            for one in &own {
                if !one.reason.is_empty() && !reasons.contains(&one.reason.as_str()) {
                    reasons.push(&one.reason);
                }
            }
            order.reason = reasons.join("; ");
            Sought::Found { order: Box::new(order) }
        }
    }
}

/// Patient IDs are written alike by RIS and scanner, who gave them often is not; a birth date that
/// differs is another person.
fn is_of_patient(order: &Order, study: &Study) -> bool {
    let (id, born) = (study.patient.id.trim(), study.patient.birth_date.trim());
    let same_id = !id.is_empty() && order.patient_ids.iter().any(|other| other.trim() == id);
    let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
    same_id && !differs(born, order.birth_date.trim())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::sample;

    fn order(number: &str, patient: &str) -> Order {
        Order {
            numbers: vec![number.into()],
            patient_ids: vec!["ELSE".into(), patient.into()],
            reason: format!("{number} {patient}"),
            ..Order::empty("test", Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn an_order_is_of_its_number_and_its_patient() {
        let study = sample::study(vec![]);
        let (acc, id) = ("ACC-2026-0817", "MRN-0042");
        let uid = Order { study_uid: study.study_uid.to_string(), ..order("X", id) };
        let cancelled = Order { is_cancelled: true, ..order(acc, id) };
        let born = Order { birth_date: "19800101".into(), ..order(acc, id) };
        let foreign_uid = Order { patient_ids: vec!["Z".into()], ..uid.clone() };
        for (found, expected) in [
            (vec![], "not_found"),
            (vec![order(acc, id)], "found"),
            (vec![uid], "found"),
            (vec![order("OTHER", id)], "not_found"),
            (vec![order(acc, "Z")], "other_patient"),
            (vec![foreign_uid], "other_patient"),
            (vec![order(acc, "Z"), order(acc, id)], "found"),
            (vec![cancelled], "not_found"),
            (vec![born], "other_patient"),
        ] {
            let sought = serde_json::to_value(choose(found.clone(), &study)).unwrap();
            assert_eq!(sought["outcome"], expected, "{found:?}");
        }
        let mut nameless = study.clone();
        nameless.patient.id = String::new();
        assert_eq!(choose(vec![order(acc, "")], &nameless), Sought::OtherPatient);
        nameless.attributes.accession_number = String::new();
        assert_eq!(choose(vec![order("", id)], &nameless), Sought::NotFound);
    }

    #[test]
    fn of_several_procedures_each_says_why() {
        let study = sample::study(vec![]);
        let later = Timestamp::from_second(9).unwrap();
        let one = Order { placer_number: "1".into(), ..order("ACC-2026-0817", "MRN-0042") };
        let two = Order {
            placer_number: "2".into(),
            reason: "fall".into(),
            received_at: later,
            ..one.clone()
        };
        let Sought::Found { order } = choose(vec![two, one.clone(), one], &study) else {
            panic!("found")
        };
        assert_eq!(
            (order.placer_number.as_str(), order.reason.as_str()),
            ("2", "fall; ACC-2026-0817 MRN-0042")
        );
    }
}
