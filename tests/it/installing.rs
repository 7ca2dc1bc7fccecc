//! What a package brings beside the program: manual pages, completions.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::node::PRELIM;
use crate::node::run;
use crate::node::said;

/// The names of the commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = run(Command::new(PRELIM).arg("--help"));
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    names.collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_command_has_a_manual_page_that_mandoc_finds_nothing_wrong_with() {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new(PRELIM).args(["man", "--out"]).arg(folder.path()));
    for command in commands() {
        assert!(folder.path().join(format!("prelim-{command}.1")).is_file(), "{command}");
    }
    let pages = files_in(folder.path());
    let inner = ["prelim-worker.1", "prelim-confine.1"].map(|name| folder.path().join(name));
    assert!(pages.iter().all(|page| !inner.contains(page)), "what only the node starts");
    // A page made from a help text has no date; around lists of values its maker leaves breaks.
    let known = ["missing date", "br before sp", "br after sp"];
    let mut lint = Command::new("mandoc");
    let output = lint.args(["-T", "lint", "-W", "warning"]).args(&pages).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let is_new = |line: &&str| !known.iter().any(|known| line.contains(known));
    let wrong: Vec<&str> = text.lines().filter(is_new).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let page = folder.path().join("prelim-verify.1");
    let shown = run(Command::new("mandoc").args(["-T", "ascii"]).arg(page));
    let mut shown = String::from_utf8(shown.stdout).unwrap();
    // Bold is a letter over itself.
    while let Some(back) = shown.find('\u{8}') {
        shown.replace_range(back - 1..=back, "");
    }
    for part in ["EXAMPLES", "EXIT STATUS", "SEE ALSO"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    // One example, one line.
    assert!(shown.lines().any(|line| line.trim() == "prelim verify --full"), "{shown}");
}

#[test]
fn a_shell_completes_commands_and_their_options() {
    let asked = [("prelim check-c", "check-config"), ("prelim verify --ge", "--gentle")];
    for (line, completed) in asked {
        let script = "source <(\"$0\" completions bash)
            COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _prelim prelim \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            echo \"${COMPREPLY[@]}\"";
        let output = Command::new("bash").args(["-c", script, PRELIM, line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), completed, "{}", said(&output));
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = run(Command::new(PRELIM).args(["completions", shell]));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("check-config") && !script.contains("confine"), "{shell}");
    }
}
