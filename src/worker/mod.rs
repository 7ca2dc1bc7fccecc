//! Worker processes: where bytes from outside are parsed, decoded, rendered.
//!
//! The same program, started as `prelim worker`. A child has no network, no environment, a
//! memory limit and a time for each task; when it dies, the node goes on with a fresh one.
//!
//! A new kind of work: an arm in [`Task`] and [`Answer`], and one in `child::perform`.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::provider::local::LocalReading;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::final_report::FinalReport;
use crate::domain::finding::Density;
use crate::domain::finding::Region;
use crate::domain::key_image::Drawing;
use crate::domain::key_image::KeyImage;
use crate::domain::picture::Masks;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureFormat;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Inspected;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::uid::SopInstanceUid;
use crate::imaging::dataset::Span;
use crate::imaging::frames::PixelFacts;
use crate::imaging::show::Levels;
use crate::imaging::show::View;
use crate::imaging::show::Which;
use crate::imaging::wrap::WrapFields;
use crate::report::Communication;
use crate::report::Language;

mod child;
pub mod confine;
mod limits;
mod memory;
mod pool;
mod protocol;

pub use child::child_main;
pub use pool::BATCH;
pub use pool::Pool;

/// One stored object to inspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Path relative to the data folder.
    pub object: String,
    pub sop_instance_uid: SopInstanceUid,
}

/// What a worker can be asked to do. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "task")]
pub enum Task {
    /// Parse headers.
    Inspect { data: PathBuf, objects: Vec<Object> },
    /// Make pictures.
    Picture { data: PathBuf, study: Box<Study>, plan: PicturePlan, masks: Masks, text_s_max: u64 },
    /// Put pictures together on at most as many sheets.
    Sheets {
        references: Vec<PictureRef>,
        #[serde(skip)]
        pictures: Vec<Vec<u8>>,
        format: PictureFormat,
        sheets_max: u32,
    },
    /// Take measurements.
    Measure { data: PathBuf, study: Box<Study> },
    /// Measure the density of regions, each on its instance.
    Densities { data: PathBuf, regions: Vec<(Instance, Region)> },
    /// Show one frontal chest X-ray of a child to the local model.
    LocalRead { data: PathBuf, instance: Box<Instance> },
    /// Show encoded pictures to a model of the site.
    Scores {
        folder: PathBuf,
        manifest: Box<Manifest>,
        #[serde(skip)]
        pictures: Vec<Vec<u8>>,
    },
    /// Write the report for people.
    Render {
        assessment: Box<Assessment>,
        language: Language,
        references: Vec<PictureRef>,
        #[serde(skip)]
        pictures: Vec<Vec<u8>>,
        communications: Vec<Communication>,
        site: Box<crate::report::Config>,
    },
    /// Read a structured report.
    Document { data: PathBuf, object: String },
    /// Headers as DICOM JSON, for the index or (with the address of bulk data) whole.
    Headers { data: PathBuf, objects: Vec<Object>, wanted: HeaderPart },
    /// Frames or bulk data of one instance.
    Values { data: PathBuf, object: String, wanted: Values },
    /// One frame as a picture.
    Show { data: PathBuf, object: String, which: Which, view: View },
    /// One frame with regions and text drawn in.
    Draw { data: PathBuf, object: String, drawing: Box<Drawing> },
    /// The whole file in Explicit VR Little Endian, not compressed.
    Transcode { data: PathBuf, object: String, bytes_max: u64 },
    /// A JPEG or PNG to a DICOM file.
    Wrap {
        #[serde(skip)]
        picture: Vec<u8>,
        fields: Box<WrapFields>,
    },
    /// What hostile input would make a child do.
    #[cfg(test)]
    Misbehave { how: String },
}

/// Which part of a header is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderPart {
    /// These attributes, cut short.
    Index(Vec<(u16, u16)>),
    /// All; for each object the address below which its bulk data is.
    Whole(Vec<String>),
}

/// Which values of an instance are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Frames from 1, as stored.
    Stored(Vec<u32>),
    /// Not compressed; as many as fit, at least one.
    Plain { numbers: Vec<u32>, bytes_max: u64 },
    /// What stands at a path of tags and items.
    Bulk(Vec<u32>),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    Inspected {
        parsed: Vec<Inspected>,
        unreadable: Vec<Excluded>,
    },
    Pictures {
        references: Vec<PictureRef>,
        #[serde(skip)]
        bytes: Vec<Vec<u8>>,
        format: PictureFormat,
        excluded: Vec<Excluded>,
    },
    Measured {
        measurements: Vec<StudyMeasurement>,
        quality: Vec<QualityFlag>,
        excluded: Vec<Excluded>,
    },
    /// For each region, or why there is none.
    Densities {
        found: Vec<Result<Density, String>>,
    },
    LocalRead {
        reading: LocalReading,
    },
    /// Of each label, for each picture.
    Scores {
        scores: Vec<Vec<f64>>,
    },
    Document {
        report: FinalReport,
    },
    /// HTML, text and PDF.
    Rendered {
        #[serde(skip)]
        files: Vec<Vec<u8>>,
    },
    Wrapped {
        #[serde(skip)]
        file: Vec<u8>,
    },
    /// One JSON object for each instance asked for; empty for what cannot be read.
    Headers {
        #[serde(skip)]
        objects: Vec<Vec<u8>>,
    },
    Values {
        facts: Option<PixelFacts>,
        /// Parts of the file for each value; none where its bytes come along, in their order.
        places: Vec<Option<Vec<Span>>>,
        #[serde(skip)]
        bytes: Vec<Vec<u8>>,
    },
    Drawn {
        image: Box<KeyImage>,
    },
    /// A picture or a file.
    Made {
        #[serde(skip)]
        file: Vec<u8>,
    },
    Shown {
        #[serde(skip)]
        file: Vec<u8>,
        window: Option<Levels>,
    },
    /// The task cannot be done; nothing is wrong with the worker.
    Refused {
        reason: String,
    },
}

/// Pictures out of an answer's two lists.
pub fn joined(
    references: Vec<PictureRef>,
    bytes: Vec<Vec<u8>>,
    format: PictureFormat,
) -> Vec<Picture> {
    let media_type = crate::imaging::picture::media_type(format);
    let pairs = references.into_iter().zip(bytes);
    pairs.map(|(reference, bytes)| Picture { reference, media_type, bytes }).collect()
}

/// How a task did not get its answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("a worker process cannot be started: {0}")]
    Start(std::io::Error),
    /// Killed by a signal, or ended by itself, in the middle of the task.
    #[error("the worker process died in the task ({0})")]
    Died(String),
    #[error("the worker process was stopped: no answer within {0} s")]
    TimedOut(u64),
    #[error("the worker process needed more memory than it may have")]
    Memory,
    #[error("{0}")]
    Refused(String),
    #[error("the worker process broke the protocol: {0}")]
    Protocol(&'static str),
}

impl WorkerError {
    /// Whether the input may have killed the worker: counted by the pipeline, twice is poison.
    pub fn is_poison(&self) -> bool {
        match self {
            WorkerError::Died(_)
            | WorkerError::TimedOut(_)
            | WorkerError::Memory
            | WorkerError::Protocol(_) => true,
            WorkerError::Start(_) | WorkerError::Refused(_) => false,
        }
    }

    /// Whether trying the same again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            WorkerError::Refused(_) => false,
            WorkerError::Start(_)
            | WorkerError::Died(_)
            | WorkerError::TimedOut(_)
            | WorkerError::Memory
            | WorkerError::Protocol(_) => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Worker processes at the same time; 0 takes one for each processor core, at least 2.
    pub processes: u32,
    /// Address space of one worker process. All together get no more than a share of what the
    /// machine or container has.
    pub memory_max_bytes: u64,
    /// Time for one task, e.g. all pictures of a study.
    pub task_time_max_s: u64,
    /// Tasks after which a process is replaced by a fresh one.
    pub tasks_max: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { processes: 2, memory_max_bytes: 2 << 30, task_time_max_s: 120, tasks_max: 500 }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let n = self.processes;
        if n > 256 {
            let why = "each takes memory of its own";
            problems.push(format!("{at}.processes = {n}: use 0 to 256 (default 2); {why}"));
        }
        let bytes = self.memory_max_bytes;
        if !((512 << 20)..=(64 << 30)).contains(&bytes) {
            let why = "with less a large radiograph cannot be decoded";
            problems.push(format!(
                "{at}.memory_max_bytes = {bytes}: use 536870912 to 68719476736 (default 2147483648); {why}"
            ));
        }
        let s = self.task_time_max_s;
        if !(5..=3600).contains(&s) {
            let why = "a shorter limit fails large studies, a longer one lets a broken file block a worker";
            problems
                .push(format!("{at}.task_time_max_s = {s}: use 5 to 3600 (default 120); {why}"));
        }
        if self.tasks_max == 0 {
            problems.push(format!("{at}.tasks_max = 0: use 1 or more (default 500)"));
        }
    }
}
