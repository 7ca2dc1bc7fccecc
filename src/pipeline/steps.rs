//! The way of a study, step by step. Each step loads what it needs, calls its stage, keeps what
//! comes back, and names the next step.
//!
//! A step may run twice (a kill between its work and its commit): it writes the same files
//! again under the same names, and what it enqueues has the same ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::clock::Clock;
use crate::domain::profile::Profile;
use crate::domain::uid::StudyUid;
use crate::pipeline::job;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::store::Store;
use crate::store::event::Event;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// Everything the steps work with.
pub struct Kit {
    pub store: Store,
    pub pool: crate::worker::Pool,
    pub clock: Arc<dyn Clock>,
    pub profiles: Vec<Profile>,
    pub providers: BTreeMap<String, Arc<dyn crate::analysis::provider::Provider>>,
    pub pipeline: crate::pipeline::Config,
    pub assemble: crate::assemble::Config,
    pub analysis: crate::analysis::Config,
    pub report: crate::report::Config,
    pub deliver: crate::deliver::Config,
    pub alert: crate::alert::Config,
}
