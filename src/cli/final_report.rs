//! `prelim final`: a doctor's report beside our reading.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::How;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::finding::Presence;
use crate::domain::uid::StudyUid;
use crate::pipeline::comparing;
use crate::pipeline::comparing::CompareError;

/// Compares the reading of a study with its final report
#[derive(Debug, clap::Args)]
#[command(after_help = "A DICOM structured report needs no command: send it to the node.\n\
    Words are matched in English only, with care for what they deny, and are an estimate.\n\n\
    Examples:\n  prelim final 1.2.840.113619.2.1.1 report.txt --by 'J. Kim'\n  \
    prelim final 1.2.840.113619.2.1.1 oru.hl7 --json\n\n\
    Exit code: 0 compared, 1 no such study, or nothing that can be compared.")]
pub struct Args {
    /// Study Instance UID (0020,000D)
    uid: StudyUid,
    /// The report: text, or an HL7 ORU message; UTF-8, at most 64 KiB
    file: PathBuf,
    /// Whose report it is
    #[arg(long, default_value = "the command line")]
    by: String,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("reading {shown}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8"))?;
    let compared = cli::block_on(async {
        match node::open(args.data.existing()?).await? {
            Folder::Node(node) => {
                let path = format!("study/{}/final", args.uid);
                node.post_text::<Comparison>(&path, &[("by", &args.by)], text).await
            }
            Folder::Own(store) => {
                let at = SystemClock.now();
                match comparing::final_text(&store, &args.uid, &text, &args.by, at).await {
                    Ok(comparison) => Ok(Some(comparison)),
                    Err(CompareError::NoReading) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    })?;
    let Some(comparison) = compared else {
        eprintln!("error: there is no reading of a study {} in this data folder", args.uid);
        return Ok(ExitCode::from(1));
    };
    if args.json {
        return cli::print_json(&comparison);
    }
    let mut table = cli::table(["Finding", "Ours", "Report", "How"]);
    for finding in &comparison.findings {
        let ours = match finding.ours {
            Some(Presence::Present) => "present",
            Some(Presence::Absent) => "absent",
            Some(Presence::Undetermined) => "undetermined",
            None => "not asked",
        };
        let report = match finding.truth {
            Some(true) => "present",
            Some(false) => "absent",
            None => "open",
        };
        let how = match finding.how {
            How::Doctor => "a doctor's word",
            How::Code => "code",
            How::Text => "words (estimate)",
            How::Silence => "not mentioned (estimate)",
        };
        table.add_row([finding.key.as_str(), ours, report, how]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
