//! `prelim oncall`: who holds which place now and next, and where nobody does.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::alert::Shift;
use crate::cli;
use crate::config;
use crate::config::Sources;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;

/// Shows who is on call, by the schedules of the settings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  prelim oncall --config /etc/prelim/prelim.toml\n  \
    prelim oncall radiology --days 28 --config prelim.toml\n  \
    prelim oncall --at 2026-12-24T23:00 --config prelim.toml\n\n\
    Times are those of the schedule's time zone.\n\n\
    Exit code: 0; 1 when at some time within the days nobody holds a place.")]
pub struct Args {
    /// Only this schedule
    schedule: Option<String>,
    /// From this local time on, instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::civil::DateTime>,
    /// For so many days
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over file and environment
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Print [{"schedule", "time_zone", "shifts": [{"from", "to", "who"}]}]
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Roster {
    schedule: String,
    time_zone: String,
    shifts: Vec<Shift>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = Sources { file: args.config.as_deref(), environment: true, set: &args.set };
    let settings = config::load(&sources)?;
    let site = settings.report.zone().unwrap_or(TimeZone::UTC);
    let config = &settings.alert;
    let mut rosters = Vec::new();
    for (name, schedule) in &config.schedules {
        if args.schedule.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let zone = schedule.zone(&site);
        let from = match args.at {
            Some(local) => local.to_zoned(zone.clone())?.timestamp(),
            None => SystemClock.now(),
        };
        rosters.push((
            zone.clone(),
            Roster {
                schedule: name.clone(),
                time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
                shifts: schedule.shifts(from, args.days, &site, &config.holidays),
            },
        ));
    }
    if rosters.is_empty() {
        return match &args.schedule {
            Some(name) => anyhow::bail!("the settings have no schedule {}", cli::plain(name)),
            None => {
                println!("The settings have no [alert.schedules].");
                Ok(ExitCode::SUCCESS)
            }
        };
    }
    let nobody = |shift: &Shift| shift.who.is_none();
    let has_gap = rosters.iter().any(|(_, roster)| roster.shifts.iter().any(nobody));
    match args.json {
        true => {
            let all: Vec<&Roster> = rosters.iter().map(|(_, roster)| roster).collect();
            cli::print_json(&all)?;
        }
        false => rosters.iter().for_each(|(zone, roster)| print(zone, roster)),
    }
    Ok(ExitCode::from(u8::from(has_gap)))
}

fn print(zone: &TimeZone, roster: &Roster) {
    println!("{} ({})", roster.schedule, roster.time_zone);
    let mut table = cli::table(["From", "To", "On call"]);
    let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M").to_string();
    for shift in &roster.shifts {
        let who = shift.who.as_deref().unwrap_or("NOBODY: the next level is told at once");
        table.add_row([local(shift.from), local(shift.to), cli::plain(who)]);
    }
    println!("{table}\n");
}
