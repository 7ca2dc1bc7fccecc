//! The program: the exit code, nothing else.

fn main() -> std::process::ExitCode {
    prelim::cli::main()
}
