//! `prelim man`: a manual page for each command, from its help.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;
use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::Roff;
use clap_mangen::roff::bold;
use clap_mangen::roff::roman;

use crate::cli;

/// Writes a manual page for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "The Debian package brings them.\n\n\
    Example:\n  prelim man --out ~/.local/share/man/man1")]
pub struct Args {
    /// Folder to write prelim.1, prelim-serve.1 and so on into; made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("the folder {} cannot be made", args.out.display()))?;
    let mut command = cli::Cli::command().disable_help_subcommand(true);
    command.build();
    write(&command, &args.out)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of its commands, but for hidden ones.
fn write(command: &Command, out: &Path) -> anyhow::Result<()> {
    let path = out.join(Man::new(command.clone()).get_filename());
    let page = page(command)?;
    std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.try_for_each(|command| write(command, out))
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone());
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let after = Sections::of(&after);
    // Without a date: the same program gives the same page.
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH {name} 1 \"\" \"prelim {version}\" Prelim\n").into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    after.description.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    after.examples.to_writer(&mut page)?;
    after.exit_status.to_writer(&mut page)?;
    if name != "prelim" {
        let mut above = Roff::new();
        above.control("SH", ["SEE ALSO"]).text([bold("prelim"), roman("(1)")]);
        above.to_writer(&mut page)?;
    }
    Ok(page)
}

/// What stands below the options of a help text, as sections of a page.
#[derive(Default)]
struct Sections {
    description: Roff,
    examples: Roff,
    exit_status: Roff,
}

impl Sections {
    /// A line "Examples:" begins those, one that begins with "Exit code" what it says, until the
    /// next empty line. Lines with a space before them stay as they are.
    fn of(help: &str) -> Sections {
        let mut sections = Sections::default();
        for paragraph in help.split("\n\n") {
            let mut part = &mut sections.description;
            let is_prose =
                |line: &str| !line.starts_with("Example") && !line.starts_with("Exit code");
            if paragraph.lines().find(|line| !line.is_empty()).is_some_and(is_prose) {
                part.control("PP", []);
            }
            let mut verbatim = false;
            for line in paragraph.lines().filter(|line| !line.is_empty()) {
                let literal = line.starts_with(' ');
                if literal != verbatim {
                    part.control(if literal { "nf" } else { "fi" }, []);
                    verbatim = literal;
                }
                if let "Examples:" | "Example:" = line {
                    part = &mut sections.examples;
                    part.control("SH", ["EXAMPLES"]);
                } else if let Some(codes) = line.strip_prefix("Exit code") {
                    part = &mut sections.exit_status;
                    part.control("SH", ["EXIT STATUS"]);
                    let codes = codes.trim_start_matches(['s', ':', ' ']);
                    if !codes.is_empty() {
                        part.text([roman(codes)]);
                    }
                } else {
                    part.text([roman(line.trim_start())]);
                }
            }
            if verbatim {
                part.control("fi", []);
            }
        }
        sections
    }
}
