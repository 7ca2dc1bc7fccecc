//! The measuring rig: servers that do nothing but the named I/O, and a sender that never is the
//! slow part. Standard library only, so that `scripts/bench` builds it in seconds with `rustc -O`.
//!
//! - `rig serve PORT FOLDER discard|rename|durable|group`: a storage SCP, see [`null`].
//! - `rig store …`, `rig echo …`, `rig hold …`: senders, see [`load`].

mod load;
mod null;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "\
rig serve PORT FOLDER discard|rename|durable|group
rig store PORT AE ASSOCIATIONS SECONDS INSTANCES_MAX FILE...
rig large PORT AE BYTES FILE
rig echo  PORT AE ASSOCIATIONS SECONDS
rig hold  PORT AE ASSOCIATIONS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["serve", port, folder, kind] => null::serve(number(port), folder.as_ref(), kind),
        ["store", port, ae, associations, seconds, most, files @ ..] if !files.is_empty() => {
            let peer = load::Peer { port: number(port), ae: (*ae).to_owned() };
            load::store(&peer, number(associations), number(seconds), number(most), files)
        }
        ["large", port, ae, bytes, file] => load::large(
            &load::Peer { port: number(port), ae: (*ae).to_owned() },
            number(bytes),
            file,
        ),
        ["echo", port, ae, associations, seconds] => {
            let peer = load::Peer { port: number(port), ae: (*ae).to_owned() };
            load::echo(&peer, number(associations), number(seconds))
        }
        ["hold", port, ae, associations] => load::hold(
            &load::Peer { port: number(port), ae: (*ae).to_owned() },
            number(associations),
        ),
        // `cargo bench` and `cargo test --benches` start it with options of their own.
        [] | ["--bench" | "--test", ..] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}
