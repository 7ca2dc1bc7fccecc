//! Whose a study is, where its objects do not agree.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::study::Patient;

/// What tells one patient from another. Names do not: they are written in many ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    PatientId,
    IssuerOfPatientId,
    BirthDate,
    Sex,
}

impl Element {
    const ALL: [Element; 4] =
        [Element::PatientId, Element::IssuerOfPatientId, Element::BirthDate, Element::Sex];

    fn of(self, patient: &Patient) -> &str {
        match self {
            Element::PatientId => &patient.id,
            Element::IssuerOfPatientId => &patient.issuer_of_id,
            Element::BirthDate => &patient.birth_date,
            Element::Sex => &patient.sex,
        }
    }

    /// The name of the attribute (PS3.6).
    pub fn name(self) -> &'static str {
        match self {
            Element::PatientId => "Patient ID",
            Element::IssuerOfPatientId => "Issuer of Patient ID",
            Element::BirthDate => "Patient's Birth Date",
            Element::Sex => "Patient's Sex",
        }
    }

    /// Of the table of words.
    pub fn key(self) -> &'static str {
        match self {
            Element::PatientId => "identity.patient_id",
            Element::IssuerOfPatientId => "identity.issuer",
            Element::BirthDate => "identity.birth_date",
            Element::Sex => "identity.sex",
        }
    }
}

/// What two objects contradict each other in. What one of them leaves empty is no contradiction.
pub fn differing(a: &Patient, b: &Patient) -> Vec<Element> {
    let given = |element: &Element| {
        let (a, b) = (element.of(a).trim(), element.of(b).trim());
        !a.is_empty() && !b.is_empty() && a != b
    };
    Element::ALL.into_iter().filter(given).collect()
}

/// One of the patients of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// As all its objects say together.
    pub patient: Patient,
    pub objects: u32,
    /// Digest of the first object that says so.
    pub like: String,
}

/// The patients that objects name, in the order of arrival. One is what all should come to.
///
/// - `objects`: what each says, and its digest.
pub fn distinct<'a>(objects: impl Iterator<Item = (&'a Patient, &'a str)>) -> Vec<Identity> {
    let mut found: Vec<Identity> = Vec::new();
    for (patient, digest) in objects {
        let same = found.iter_mut().find(|known| differing(&known.patient, patient).is_empty());
        let Some(known) = same else {
            let (patient, like) = (patient.clone(), digest.to_owned());
            found.push(Identity { patient, objects: 1, like });
            continue;
        };
        known.objects += 1;
        let fill = |to: &mut String, from: &String| {
            if to.trim().is_empty() {
                to.clone_from(from);
            }
        };
        fill(&mut known.patient.id, &patient.id);
        fill(&mut known.patient.issuer_of_id, &patient.issuer_of_id);
        fill(&mut known.patient.birth_date, &patient.birth_date);
        fill(&mut known.patient.sex, &patient.sex);
        fill(&mut known.patient.age, &patient.age);
        if known.patient.name.is_empty() {
            known.patient.name = patient.name.clone();
        }
    }
    found
}

/// All that any two of these differ in.
pub fn elements(found: &[Identity]) -> Vec<Element> {
    let mut all: Vec<Element> = Vec::new();
    for (nth, one) in found.iter().enumerate() {
        for other in &found[nth + 1..] {
            all.extend(differing(&one.patient, &other.patient));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Why a person must look, without a value.
pub fn reason(elements: &[Element]) -> String {
    let names: Vec<&str> = elements.iter().map(|element| element.name()).collect();
    format!("the images differ in {}: a person has to say whose study it is", names.join(", "))
}

/// A person's word: which holds, of those that were known then. By their digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub holds: String,
    pub among: Vec<String>,
    pub by: String,
}

impl Settled {
    /// The identity that holds; None where one is among them that the person did not know.
    pub fn of<'a>(&self, found: &'a [Identity]) -> Option<&'a Identity> {
        let known = found.iter().all(|one| self.among.contains(&one.like));
        found.iter().find(|one| known && one.like == self.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(id: &str, issuer: &str, birth_date: &str, sex: &str) -> Patient {
        let text = str::to_owned;
        Patient {
            id: text(id),
            issuer_of_id: text(issuer),
            birth_date: text(birth_date),
            sex: text(sex),
            ..Patient::default()
        }
    }

    #[test]
    fn two_patients_are_told_by_what_both_say_and_say_differently() {
        use Element::*;
        let one = patient("P1", "H", "19700101", "F");
        #[rustfmt::skip]
        let cases: [(Patient, &[Element]); 8] = [
            (patient("P1", "H", "19700101", "F"), &[]),
            (patient("P1 ", "", "", ""), &[]),
            (patient("", "", "", ""), &[]),
            (patient("P2", "H", "19700101", "F"), &[PatientId]),
            (patient("P1", "K", "19700101", "F"), &[IssuerOfPatientId]),
            (patient("P1", "H", "19700110", "F"), &[BirthDate]),
            (patient("P1", "", "", "M"), &[Sex]),
            (patient("P2", "K", "1", "M"), &[PatientId, IssuerOfPatientId, BirthDate, Sex]),
        ];
        for (other, expected) in cases {
            assert_eq!(differing(&one, &other), expected, "{other:?}");
        }
    }

    #[test]
    fn a_persons_word_holds_until_a_patient_comes_whom_they_did_not_know() {
        let all = [
            (patient("P1", "", "", ""), "a"),
            (patient("P1", "H", "", "F"), "b"),
            (patient("P2", "", "", ""), "c"),
            (patient("P3", "", "", ""), "d"),
        ];
        let of = |count: usize| distinct(all[..count].iter().map(|(p, digest)| (p, *digest)));
        assert_eq!(of(2).len(), 1);
        assert_eq!(of(2)[0].patient.issuer_of_id, "H");
        let two = of(3);
        assert_eq!((two.len(), two[0].objects, two[0].like.as_str()), (2, 2, "a"));
        assert_eq!(elements(&two), [Element::PatientId]);
        assert!(reason(&elements(&two)).contains("Patient ID"));
        let settled =
            Settled { holds: "c".into(), among: vec!["a".into(), "c".into()], by: "kim".into() };
        assert_eq!(settled.of(&two).unwrap().patient.id, "P2");
        assert_eq!(settled.of(&of(4)), None, "P3 came");
    }
}
