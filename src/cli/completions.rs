//! `prelim completions`: what a shell asks for at the Tab key.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::aot;

use crate::cli;

/// Prints the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "The Debian package brings them.\n\nExamples:\n  \
    prelim completions bash > ~/.local/share/bash-completion/completions/prelim\n  \
    prelim completions zsh > ~/.zfunc/_prelim\n  \
    prelim completions fish > ~/.config/fish/completions/prelim.fish")]
pub struct Args {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    let shell = match args.shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut script = Vec::new();
    aot::generate(shell, &mut shown(cli::Cli::command()), "prelim", &mut script);
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(&script);
    Ok(ExitCode::SUCCESS)
}

/// Without what the node starts by itself.
fn shown(command: clap::Command) -> clap::Command {
    let hidden = |command: &&clap::Command| !command.is_hide_set();
    let kept: Vec<clap::Command> = command.get_subcommands().filter(hidden).cloned().collect();
    clap::Command::new("prelim").version(env!("CARGO_PKG_VERSION")).subcommands(kept)
}
