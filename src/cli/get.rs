//! `prelim get`: a stored instance, as it came.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::process::ExitCode;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::uid::SopInstanceUid;

/// Writes a stored instance to standard output, the Part 10 file byte by byte as it is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  prelim get 1.2.840.113619.2.1.1.1 > image.dcm\n\n\
    Exit code: 0 written, 1 the node has no such instance.")]
pub struct Args {
    /// SOP Instance UID (0008,0018)
    uid: SopInstanceUid,
    #[command(flatten)]
    data: cli::DataArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if std::io::stdout().is_terminal() {
        let hint = format!("this is a binary file; write prelim get {} > image.dcm", args.uid);
        return Err(CouldNotStart(hint).into());
    }
    if cli::block_on(write(&args))? {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: no instance {} in this data folder", args.uid);
    Ok(ExitCode::from(1))
}

async fn write(args: &Args) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => {
            let Some(mut answer) = node.get(&format!("object/{}", args.uid)).await? else {
                return Ok(false);
            };
            while let Some(chunk) = answer.chunk().await? {
                out.write_all(&chunk)?;
            }
        }
        Folder::Own(store) => {
            let Some(row) = store.instance(&args.uid)? else { return Ok(false) };
            let path = store.data().join(&row.receipt.object);
            let mut file = std::fs::File::open(&path).map_err(|error| {
                anyhow::anyhow!("{}: {error}; see prelim verify", path.display())
            })?;
            let what = format!("instance {}", args.uid);
            node::note_look(&store, Some(&row.receipt.study_uid), &what).await?;
            std::io::copy(&mut file, &mut out)?;
        }
    }
    out.flush()?;
    Ok(true)
}
