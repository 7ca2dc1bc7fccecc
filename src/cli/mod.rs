//! One file for each command.

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
