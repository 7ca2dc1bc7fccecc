//! `prelim batch`: a folder of studies, read one after the other, with a record that is gone on
//! from.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufRead as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::cli::analyze;
use crate::cli::analyze::Ended;
use crate::cli::workbench;
use crate::cli::workbench::PictureArgs;
use crate::cli::workbench::Planned;
use crate::cli::workbench::ReadingArgs;
use crate::domain::uid::StudyUid;

/// One line for each study that is done.
const RECORD: &str = "batch.jsonl";
const SUMMARY: &str = "summary.csv";
/// Answers of gateways: a study that was cut off is not paid for twice.
const ANSWERS: &str = ".answers";

/// Reads all studies of a folder, and goes on where it was stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim batch /archive/2026-11 --out results --config prelim.toml
  prelim batch photos --modality XC --profile wound --out wounds --yes

Says before it begins how many studies go to whom and what that costs at most. Each study that is
done is a line of OUT/batch.jsonl and a folder OUT/<Study Instance UID>; OUT/summary.csv is a table
of all. The same command again reads only what is not done, and with --again also what failed or
needs a person. Nothing is delivered and nobody is alerted.

Exit code: 0 all done and none needs a person, 1 some do or failed, 2 wrong usage.")]
pub struct Args {
    /// The folder, with all below it
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where results are kept
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Read also again what failed or needs a person
    #[arg(long)]
    again: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    studies: usize,
    /// By outcome.
    outcomes: BTreeMap<String, usize>,
    alerts: usize,
    /// Done before this call.
    done_before: usize,
    left_out: usize,
    cost_micro: u64,
}

/// What stands in a line of the record.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Of the files that it was read from: more of them are a reason to read it again.
    found: usize,
    #[serde(flatten)]
    outcome: Ended,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let way = args.reading.way()?;
    let out = &args.out;
    let writable = std::fs::create_dir_all(out)
        .and_then(|()| File::options().create(true).append(true).read(true).open(out.join(RECORD)));
    let mut record = writable
        .map_err(|error| CouldNotStart(format!("{} cannot be written: {error}", out.display())))?;
    record
        .try_lock()
        .map_err(|_| CouldNotStart(format!("{} is worked on by another batch", out.display())))?;
    let mut done = done(&out.join(RECORD))?;
    end_last_line(&mut record)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let bench = way.workbench(None).await?;
        let looked =
            way.look(&bench, std::slice::from_ref(&args.folder), &args.pictures, args.json).await;
        bench.stop().await;
        let mut found = looked?;
        workbench::tell_left_out(&found);
        let mut studies = std::mem::take(&mut found.studies);
        let all: BTreeSet<StudyUid> = studies.iter().map(|s| s.item.study_uid.clone()).collect();
        studies.retain(|study| !is_done(study, &done, args.again));
        let done_before = all.len() - studies.len();
        if !args.json {
            tell(&studies, done_before);
        }
        way.confirm(&studies)?;
        let bar = workbench::bar(studies.len(), "reading studies", args.json);
        let answers = out.join(ANSWERS);
        let mut on_each = |study: Planned, read: anyhow::Result<_>, took: std::time::Duration| {
            let outcome = Ended::new(&study, &read, took.as_secs_f64());
            if let Ok(read) = &read {
                analyze::keep(out, read)?;
            }
            let line = Line { found: study.item.files.len(), outcome };
            writeln!(record, "{}", serde_json::to_string(&line)?)?;
            record.sync_data().context("the record of the batch cannot be written")?;
            if !line.outcome.is_good() {
                let Ended { study_uid, outcome, reason, .. } = &line.outcome;
                bar.println(format!("{study_uid}: {outcome}: {}", cli::plain(reason)));
            }
            done.insert(line.outcome.study_uid.clone(), line);
            bar.inc(1);
            Ok(())
        };
        let is_cut = tokio::select! {
            read = way.read(studies, Some(&answers), &mut on_each) => read.map(|()| false),
            _ = tokio::signal::ctrl_c() => Ok(true),
        }?;
        bar.finish_and_clear();
        let lines: Vec<&Line> =
            done.values().filter(|line| all.contains(&line.outcome.study_uid)).collect();
        write_summary(&out.join(SUMMARY), &lines)?;
        let mut summary = Summary {
            studies: all.len(),
            done_before,
            left_out: found.left_out.len(),
            ..Summary::default()
        };
        for Line { outcome, .. } in &lines {
            *summary.outcomes.entry(outcome.outcome.clone()).or_default() += 1;
            summary.alerts += usize::from(outcome.alert);
            summary.cost_micro += outcome.cost_micro;
        }
        if args.json {
            cli::print_json(&summary)?;
        } else {
            print(&summary, way.currency(), out);
        }
        if is_cut {
            eprintln!(
                "stopped: {} of {} studies are done; the same command goes on",
                lines.len(),
                all.len()
            );
        }
        let good = lines.len() == all.len()
            && summary.left_out == 0
            && lines.iter().all(|line| line.outcome.is_good());
        Ok(ExitCode::from(u8::from(!good)))
    })
}

/// The last line of each study. A line that a kill cut off counts as none.
fn done(record: &Path) -> anyhow::Result<BTreeMap<StudyUid, Line>> {
    let mut done = BTreeMap::new();
    for text in std::io::BufReader::new(File::open(record)?).split(b'\n') {
        if let Ok(line) = serde_json::from_slice::<Line>(&text?) {
            done.insert(line.outcome.study_uid.clone(), line);
        }
    }
    Ok(done)
}

/// So that the next line does not join one that was cut off.
fn end_last_line(record: &mut File) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let length = record.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        record.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        writeln!(record)?;
    }
    Ok(())
}

fn is_done(study: &Planned, done: &BTreeMap<StudyUid, Line>, again: bool) -> bool {
    done.get(&study.item.study_uid).is_some_and(|line| {
        line.found == study.item.files.len() && (line.outcome.is_good() || !again)
    })
}

/// What there is, by what reads it.
fn tell(studies: &[Planned], done_before: usize) {
    let mut kinds: BTreeMap<(&str, String), (usize, usize, u64)> = BTreeMap::new();
    for study in studies {
        let mut who = study.estimate.gateways.join(", ");
        if who.is_empty() {
            who.push('-');
        }
        let kind = kinds.entry((study.as_what.as_str(), who)).or_default();
        kind.0 += 1;
        kind.1 += study.item.files.len();
        kind.2 += study.estimate.cost_micro;
    }
    let mut table = cli::table(["Read as", "Models", "Studies", "Files", "Cost at most"]);
    for ((what, who), (studies, files, cost)) in kinds {
        let what: String = cli::plain(what).chars().take(60).collect();
        let row = [what, cli::plain(&who), studies.to_string(), files.to_string()];
        table.add_row(row.into_iter().chain([workbench::money(cost)]));
    }
    println!("{} studies to read, {done_before} done before", studies.len());
    if !studies.is_empty() {
        println!("{table}");
    }
}

fn print(summary: &Summary, currency: &str, out: &Path) {
    let outcomes = summary.outcomes.iter();
    let outcomes: Vec<String> = outcomes.map(|(what, count)| format!("{count} {what}")).collect();
    println!("{} studies: {}", summary.studies, outcomes.join(", "));
    println!(
        "{} would have been alerts; cost {} {currency}",
        summary.alerts,
        workbench::money(summary.cost_micro)
    );
    println!("results: {}, {}", out.display(), out.join(SUMMARY).display());
}

/// RFC 4180. Written anew, then put in place.
fn write_summary(path: &Path, lines: &[&Line]) -> anyhow::Result<()> {
    let header = "study_uid,first_file,outcome,urgency,findings,alert,profile,files,cost_micro,seconds,reason\r\n";
    let mut text = header.to_owned();
    for Line { outcome: one, .. } in lines {
        let fields = [
            one.study_uid.to_string(),
            one.first_file.display().to_string(),
            one.outcome.clone(),
            one.urgency.map(|urgency| urgency.as_str().to_owned()).unwrap_or_default(),
            one.findings.join("; "),
            one.alert.to_string(),
            one.profile.clone(),
            one.files.to_string(),
            one.cost_micro.to_string(),
            format!("{:.1}", one.seconds),
            one.reason.clone(),
        ];
        let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    let made = path.with_extension("csv.new");
    std::fs::write(&made, text)?;
    Ok(std::fs::rename(made, path)?)
}

/// A field that a spreadsheet takes for text: never for a formula.
fn quoted(field: &str) -> String {
    let plain = cli::plain(field);
    let guard = if plain.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    format!("\"{guard}{}\"", plain.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_none_and_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECORD);
        let whole = |uid: &str| {
            serde_json::json!({"found": 1, "study_uid": uid, "first_file": "a.dcm", "files": 1, "profile": "", "state": "delivered",
                "outcome": "read", "reason": "", "urgency": null, "findings": [], "alert": false,
                "cost_micro": 0, "seconds": 1.0})
        };
        std::fs::write(&path, format!("{}\n{}", whole("1.2.1"), r#"{"found": 1, "stu"#)).unwrap();
        assert_eq!(done(&path).unwrap().len(), 1);
        let mut record = File::options().append(true).read(true).open(&path).unwrap();
        end_last_line(&mut record).unwrap();
        writeln!(record, "{}", whole("1.2.2")).unwrap();
        end_last_line(&mut record).unwrap();
        let uids: Vec<String> = done(&path).unwrap().keys().map(ToString::to_string).collect();
        assert_eq!(uids, ["1.2.1", "1.2.2"]);
    }

    #[test]
    fn a_spreadsheet_runs_nothing_of_a_summary() {
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
        assert_eq!(quoted("a \"b\",\nc"), "\"a \"\"b\"\", c\"");
    }
}
