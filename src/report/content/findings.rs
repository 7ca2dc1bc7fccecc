//! Findings in words, and what is said when there are none.

use crate::domain::assessment::Disputed;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Severity;
use crate::domain::finding::Verdict;
use crate::domain::urgency::Urgency;
use crate::report::content::FindingView;
use crate::report::content::ROWS_MAX;
use crate::report::content::Writer;
use crate::report::content::list;
use crate::report::names;
use crate::report::plain;
use crate::report::words::Language;
use crate::report::words::fill;

impl Writer<'_> {
    pub(super) fn aside(&self, name: &names::Name) -> String {
        match (&name.english, name.translated) {
            (Some(english), _) => plain::line(english),
            (None, true) => String::new(),
            (None, false) => self.w.english.into(),
        }
    }

    pub(super) fn finding(&self, finding: &Finding) -> FindingView {
        let name = names::finding(&finding.key, &finding.concept.meaning, self.language);
        let images: Vec<String> = finding.evidence.iter().map(|image| self.image(image)).collect();
        FindingView {
            id: plain::line(&finding.id),
            name: self.given(plain::line(&name.text)),
            aside: self.aside(&name),
            place: self.place(finding),
            certainty: finding
                .probability
                .map(crate::domain::text::percent)
                .unwrap_or_else(|| "–".into()),
            urgency: self.badge(finding.urgency),
            code: plain::line(&format!("{} {}", finding.concept.scheme, finding.concept.value)),
            has_images: !images.is_empty(),
            images: match images.len() {
                0 => vec![self.w.no_image_given.into()],
                n if n > 6 => {
                    let more = self.more(n - 6);
                    images.into_iter().take(6).chain([more]).collect()
                }
                _ => images,
            },
            description: [plain::paragraph(&finding.description), self.support(finding)]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
            measured: self.measured(finding),
            differential: list(&finding.differential),
            recommendation: plain::paragraph(&finding.recommendation),
        }
    }

    /// Side in full words (P5), after the site.
    pub(super) fn place(&self, finding: &Finding) -> String {
        let w = &self.w;
        let site =
            finding.site.as_ref().map(|code| plain::line(&names::site(code, self.language).text));
        let side = finding.laterality.map(|side| self.side(side));
        let severity = finding.severity.map(|severity| match severity {
            Severity::Mild => w.mild,
            Severity::Moderate => w.moderate,
            Severity::Severe => w.severe,
        });
        let location = Some(plain::line(&finding.location));
        let parts = [site, side.map(str::to_owned), severity.map(str::to_owned), location];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// "Disputed: Pneumothorax, left (Urgent): a sees it (92%); b does not see it".
    fn disputed(&self, disputed: &Disputed) -> String {
        let w = &self.w;
        let mut name = names::finding(&disputed.key, &disputed.name, self.language).text;
        if let Some(side) = disputed.laterality {
            name += &format!(", {}", self.side(side));
        }
        let said = disputed.said.iter().map(|one| {
            let sure = one.probability.map(crate::domain::text::percent).unwrap_or_default();
            let values = [("who", one.who.as_str()), ("sure", sure.as_str())];
            match one.presence {
                Presence::Present if sure.is_empty() => fill(w.sees_it, &values),
                Presence::Present => format!("{} ({sure})", fill(w.sees_it, &values)),
                Presence::Absent => fill(w.sees_not, &values),
                Presence::Undetermined => fill(w.cannot_tell, &values),
            }
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let urgency = self.badge(disputed.urgency).label;
        plain::line(&match disputed.urgency {
            Urgency::Routine => format!("{}: {}: {said}", w.disputed, name),
            _ => format!("{}: {} ({urgency}): {said}", w.disputed, name),
        })
    }

    fn side(&self, side: Laterality) -> &'static str {
        match side {
            Laterality::Right => self.w.right,
            Laterality::Left => self.w.left,
            Laterality::Bilateral => self.w.bilateral,
            Laterality::Unilateral => self.w.unilateral,
        }
    }

    /// What other models said of it.
    fn support(&self, finding: &Finding) -> String {
        let (w, support) = (&self.w, &finding.support);
        let [present, readers] = [support.present, support.readers].map(|n| n.to_string());
        let seen = || w.seen_by.replace("{present}", &present).replace("{readers}", &readers);
        let verdict = support.verdict.map(|verdict| match verdict {
            Verdict::Upheld => w.upheld,
            Verdict::Refuted => w.refuted,
            Verdict::Unclear => w.unclear,
        });
        let parts = [(support.readers > 0).then(seen), verdict.map(str::to_owned)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn measured(&self, finding: &Finding) -> String {
        let one = |m: &crate::domain::finding::Measurement| {
            let name = match m.concept.value.as_str() {
                "81827009" => self.w.diameter.to_owned(),
                "103339001" => self.w.long_axis.to_owned(),
                "103340004" => self.w.short_axis.to_owned(),
                "112031" => self.w.attenuation.to_owned(),
                _ => plain::line(&m.concept.meaning),
            };
            format!("{name} {}", plain::quantity(&plain::number(m.value), &m.unit))
        };
        finding.measurements.iter().take(20).map(one).collect::<Vec<_>>().join("; ")
    }

    /// P6: what stands where findings would stand.
    pub(super) fn findings_note(&self, none_present: bool) -> &'static str {
        match &self.a.outcome {
            Outcome::Read if none_present => self.w.no_finding,
            Outcome::Read => "",
            Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
                self.w.not_looked
            }
            Outcome::NeedsReview { disputed, .. } if none_present && disputed.is_empty() => {
                self.w.no_result
            }
            Outcome::NeedsReview { .. } => self.w.in_doubt,
        }
    }

    /// What stands in place of the list of what was looked for.
    pub(super) fn looked_for_none(&self) -> &'static str {
        match &self.a.outcome {
            Outcome::Read => self.w.looked_for_unknown,
            Outcome::NeedsReview { .. } => self.w.in_doubt,
            Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
                self.w.not_looked
            }
        }
    }

    pub(super) fn looked_for(&self) -> String {
        let name = |english: &String| {
            let name = names::finding(english, english, self.language);
            plain::line(&name.text)
        };
        let names: Vec<String> = self.a.looked_for.iter().take(ROWS_MAX).map(name).collect();
        names.join(", ")
    }

    /// The algorithm's own words stand behind what the structured findings say. For a study
    /// without a present finding they are left out when they call it normal (P6).
    pub(super) fn impression(
        &self,
        present: &[FindingView],
        undetermined: &[FindingView],
    ) -> Vec<String> {
        let own = plain::paragraph(&self.a.impression);
        let mut lines = Vec::new();
        match &self.a.outcome {
            Outcome::NotCovered { .. } => return vec![format!("{}.", self.w.not_covered_title)],
            Outcome::MeasuredOnly { .. } => {
                return vec![format!("{}.", self.w.measured_only_title)];
            }
            Outcome::Held { .. } => return vec![format!("{}.", self.w.held_title)],
            Outcome::NeedsReview { reason, disputed } => {
                let reason = plain::line(reason);
                lines.push(fill(self.w.needs_review_because, &[("reason", &reason)]));
                lines.extend(present.iter().take(20).map(in_one_line));
                lines.extend(disputed.iter().take(20).map(|one| self.disputed(one)));
                return lines;
            }
            Outcome::Read if present.is_empty() => {
                lines.push(self.w.no_finding.to_owned());
                if !own.is_empty() && !calls_it_normal(&own) && own != self.w.no_finding {
                    lines.push(own);
                }
            }
            Outcome::Read => {
                if self.language != Language::En || own.is_empty() {
                    lines.extend(present.iter().take(20).map(in_one_line));
                }
                if !own.is_empty() {
                    lines.push(own);
                }
            }
        }
        if !undetermined.is_empty() {
            let names: Vec<String> = undetermined.iter().map(in_one_line).collect();
            lines.push(format!("{}: {}", self.w.undetermined, names.join("; ")));
        }
        lines
    }
}

/// Name, place and certainty of a finding.
pub(super) fn in_one_line(finding: &FindingView) -> String {
    let mut text = finding.name.clone();
    if !finding.place.is_empty() {
        text += &format!(", {}", finding.place);
    }
    if finding.certainty != "–" {
        text += &format!(", {}", finding.certainty);
    }
    text
}

fn calls_it_normal(text: &str) -> bool {
    let text = text.to_lowercase().replace("abnormal", "");
    ["normal", "unremarkable", "healthy", "정상", "bình thường", "正常"]
        .iter()
        .any(|word| text.contains(word))
}
