//! A program of the site that reads: it gets a folder of its own with the question and the pictures,
//! and answers one JSON object, in `answer.json` or on its standard output. No shell, no environment,
//! limits on time, memory and output; what it leaves running is stopped, its folder removed.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::process::Command;

use crate::analysis::AnalyzeError;
use crate::analysis::BadAnswer;
use crate::analysis::config::Gateway;
use crate::analysis::provider;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::call_here;
use crate::analysis::provider::keys::KeyView;
use crate::domain::assessment::Algorithm;
use crate::domain::call::Tokens;
use crate::domain::text;

const REQUEST: &str = "request.json";
const ANSWER: &str = "answer.json";
/// EX_TEMPFAIL of sysexits.h: it asks to be tried again later.
const LATER: i32 = 75;
/// What is kept of its standard error, for the last line of it.
const ERRORS_BYTES_MAX: usize = 4096;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub struct Program {
    name: String,
    gateway: Gateway,
    /// This program, which takes the limits and becomes the other: `prelim confine`.
    prelim: PathBuf,
    /// In which each question gets a folder.
    folder: PathBuf,
}

impl Program {
    /// - `folder`: of this reader alone; what a killed node left there is removed.
    ///
    /// # Errors
    /// [`AnalyzeError::Misconfigured`] when the program or the folder cannot be used.
    pub fn new(
        name: &str,
        gateway: &Gateway,
        prelim: &Path,
        folder: &Path,
    ) -> Result<Program, AnalyzeError> {
        let wrong = |why| AnalyzeError::Misconfigured { provider: name.to_owned(), why };
        can_be_run(&gateway.program).map_err(wrong)?;
        let emptied = match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
            }
        };
        // The program sees its folder from another one than ours.
        let folder = emptied
            .and_then(|()| std::fs::canonicalize(folder))
            .map_err(|error| wrong(format!("{}: {error}", folder.display())))?;
        Ok(Program {
            name: name.to_owned(),
            gateway: gateway.clone(),
            prelim: prelim.to_owned(),
            folder,
        })
    }

    /// The question in a new folder that only this user sees.
    async fn laid_out(&self, question: &Question<'_>) -> io::Result<tempfile::TempDir> {
        let only_us = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(only_us).tempdir_in(&self.folder)?;
        let mut pictures = Vec::new();
        for picture in question.pictures {
            let reference = &picture.reference;
            let kind = picture.media_type.rsplit('/').next().unwrap_or_default();
            let file = format!("picture-{:02}.{kind}", reference.number);
            tokio::fs::write(folder.path().join(&file), &picture.bytes).await?;
            pictures.push(json!({"number": reference.number, "label": reference.label(),
                "file": file, "media_type": picture.media_type, "window": reference.window,
                "width_px": reference.width_px, "height_px": reference.height_px}));
        }
        let request = json!({"version": 1, "reader": self.name, "system": question.prompt.system,
            "user": question.prompt.user, "schema": question.schema, "pictures": pictures});
        tokio::fs::write(folder.path().join(REQUEST), request.to_string()).await?;
        Ok(folder)
    }

    fn started(&self, folder: &Path, limit: Duration) -> io::Result<Group> {
        let Gateway { program, arguments, memory_mb_max, .. } = &self.gateway;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let processor_s = limit.as_secs().saturating_add(1).saturating_mul(cores);
        let mut command = Command::new(&self.prelim);
        command
            .args(["confine", "--memory-mb", &memory_mb_max.to_string()])
            .args(["--processor-s", &processor_s.to_string(), "--"])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", folder)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let process = command.spawn()?;
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        Ok(Group { process, leader: id.and_then(Pid::from_raw) })
    }

    async fn said(&self, question: &Question<'_>) -> Result<RawAnswer, AnalyzeError> {
        let provider = || self.name.clone();
        let not_now = |error: io::Error| AnalyzeError::Unreachable {
            provider: provider(),
            why: error.to_string(),
        };
        let program = self.gateway.program.clone();
        let digest = tokio::task::spawn_blocking(move || provider::file_digest(&program)).await;
        let digest = digest.map_err(io::Error::other).and_then(|found| found).map_err(not_now)?;
        let folder = self.laid_out(question).await.map_err(not_now)?;
        let limit = match self.gateway.timeout_s {
            0 => question.timeout,
            seconds => Duration::from_secs(seconds),
        };
        let mut group = self.started(folder.path(), limit).map_err(not_now)?;
        let bytes_max = self.gateway.output_bytes_max;
        let ended = tokio::time::timeout(limit, group.ended(bytes_max)).await;
        group.stop().await;
        let Ended { status, output, errors } = match ended {
            Ok(Ok(Some(ended))) => ended,
            Ok(Ok(None)) => return Err(self.bad(BadAnswer::TooLarge)),
            Ok(Err(error)) => return Err(not_now(error)),
            Err(_) => return Err(AnalyzeError::TimedOut { provider: provider(), waited: limit }),
        };
        if status.code() == Some(LATER) {
            let (status, retry_after) = (LATER as u16, None);
            let words = String::new();
            return Err(AnalyzeError::Busy { provider: provider(), status, retry_after, words });
        }
        if !status.success() {
            return Err(self.failed(how_it_ended(status, &errors)));
        }
        let answer = match written(&folder.path().join(ANSWER), bytes_max).await {
            Ok(Written::Nothing) => output,
            Ok(Written::TooMuch) => return Err(self.bad(BadAnswer::TooLarge)),
            Ok(Written::Answer(bytes)) => bytes,
            Err(error) => return Err(self.failed(format!("{ANSWER}: {error}"))),
        };
        let text = String::from_utf8(answer)
            .map_err(|_| self.failed("its answer is not UTF-8".to_owned()))?;
        let model = format!("sha256:{}", digest.split_at_checked(12).map_or("", |parts| parts.0));
        match text.trim().is_empty() {
            true => Err(self.bad(BadAnswer::Empty)),
            false => Ok(RawAnswer { text, model, tokens: Tokens::default() }),
        }
    }

    fn bad(&self, why: BadAnswer) -> AnalyzeError {
        AnalyzeError::BadAnswer { provider: self.name.clone(), why }
    }

    fn failed(&self, why: String) -> AnalyzeError {
        AnalyzeError::Failed { provider: self.name.clone(), why }
    }
}

/// Whether this is a program that not just anybody can replace.
///
/// # Errors
/// In words.
pub fn can_be_run(program: &Path) -> Result<(), String> {
    if !program.is_absolute() {
        return Err(format!("{}: give the whole path", program.display()));
    }
    let found = provider::unchangeable(program)?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{}: it is no program that can be run", program.display()));
    }
    program.parent().map_or(Ok(()), |folder| provider::unchangeable(folder).map(|_| ()))
}

/// A program and what it started, in a process group of their own. Dropped: killed.
struct Group {
    process: Child,
    leader: Option<Pid>,
}

struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Group {
    /// Waits until it has ended; none when it says more than `bytes_max`.
    async fn ended(&mut self, bytes_max: u64) -> io::Result<Option<Ended>> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let pipes = self.process.stdout.take().zip(self.process.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        let status = {
            let reading = async {
                let said = async {
                    let mut bounded = stdout.take(bytes_max.saturating_add(1));
                    bounded.read_to_end(&mut output).await
                };
                let (said, _) = tokio::join!(said, last(stderr, &mut errors));
                said
            };
            tokio::pin!(reading);
            let early = tokio::select! {
                read = &mut reading => Err(read?),
                status = self.process.wait() => Ok(status?),
            };
            match early {
                // Whoever holds its output open has nothing to say any more.
                Ok(status) => {
                    self.kill();
                    reading.await?;
                    status
                }
                Err(said) if said as u64 > bytes_max => return Ok(None),
                Err(_) => self.process.wait().await?,
            }
        };
        let is_too_much = output.len() as u64 > bytes_max;
        Ok((!is_too_much).then_some(Ended { status, output, errors }))
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            // An error says that nobody of it is left.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }

    /// Ends all of it, and waits for the first of them.
    async fn stop(&mut self) {
        self.kill();
        let _ = self.process.wait().await;
        // From now on the number may belong to another.
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads all and keeps the end: a program must not hang on a full pipe.
async fn last(mut from: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut part = [0; ERRORS_BYTES_MAX];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        kept.extend_from_slice(&part[..read]);
        kept.drain(..kept.len().saturating_sub(ERRORS_BYTES_MAX));
    }
}

enum Written {
    Nothing,
    TooMuch,
    Answer(Vec<u8>),
}

async fn written(path: &Path, bytes_max: u64) -> io::Result<Written> {
    let found = match tokio::fs::symlink_metadata(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::Nothing),
        found => found?,
    };
    match found.is_file() {
        false => Err(io::Error::other("it is no plain file")),
        true if found.len() > bytes_max => Ok(Written::TooMuch),
        true => tokio::fs::read(path).await.map(Written::Answer),
    }
}

/// With the last line that it wrote about itself: what went wrong mostly stands there.
fn how_it_ended(status: ExitStatus, errors: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was stopped by signal {signal}"),
        (None, None) => "nobody knows how it ended".to_owned(),
    };
    let errors = String::from_utf8_lossy(errors);
    let last = errors.lines().map(str::trim).rfind(|line| !line.is_empty());
    match last.map(|line| text::clean(line, 160)) {
        Some(line) => format!("{ended}: {line}"),
        None => ended,
    }
}

#[async_trait]
impl Provider for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> &str {
        &self.gateway.model
    }

    /// - `model`: the digest of the program that answered.
    fn algorithm(&self, model: &str) -> Algorithm {
        let version = text::clean(model, 64);
        let who = ("program", self.name.as_str());
        provider::algorithm_of(who, &self.gateway, version, Vec::new())
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        let started = tokio::time::Instant::now();
        let said = self.said(question).await;
        let call = call_here(self, question, started.elapsed(), &said);
        Asked { said, calls: vec![call] }
    }

    async fn check(&self) -> Result<(), AnalyzeError> {
        let provider = self.name.clone();
        can_be_run(&self.gateway.program)
            .map_err(|why| AnalyzeError::Misconfigured { provider, why })
    }

    fn key_views(&self) -> Vec<KeyView> {
        Vec::new()
    }

    fn draws(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ended_is_told_in_one_harmless_line() {
        for (raw, errors, told) in [
            (0x0300, "", "it ended with status 3"),
            (
                0x0100,
                "Traceback:\n  File x\nMemoryError\n\n",
                "it ended with status 1: MemoryError",
            ),
            (9, "", "it was stopped by signal 9"),
            (0x0100, "\u{1b}[31mred\u{202e}\r\n", "it ended with status 1: [31mred"),
        ] {
            assert_eq!(how_it_ended(ExitStatus::from_raw(raw), errors.as_bytes()), told);
        }
        let long = how_it_ended(ExitStatus::from_raw(0x0100), "x".repeat(5000).as_bytes());
        assert!(long.chars().count() < 200, "{long}");
    }

    #[test]
    fn a_program_that_anybody_can_replace_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("reader");
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(can_be_run(&program).unwrap_err().contains("No such file"));
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        for (of_program, of_folder, why) in [
            (0o644, 0o755, "no program"),
            (0o757, 0o755, "anybody may change it"),
            (0o755, 0o757, "anybody may change it"),
        ] {
            mode(&program, of_program);
            mode(folder.path(), of_folder);
            let found = can_be_run(&program).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        mode(folder.path(), 0o755);
        assert_eq!(can_be_run(&program), Ok(()));
        assert!(can_be_run(Path::new("reader")).unwrap_err().contains("whole path"));
    }
}
