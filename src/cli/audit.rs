//! `prelim audit`: who did what, and whether the ledger is what was written.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::cli::node::Node;
use crate::domain::uid::StudyUid;
use crate::store::AuditPage;
use crate::store::AuditQuery;
use crate::store::AuditRow;
use crate::store::ChainReport;
use crate::store::Hash;
use crate::store::Store;
use crate::web::local::AUDIT_LOG;

/// Shows who looked at, changed, sent or answered what, and checks that the ledger is whole
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists deeds, the newest first
    #[command(after_help = "Examples:\n  prelim audit list --who kim --since 2026-11-01\n  \
        prelim audit list --study 1.2.840.1 --json\n\n\
        Exit code: 0 done, 1 there is none.")]
    List(List),
    /// Checks the hash chain of the ledger from its first record to its last
    #[command(
        after_help = "Write the head down somewhere else: with --head, a later check shows that \
        nothing before it was changed or cut off.\n\n\
        Examples:\n  prelim audit verify\n  prelim audit verify --head 5f0c… --json\n\n\
        Exit code: 0 the chain is whole, 1 it is broken."
    )]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct List {
    /// From this time on: 2026-11-21 (UTC) or 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Part of who did it
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Of one study (Study Instance UID)
    #[arg(long, value_name = "UID")]
    study: Option<StudyUid>,
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"rows", "next"}; next is null when these are all
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// A head that was written down before: it has to be part of the chain
    #[arg(long, value_name = "HASH", value_parser = hash)]
    head: Option<Hash>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"whole", "node_was_running", "report"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verified {
    whole: bool,
    node_was_running: bool,
    report: ChainReport,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let day = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let wrong = || "use a day (2026-11-21, UTC) or a time with its zone (2026-11-21T08:00:00Z)";
    text.parse().ok().or_else(day).ok_or_else(|| wrong().to_owned())
}

fn hash(text: &str) -> Result<Hash, &'static str> {
    match text.len() == 64 {
        true => Hash::try_from(text.to_owned()),
        false => Err("a hash has 64 hexadecimal digits"),
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Action::List(args) => list(&args),
        Action::Verify(args) => verify(&args),
    }
}

fn list(args: &List) -> anyhow::Result<ExitCode> {
    let page = cli::block_on(find(args))?;
    let code = ExitCode::from(u8::from(page.rows.is_empty()));
    if args.json {
        cli::print_json(&page)?;
        return Ok(code);
    }
    let mut table = cli::table(["Time", "Who", "Did", "What", "Study"]);
    for row in &page.rows {
        let AuditRow { at, deed, by, what, study_uid, .. } = row;
        table.add_row([
            cli::time(*at),
            cli::plain(by),
            deed.as_str().to_owned(),
            cli::plain(what),
            study_uid.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    println!("{table}");
    if page.next.is_some() {
        println!("There may be more: --limit, --until.");
    }
    Ok(code)
}

async fn find(args: &List) -> anyhow::Result<AuditPage> {
    let mut query = AuditQuery {
        since: args.since,
        until: args.until,
        who: args.who.clone(),
        study: args.study.clone(),
        ..AuditQuery::default()
    };
    let folder = node::open(args.data.existing()?).await?;
    let mut found = AuditPage::default();
    loop {
        query.limit = args.limit.max(1) - found.rows.len();
        let page = match &folder {
            Folder::Node(node) => {
                let page = node.post_json("audit", &query).await?;
                page.ok_or_else(|| anyhow::anyhow!("the node cannot list it: it is an older one"))?
            }
            Folder::Own(store) => store.audit(&query)?,
        };
        found.rows.extend(page.rows);
        found.next = page.next;
        query.before = page.next;
        if page.next.is_none() || found.rows.len() >= args.limit {
            break;
        }
    }
    if let Folder::Own(store) = &folder {
        node::note_look(store, None, AUDIT_LOG).await?;
    }
    Ok(found)
}

fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let verified = cli::block_on(check(args.data.existing()?, args.head))?;
    let code = ExitCode::from(u8::from(!verified.whole));
    if args.json {
        cli::print_json(&verified)?;
        return Ok(code);
    }
    let report = &verified.report;
    for problem in &report.problems {
        println!("{}", cli::plain(problem));
    }
    let shown = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), cli::time);
    println!(
        "{} records with {} events, from {} to {}: {}",
        report.records,
        report.events,
        shown(report.first_at),
        shown(report.last_at),
        match report.problems_total {
            0 => "the chain is whole".to_owned(),
            1 => "the chain is broken in 1 place".to_owned(),
            places => format!("the chain is broken in {places} places"),
        }
    );
    println!("head {}", String::from(report.head));
    if let Some(number) = report.earlier {
        println!("The head of --head is record {number} of {}.", report.records);
    }
    if verified.node_was_running {
        println!("A node is running: what came meanwhile is left out.");
    }
    if report.unfinished_bytes > 0 {
        println!(
            "The node did not end in order: {} bytes at the end get their place when it starts.",
            report.unfinished_bytes
        );
    }
    Ok(code)
}

async fn check(data: &Path, head: Option<Hash>) -> anyhow::Result<Verified> {
    if let Some(node) = Node::find(data).await? {
        let head = head.map(|hash| format!("?head={}", String::from(hash))).unwrap_or_default();
        let report: Option<ChainReport> = node.get_json(&format!("audit/verify{head}")).await?;
        let report = report.ok_or_else(|| anyhow::anyhow!("the node is an older one"))?;
        return Ok(Verified { whole: report.is_whole(), node_was_running: true, report });
    }
    let report = Store::verify_chain(data, head)?;
    Ok(Verified { whole: report.is_whole(), node_was_running: false, report })
}
