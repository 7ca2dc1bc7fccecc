//! Trials of files with what the node reads by, for the page of rules.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::pipeline::trying;
use crate::pipeline::trying::Trial;
use crate::pipeline::way::Kits;
use crate::web::Trials;

pub struct Tried(pub Arc<Kits>);

#[async_trait]
impl Trials for Tried {
    async fn try_files(&self, folder: PathBuf, files: Vec<PathBuf>) -> Result<Trial, String> {
        trying::try_files(&self.0.now(), &folder, &files).await.map_err(|error| error.cause)
    }
}
