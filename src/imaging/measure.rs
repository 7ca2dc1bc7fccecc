//! (being written)

use std::path::Path;

use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::study::Excluded;
use crate::domain::study::Study;

/// Measures a study.
pub fn measure(
    _data: &Path,
    _study: &Study,
) -> (Vec<StudyMeasurement>, Vec<QualityFlag>, Vec<Excluded>) {
    (Vec::new(), Vec::new(), Vec::new())
}
