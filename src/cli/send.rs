//! `prelim send`: a C-STORE requestor.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use serde::Serialize;

use crate::dicom::status::Status;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::Head;
use crate::dicom::storage_scu::HeadError;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::SendOutcome;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::domain::ae_title::AeTitle;

/// Send DICOM files as they are to a node (C-STORE)
///
/// Exit codes: 0 all stored, 1 some not stored, 2 no association.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// AE title, host and port: AE@host:port
    #[arg(value_parser = peer, value_name = "AE@HOST:PORT")]
    to: Peer,

    /// Files and folders; folders with all below them, where what is no DICOM file is passed over
    #[arg(required_unless_present = "echo", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Send nothing, only ask whether the peer answers (C-ECHO)
    #[arg(long, conflicts_with = "files")]
    echo: bool,

    /// Our AE title
    #[arg(long, default_value = "PRELIM", value_parser = AeTitle::parse)]
    calling: AeTitle,

    #[command(flatten)]
    tls: super::tls_check::ClientArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Whom to call.
#[derive(Debug, Clone)]
struct Peer {
    ae_title: AeTitle,
    address: String,
}

fn peer(text: &str) -> Result<Peer, String> {
    let form = "use AE@host:port, e.g. PACS@10.0.0.5:104";
    let (ae_title, address) = text.split_once('@').ok_or(form)?;
    let ae_title = AeTitle::parse(ae_title).map_err(|error| error.to_string())?;
    let (host, port) = address.rsplit_once(':').ok_or(form)?;
    match host.is_empty() || port.parse::<u16>().is_err() {
        true => Err(form.to_owned()),
        false => Ok(Peer { ae_title, address: address.to_owned() }),
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let target = Target {
        ae_title: args.to.ae_title,
        calling_ae: args.calling,
        address: args.to.address,
        tls: args.tls.client()?,
    };
    if args.echo {
        return super::block_on(async {
            storage_scu::echo(&target, &Timeouts::default())
                .await
                .map_err(|error| super::CouldNotStart(format!("no C-ECHO: {error}")))?;
            println!("{} at {} answers", target.ae_title, target.address);
            Ok(ExitCode::SUCCESS)
        });
    }
    let (files, passed_over) = find(&args.files, &is_instance)
        .map_err(|error| super::CouldNotStart(format!("{error:#}")))?;
    let bar = progress(files.len(), args.json);
    let mut outcomes = Vec::with_capacity(files.len());
    let error = super::block_on(async {
        let mut on_each = |outcome: &SendOutcome| {
            bar.inc(1);
            outcomes.push(outcome.clone());
        };
        Ok(storage_scu::send(&target, &files, &Timeouts::default(), &mut on_each).await.err())
    })?;
    bar.finish_and_clear();
    let summary = Summary::new(&files, &outcomes, passed_over, error.as_ref(), bar.elapsed());
    match args.json {
        true => {
            super::print_json(&summary)?;
        }
        false => summary.print(&target),
    }
    Ok(summary.exit_code(error.as_ref()))
}

fn progress(files: usize, json: bool) -> ProgressBar {
    let bar = ProgressBar::new(files as u64);
    let style = "{bar:40} {pos}/{len} files, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    if json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 64;

/// The files that are wanted, and how many in folders are not. A file that was named is always
/// taken, or tried: it is the user's word.
pub(super) fn find(
    named: &[PathBuf],
    is_wanted: &dyn Fn(&Path) -> bool,
) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut passed_over) = (Vec::new(), 0);
    for path in named {
        let kind = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        match kind.is_dir() {
            true => walk(path, DEPTH_MAX, is_wanted, &mut files, &mut passed_over)?,
            false => files.push(path.clone()),
        }
    }
    anyhow::ensure!(!files.is_empty(), "there is no DICOM file");
    Ok((files, passed_over))
}

fn walk(
    folder: &Path,
    depth_left: usize,
    is_wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
    passed_over: &mut usize,
) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true if depth_left > 0 => {
                walk(&path, depth_left - 1, is_wanted, files, passed_over)?;
            }
            false if is_wanted(&path) => files.push(path),
            true | false => *passed_over += 1,
        }
    }
    Ok(())
}

/// Whether it is a DICOM file, broken or not, and no directory of files, which is no instance and
/// has no storage class.
pub(super) fn is_instance(path: &Path) -> bool {
    match Head::read(path) {
        Ok(head) => head.sop_class_uid != MEDIA_DIRECTORY,
        Err(HeadError::NotPart10) => false,
        Err(_) => true,
    }
}

const MEDIA_DIRECTORY: &str = dicom_dictionary_std::uids::MEDIA_STORAGE_DIRECTORY_STORAGE;

#[derive(Debug, Serialize)]
struct Summary {
    files: usize,
    stored: usize,
    warnings: usize,
    failed: usize,
    /// Never sent, because the association ended before.
    not_sent: usize,
    /// Files in folders that are no DICOM files.
    passed_over: usize,
    seconds: f64,
    error: Option<String>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    file: PathBuf,
    sop_instance_uid: String,
    status: String,
    comment: String,
    answered: bool,
}

impl Summary {
    fn new(
        files: &[PathBuf],
        outcomes: &[SendOutcome],
        passed_over: usize,
        error: Option<&ScuError>,
        took: Duration,
    ) -> Summary {
        let stored = outcomes.iter().filter(|outcome| outcome.is_stored()).count();
        let plain =
            outcomes.iter().filter(|outcome| outcome.answered && outcome.status == 0).count();
        let problem = |outcome: &SendOutcome| Problem {
            file: outcome.file.clone(),
            sop_instance_uid: outcome.sop_instance_uid.clone(),
            status: Status(outcome.status).to_string(),
            comment: outcome.comment.clone(),
            answered: outcome.answered,
        };
        let is_problem = |outcome: &&SendOutcome| !outcome.answered || outcome.status != 0;
        Summary {
            files: files.len(),
            stored,
            warnings: stored - plain,
            failed: outcomes.len() - stored,
            not_sent: files.len() - outcomes.len(),
            passed_over,
            seconds: took.as_secs_f64(),
            error: error.map(ToString::to_string),
            problems: outcomes.iter().filter(is_problem).map(problem).collect(),
        }
    }

    fn print(&self, target: &Target) {
        for problem in &self.problems {
            let Problem { file, status, comment, answered, .. } = problem;
            let by = if *answered { "" } else { "not sent, " };
            let file = file.display();
            eprintln!("{file}: {by}{status} {}", comment.escape_default());
        }
        if let Some(error) = &self.error {
            eprintln!("{}@{}: {error}", target.ae_title, target.address);
        }
        let Summary { stored, files, seconds, .. } = self;
        let rate = *stored as f64 / seconds.max(0.001);
        println!("{stored} of {files} stored in {seconds:.1} s ({rate:.0}/s)");
        for (count, what) in [
            (self.warnings, "stored with a warning"),
            (self.failed, "failed"),
            (self.not_sent, "not sent"),
            (self.passed_over, "passed over: no DICOM file"),
        ] {
            if count > 0 {
                println!("{count} {what}");
            }
        }
    }

    fn exit_code(&self, error: Option<&ScuError>) -> ExitCode {
        let no_association = match error {
            None => false,
            Some(
                ScuError::Connect { .. }
                | ScuError::Tls { .. }
                | ScuError::TlsFile(_)
                | ScuError::Rejected { .. }
                | ScuError::NoContext,
            ) => self.stored == 0,
            Some(
                ScuError::Aborted { .. }
                | ScuError::TimedOut { .. }
                | ScuError::Broken { .. }
                | ScuError::Protocol { .. }
                | ScuError::File { .. },
            ) => self.stored + self.failed == 0,
        };
        match (no_association, self.stored == self.files) {
            (true, _) => ExitCode::from(2),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::from(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_title_a_host_and_a_port() {
        let peer = |text| super::peer(text).map(|p| (p.ae_title.to_string(), p.address));
        assert_eq!(peer("PACS@10.0.0.5:104"), Ok(("PACS".into(), "10.0.0.5:104".into())));
        assert_eq!(peer("PACS@[::1]:104"), Ok(("PACS".into(), "[::1]:104".into())));
        for bad in ["PACS", "PACS@host", "@host:104", "PACS@:104", "PACS@host:x", "A\\B@h:1"] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_is_looked_through_and_other_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/readme.txt"), "no").unwrap();
        let error = find(&[folder.path().to_owned()], &is_instance).unwrap_err();
        assert!(error.to_string().contains("no DICOM file"));
        let (files, _) = find(&[folder.path().join("a/readme.txt")], &is_instance).unwrap();
        assert_eq!(files.len(), 1, "a file that is named is tried");
        assert!(find(&["/nowhere".into()], &is_instance).is_err());
    }
}
