//! `prelim feedback`: a doctor's word on a finding.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::Origin;
use crate::domain::agreement::Verdict;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::uid::StudyUid;
use crate::pipeline::comparing;
use crate::pipeline::comparing::CompareError;
use crate::pipeline::comparing::Opinion;

/// Notes whether a doctor agrees with a finding, or what the reading missed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  prelim feedback 1.2.840.113619.2.1.1 --finding F1 --agree --by 'J. Kim'\n  \
    prelim feedback 1.2.840.113619.2.1.1 --missed rib_fracture --comment 'seventh rib'\n\n\
    Exit code: 0 noted, 1 no such study or finding."
)]
pub struct Args {
    /// Study Instance UID (0020,000D)
    uid: StudyUid,
    /// A finding of the reading, as prelim study numbers it
    #[arg(long, value_name = "F1", required_unless_present = "missed")]
    finding: Option<String>,
    /// It is as the reading says
    #[arg(long, requires = "finding", conflicts_with = "disagree")]
    agree: bool,
    /// It is not
    #[arg(long, requires = "finding")]
    disagree: bool,
    /// Key of a finding that is there and not in the reading, e.g. pneumothorax
    #[arg(long, value_name = "KEY", conflicts_with = "finding")]
    missed: Option<String>,
    /// Of this reading instead of the newest
    #[arg(long)]
    revision: Option<u32>,
    /// In words, at most 500 characters; identifiers of the study are removed
    #[arg(long, default_value = "")]
    comment: String,
    /// Who says so
    #[arg(long, default_value = "the command line")]
    by: String,
    #[command(flatten)]
    data: cli::DataArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let opinion = Opinion {
        revision: args.revision,
        verdict: match (args.agree, args.disagree) {
            (true, _) => Some(Verdict::Agree),
            (_, true) => Some(Verdict::Disagree),
            (false, false) => None,
        },
        finding: args.finding.unwrap_or_default(),
        missed: args.missed.unwrap_or_default(),
        comment: args.comment,
        by: args.by,
    };
    let noted = cli::block_on(async {
        match node::open(args.data.existing()?).await? {
            Folder::Node(node) => {
                node.post_json::<Comparison>(&format!("study/{}/feedback", args.uid), &opinion)
                    .await
            }
            Folder::Own(store) => {
                let at = SystemClock.now();
                match comparing::feedback(&store, &args.uid, &opinion, at).await {
                    Ok(comparison) => Ok(Some(comparison)),
                    Err(CompareError::NoReading) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    })?;
    let Some(comparison) = noted else {
        eprintln!("error: there is no reading of a study {} in this data folder", args.uid);
        return Ok(ExitCode::from(1));
    };
    if let Origin::Feedback { verdict, .. } = &comparison.origin {
        for finding in &comparison.findings {
            println!("{}: {}, noted", finding.key, verdict.as_str());
        }
    }
    Ok(ExitCode::SUCCESS)
}
