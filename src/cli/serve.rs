//! `prelim serve`: the node.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::app::App;
use crate::app::handles;
use crate::cli::CouldNotStart;
use crate::cli::DATA;
use crate::config::Sources;
use crate::telemetry;

/// Run the node: receive studies, read them, report, deliver, alert
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim serve
  prelim serve --config /etc/prelim/prelim.toml --data /var/lib/prelim
  prelim serve --dicom 0.0.0.0:104 --set dicom.ae_title=AI1 --set assemble.quiet_period_s=60

Every key has a default: with no file it runs, on loopback, with the local model.
Ends in order on SIGTERM or Ctrl-C; what was not done is done after the next start.
SIGHUP and prelim reload read the settings again: all but addresses and the size of the index in
memory take effect at once; settings that cannot be used are refused, and those from before stay.
Certificates and peers are read again by themselves when they change.")]
pub struct Args {
    /// Settings file (TOML); see config/example.toml for every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder, made when it is not there
    #[arg(long, value_name = "DIR", default_value = DATA)]
    data: PathBuf,
    /// Where to listen for DICOM, instead of dicom.listen
    #[arg(long, value_name = "ADDR:PORT")]
    dicom: Option<String>,
    /// Where to listen for the web page and the API, instead of http.listen
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// One setting, over file and environment; can be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut set = args.set;
    // An address is text: it must not be taken for a TOML value.
    set.extend(args.dicom.map(|address| format!("dicom.listen={address:?}")));
    set.extend(args.http.map(|address| format!("http.listen={address:?}")));
    let file = args.config;
    let load = move || {
        let sources = Sources { file: file.as_deref(), environment: true, set: &set };
        crate::config::load(&sources)
    };
    let mut settings = load()?;
    telemetry::init(&settings.telemetry);
    handles::share(&mut settings);
    let again = Box::new(move || {
        let mut settings = load()?;
        handles::share(&mut settings);
        Ok(settings)
    });
    let metrics = telemetry::metrics();
    let program = std::env::current_exe().context("this program's own file cannot be found")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Nothing is asked by these; without anyone who hears them they would end the node.
        let _heard = [SignalKind::user_defined1(), SignalKind::user_defined2()].map(signal);
        let app = App::start(&settings, &args.data, &program, metrics, again)
            .await
            .map_err(|error| CouldNotStart(format!("{error:#}")))?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => app.reload(),
            }
        }
        app.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
