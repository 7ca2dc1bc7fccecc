//! C-FIND as requestor (PS3.4 C.4.1), for two questions: how many instances does an archive hold of
//! a study, and does it hold this one?

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::dicom::elements::Encoder;
use crate::dicom::find_scu::Finder;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::domain::uid::StudyUid;

const FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
/// One match.
const MATCH_BYTES_MAX: usize = 64 << 10;
/// Series whose images are counted one question each.
const SERIES_MAX: usize = 200;

/// An association on which questions are asked one after the other.
pub struct Query(Finder);

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The archive holds this many.
    Instances(u32),
    /// It does not know the study.
    Unknown,
    /// It does not count, at no level.
    NotCounted,
}

impl Query {
    pub async fn open(target: &Target, timeouts: &Timeouts) -> Result<Query, ScuError> {
        Finder::open(target, timeouts, FIND).await.map(Query)
    }

    pub async fn release(self) {
        self.0.release().await;
    }

    /// Asks at STUDY level for Number of Study Related Instances (0020,1208); where the archive
    /// does not say, counts by series, and where it does not count these, by image.
    pub async fn instances_of(&mut self, study: &StudyUid) -> Result<Count, ScuError> {
        let study = study.as_str();
        let studies = self.find("STUDY", study, "", Some(tags::NUMBER_OF_STUDY_RELATED_INSTANCES));
        let found = studies.await?;
        let Some(found) = found else { return Ok(Count::NotCounted) };
        if found.is_empty() {
            return Ok(Count::Unknown);
        }
        if let [one] = found.as_slice()
            && let Some(count) = one.number
        {
            return Ok(Count::Instances(count));
        }
        let series = self.find("SERIES", study, "", Some(tags::NUMBER_OF_SERIES_RELATED_INSTANCES));
        let Some(series) = series.await? else { return Ok(Count::NotCounted) };
        if series.is_empty() || series.len() > SERIES_MAX {
            return Ok(Count::NotCounted);
        }
        let mut count = 0_u32;
        for one in &series {
            let of_series = match one.number {
                Some(number) => Some(number),
                None if one.series_uid.is_empty() => None,
                None => {
                    let images = self.find("IMAGE", study, &one.series_uid, None).await?;
                    images.and_then(|images| u32::try_from(images.len()).ok())
                }
            };
            let Some(of_series) = of_series else { return Ok(Count::NotCounted) };
            count = count.saturating_add(of_series);
        }
        Ok(Count::Instances(count))
    }

    /// Whether the archive holds an instance; `None`: it does not say.
    pub async fn holds(
        &mut self,
        study: &str,
        series: &str,
        instance: &str,
    ) -> Result<Option<bool>, ScuError> {
        let identifier = |syntax: &str| instance_identifier(syntax, study, series, instance);
        let mut is_there = false;
        let is_answered = self.0.ask(identifier, MATCH_BYTES_MAX, |found| {
            // Some archives match everything when they do not know a key.
            is_there |= found.text(tags::SOP_INSTANCE_UID) == instance;
        });
        Ok(is_answered.await?.then_some(is_there))
    }

    /// The matches of one question; None: the archive refuses it, or answers without an end.
    async fn find(
        &mut self,
        level: &str,
        study: &str,
        series: &str,
        count: Option<dicom_core::Tag>,
    ) -> Result<Option<Vec<Match>>, ScuError> {
        let identifier = |syntax: &str| identifier(syntax, level, study, series, count);
        let mut matches = Vec::new();
        let is_answered = self.0.ask(identifier, MATCH_BYTES_MAX, |found| {
            // Some archives match everything when they do not know a key.
            let of_study = found.text(tags::STUDY_INSTANCE_UID);
            if of_study.is_empty() || of_study == study {
                let number = count.and_then(|tag| found.text(tag).parse().ok());
                matches.push(Match { series_uid: found.text(tags::SERIES_INSTANCE_UID), number });
            }
        });
        Ok(is_answered.await?.then_some(matches))
    }
}

struct Match {
    series_uid: String,
    number: Option<u32>,
}

/// In ascending order of tags.
fn instance_identifier(
    transfer_syntax: &str,
    study: &str,
    series: &str,
    instance: &str,
) -> Vec<u8> {
    let mut data = Encoder::new(transfer_syntax);
    data.uid(tags::SOP_INSTANCE_UID, instance);
    data.text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "IMAGE");
    data.uid(tags::STUDY_INSTANCE_UID, study);
    data.uid(tags::SERIES_INSTANCE_UID, series);
    data.finish()
}

fn identifier(
    transfer_syntax: &str,
    level: &str,
    study: &str,
    series: &str,
    count: Option<dicom_core::Tag>,
) -> Vec<u8> {
    let mut data = Encoder::new(transfer_syntax);
    if level == "IMAGE" {
        data.uid(tags::SOP_INSTANCE_UID, "");
    }
    data.text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    data.uid(tags::STUDY_INSTANCE_UID, study);
    if level != "STUDY" {
        data.uid(tags::SERIES_INSTANCE_UID, series);
    }
    if let Some(tag) = count {
        data.text(tag, VR::IS, "");
    }
    data.finish()
}
