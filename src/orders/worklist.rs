//! A modality worklist that is asked for the order of a study when its images are there.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::time::Instant;

use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls_client;
use crate::dicom::worklist_scu;
use crate::dicom::worklist_scu::Key;
use crate::domain::ae_title::AeTitle;
use crate::domain::order::Order;
use crate::domain::study::Study;

/// A worklist that did not answer is left alone for so long: no study waits for it meanwhile.
const REST: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `AE@host:port` of the worklist. Empty: none.
    pub archive: String,
    /// Seconds to connect, and for each answer.
    pub timeout_s: u64,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

impl Default for Config {
    fn default() -> Config {
        Config { archive: String::new(), timeout_s: 5, tls: None }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let found = &self.archive;
        if !found.is_empty() && self.target().is_none() {
            problems.push(format!(
                "{at}.archive = {found:?}: use AE@host:port, e.g. \"RIS@ris.hospital.example:104\""
            ));
        }
        let s = self.timeout_s;
        if !(1..=60).contains(&s) {
            let why = "each study waits for it";
            problems.push(format!("{at}.timeout_s = {s}: use 1 to 60 (default 5); {why}"));
        }
        if let (Some(tls), Some((_, address))) = (&self.tls, self.target()) {
            tls.check(&format!("{at}.tls"), &address, problems);
        }
    }

    pub fn target(&self) -> Option<(AeTitle, String)> {
        let (title, address) = self.archive.split_once('@')?;
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let usable = !host.is_empty() && port > 0;
        usable.then(|| Some((AeTitle::parse(title).ok()?, address.to_owned()))).flatten()
    }
}

/// The worklist of the configuration, and whether it rests.
pub struct Worklist {
    config: Config,
    rests_until: Mutex<Option<Instant>>,
}

impl Worklist {
    pub fn new(config: &Config) -> Worklist {
        Worklist { config: config.clone(), rests_until: Mutex::new(None) }
    }

    pub fn is_on(&self) -> bool {
        !self.config.archive.is_empty()
    }

    /// Orders that may be those of the study: by its UID, by its accession number, and, where the
    /// images have none, by Patient ID the one that is scheduled for a modality of the study.
    ///
    /// # Errors
    /// It cannot be asked now.
    pub async fn ask(
        &self,
        study: &Study,
        calling_ae: &AeTitle,
        at: Timestamp,
    ) -> Result<Vec<Order>, String> {
        let Some((ae_title, address)) = self.config.target() else { return Ok(Vec::new()) };
        let rests = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rests.is_some_and(|until| until > Instant::now()) {
            return Err("it did not answer a moment ago".into());
        }
        let tls = tls_client::read(self.config.tls.as_ref()).await.map_err(|e| e.to_string())?;
        let target = Target { ae_title, calling_ae: calling_ae.clone(), address, tls };
        // Three answers at most are waited for, whatever it says in between.
        let whole = Duration::from_secs(self.config.timeout_s) * 4;
        let asked = match tokio::time::timeout(whole, self.query(&target, study, at)).await {
            Ok(asked) => asked.map_err(|error| error.to_string()),
            Err(_) => Err("it does not come to an end".to_owned()),
        };
        let until = asked.is_err().then(|| Instant::now() + REST);
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        asked
    }

    async fn query(
        &self,
        target: &Target,
        study: &Study,
        at: Timestamp,
    ) -> Result<Vec<Order>, ScuError> {
        let wait = Duration::from_secs(self.config.timeout_s);
        let timeouts = Timeouts { connect: wait, answer: wait, ..Timeouts::default() };
        let source = format!("worklist {}", target.ae_title);
        let mut query = worklist_scu::Query::open(target, &timeouts).await?;
        let uid = study.study_uid.as_str();
        let accession = study.attributes.accession_number.trim();
        let patient = study.patient.id.trim();
        let by_number = |orders: &[Order]| {
            orders
                .iter()
                .any(|one| one.study_uid == uid || one.numbers.iter().any(|n| n == accession))
        };
        let mut found = Vec::new();
        for key in [Key::StudyUid(uid), Key::AccessionNumber(accession)] {
            if !key.is_empty() && !by_number(&found) {
                found = query.orders(&key, &source, at).await?;
            }
        }
        if accession.is_empty() && !patient.is_empty() && !by_number(&found) {
            let modalities = study.modalities();
            let mut scheduled = query.scheduled(&Key::PatientId(patient), &source, at).await?;
            scheduled.retain(|(order, modality)| {
                order.patient_ids.iter().any(|id| id == patient) && modalities.contains(modality)
            });
            // Of several nobody can say which; the UID makes it that of this study.
            if let [(order, _)] = &scheduled[..] {
                found = vec![Order { study_uid: uid.to_owned(), ..order.clone() }];
            }
        }
        query.release().await;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (archive, timeout_s, wrong) in [
            ("", 5, 0),
            ("RIS@ris:104", 5, 0),
            ("ris:104", 5, 1),
            ("RIS@ris", 0, 2),
            ("RIS@:1", 5, 1),
        ] {
            let config = Config { archive: archive.into(), timeout_s, tls: None };
            let mut problems = Vec::new();
            config.check("orders.worklist", &mut problems);
            assert_eq!(problems.len(), wrong, "{archive}: {problems:?}");
        }
    }
}
