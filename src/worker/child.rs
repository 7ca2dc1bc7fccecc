//! The worker's side: reads tasks from standard input, answers on standard output.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use dicom_core::Tag;

use crate::analysis::provider::local;
use crate::analysis::provider::local::LocalReading;
use crate::analysis::provider::onnx::infer;
use crate::deid::text;
use crate::deid::text::Which;
use crate::domain::picture::Masked;
use crate::domain::picture::PictureRef;
use crate::domain::picture::PixelRule;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::imaging;
use crate::imaging::ImagingError;
use crate::imaging::frames::Piece;
use crate::imaging::frames::PixelFacts;
use crate::imaging::show::Shown;
use crate::imaging::window::Raster;
use crate::report;
use crate::report::ReportError;
use crate::report::ReportInput;
use crate::worker;
use crate::worker::Answer;
use crate::worker::HeaderPart;
use crate::worker::Object;
use crate::worker::Task;
use crate::worker::Values;
use crate::worker::limits;
use crate::worker::limits::Settings;
use crate::worker::protocol;

/// Stack of the thread that does the tasks: parsers of others may recurse.
const STACK_BYTES: usize = 64 << 20;

/// `prelim worker`: works until its input ends. Not for people.
pub fn child_main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    // A panic's message may quote what it stumbled over: only its place goes to the log.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line()));
        let _ = writeln!(std::io::stderr(), "panic at {}", place.unwrap_or_default());
    }));
    let mut output = std::io::stdout();
    let greeted = output.write_all(protocol::HELLO).and_then(|()| output.flush());
    greeted.map_err(|e| format!("no output: {e}"))?;
    let settings: Settings =
        protocol::read(&mut std::io::stdin().lock()).map_err(|e| e.to_string())?;
    limits::apply(&settings)?;
    let thread = std::thread::Builder::new().name("task".into()).stack_size(STACK_BYTES);
    let working = thread.spawn(serve).map_err(|e| format!("no thread: {e}"))?;
    working.join().unwrap_or_else(|_| Err("the task thread panicked".into()))
}

fn serve() -> Result<(), String> {
    let mut input = std::io::BufReader::new(std::io::stdin().lock());
    let mut output = std::io::BufWriter::new(std::io::stdout());
    loop {
        let task: Task = match protocol::read(&mut input) {
            Ok(task) => task,
            Err(protocol::ProtocolError::Io(e))
                if e.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                return Ok(());
            }
            Err(e) => return Err(e.to_string()),
        };
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| perform(task)));
        let answer = done.unwrap_or_else(|_| Answer::Refused {
            reason: "a decoder stumbled over the input (panic)".into(),
        });
        protocol::write(&mut output, answer).map_err(|e| e.to_string())?;
    }
}

/// Does one task. Everything that bytes from outside reach is called from here.
fn perform(task: Task) -> Answer {
    match task {
        Task::Inspect { data, objects } => {
            let (mut parsed, mut unreadable) = (Vec::new(), Vec::new());
            for Object { object, sop_instance_uid } in objects {
                match imaging::inspect::inspect(&data.join(&object), &object) {
                    Ok(inspected) => parsed.push(inspected),
                    Err(error) => {
                        let reason = error.to_string();
                        unreadable.push(Excluded { sop_instance_uid, reason });
                    }
                }
            }
            Answer::Inspected { parsed, unreadable }
        }
        Task::Picture { data, study, plan, masks, text_s_max } => {
            let (started, limit) = (Instant::now(), Duration::from_secs(text_s_max));
            let mask_text = |raster: &mut Raster, rule| match (started.elapsed() > limit, rule) {
                (false, _) => mask_text(raster, rule, masks.text_percent_max),
                // It stays inside: a picture that is not looked at is better than none.
                (true, PixelRule::Instructions) => Ok(Masked::default()),
                (true, PixelRule::Text | PixelRule::TextAndOutsideRegions) => {
                    Err(format!("text was looked for in other pictures for {text_s_max} s"))
                }
            };
            let (made, excluded) =
                imaging::picture::pictures(&data, &study, &plan, &masks, &mask_text);
            let (references, bytes) = made.into_iter().map(|p| (p.reference, p.bytes)).unzip();
            Answer::Pictures { references, bytes, format: plan.format, excluded }
        }
        Task::Sheets { references, pictures, format, sheets_max } => {
            let pictures = worker::joined(references, pictures, format);
            match imaging::montage::sheets(pictures, sheets_max) {
                Ok(made) => {
                    let (references, bytes) =
                        made.into_iter().map(|p| (p.reference, p.bytes)).unzip();
                    Answer::Pictures { references, bytes, format, excluded: Vec::new() }
                }
                Err(error) => Answer::Refused { reason: error.to_string() },
            }
        }
        Task::Measure { data, study } => {
            let (measurements, quality, excluded) = imaging::measure::measure(&data, &study);
            Answer::Measured { measurements, quality, excluded }
        }
        Task::Densities { data, regions } => {
            let measured = regions.iter().map(|(instance, region)| {
                let density = imaging::density::density(&data, instance, region);
                density.map_err(|error| error.to_string())
            });
            Answer::Densities { found: measured.collect() }
        }
        Task::LocalRead { data, instance } => match local_read(&data, &instance) {
            Ok(reading) => Answer::LocalRead { reading },
            Err(reason) => Answer::Refused { reason },
        },
        Task::Scores { folder, manifest, pictures } => {
            match infer::scores(&folder, &manifest, &pictures) {
                Ok(scores) => Answer::Scores { scores },
                Err(reason) => Answer::Refused { reason },
            }
        }
        Task::Document { data, object } => match imaging::document::read(&data.join(object)) {
            Ok(report) => Answer::Document { report },
            Err(error) => Answer::Refused { reason: error.to_string() },
        },
        Task::Render { assessment, language, references, pictures, communications, site } => {
            let pictures: Vec<(PictureRef, Vec<u8>)> =
                references.into_iter().zip(pictures).collect();
            let input = ReportInput {
                assessment: &assessment,
                language,
                pictures: &pictures,
                communications: &communications,
                site: &site,
            };
            match render(&input) {
                Ok(files) => Answer::Rendered { files },
                Err(error) => Answer::Refused { reason: error.to_string() },
            }
        }
        Task::Headers { data, objects, wanted } => {
            let written = objects.iter().enumerate();
            let written = written.map(|(n, object)| header(&data, object, &wanted, n));
            Answer::Headers { objects: written.collect() }
        }
        Task::Values { data, object, wanted } => match values(&data.join(object), &wanted) {
            Ok(answer) => answer,
            Err(error) => Answer::Refused { reason: error.to_string() },
        },
        Task::Show { data, object, which, view } => {
            match imaging::show::show(&data.join(object), which, &view) {
                Ok(Shown { file, window }) => Answer::Shown { file, window },
                Err(error) => Answer::Refused { reason: error.to_string() },
            }
        }
        Task::Draw { data, object, drawing } => {
            match imaging::key_image::draw(&data.join(object), &drawing) {
                Ok(image) => Answer::Drawn { image: Box::new(image) },
                Err(error) => Answer::Refused { reason: error.to_string() },
            }
        }
        Task::Transcode { data, object, bytes_max } => {
            made(imaging::transcode::to_plain(&data.join(object), bytes_max))
        }
        Task::Wrap { picture, fields } => match imaging::wrap::wrap(&picture, &fields) {
            Ok(file) => Answer::Wrapped { file },
            Err(error) => Answer::Refused { reason: error.to_string() },
        },
        #[cfg(test)]
        Task::Misbehave { how } => tests::misbehave(&how),
    }
}

fn mask_text(raster: &mut Raster, rule: PixelRule, percent_max: u32) -> Result<Masked, String> {
    let Raster { width, height, samples, ref mut pixels } = *raster;
    let mut seen = text::Pixels { width, height, samples, values: pixels };
    let which = match rule {
        PixelRule::Text | PixelRule::TextAndOutsideRegions => Which::All,
        PixelRule::Instructions => Which::Instructions,
    };
    text::mask(&mut seen, which, percent_max).map_err(|error| error.to_string())
}

fn made(file: Result<Vec<u8>, ImagingError>) -> Answer {
    match file {
        Ok(file) => Answer::Made { file },
        Err(error) => Answer::Refused { reason: error.to_string() },
    }
}

/// Empty when the header cannot be read.
fn header(data: &Path, object: &Object, wanted: &HeaderPart, number: usize) -> Vec<u8> {
    let Ok(opened) = imaging::dataset::DataSet::open(&data.join(&object.object)) else {
        return Vec::new();
    };
    match wanted {
        HeaderPart::Index(tags) => {
            let tags: Vec<Tag> =
                tags.iter().map(|(group, element)| Tag(*group, *element)).collect();
            imaging::json::write(&opened, &imaging::json::Part::Index(&tags))
        }
        HeaderPart::Whole(uris) => {
            let bulk_uri = uris.get(number).map_or("", String::as_str);
            imaging::json::write(&opened, &imaging::json::Part::Whole { bulk_uri })
        }
    }
}

fn values(path: &Path, wanted: &Values) -> Result<Answer, ImagingError> {
    let (facts, pieces) = match wanted {
        Values::Stored(numbers) => imaging::frames::stored(path, numbers)?,
        Values::Plain { numbers, bytes_max } => imaging::frames::plain(path, numbers, *bytes_max)?,
        Values::Bulk(place) => {
            let piece = imaging::frames::bulk(path, place)?;
            return Ok(answer_of(None, piece.into_iter().collect()));
        }
    };
    Ok(answer_of(Some(facts), pieces))
}

fn answer_of(facts: Option<PixelFacts>, pieces: Vec<Piece>) -> Answer {
    let (mut places, mut bytes) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::InFile(spans) => places.push(Some(spans)),
            Piece::Bytes(blob) => {
                places.push(None);
                bytes.push(blob);
            }
        }
    }
    Answer::Values { facts, places, bytes }
}

fn local_read(data: &Path, instance: &Instance) -> Result<LocalReading, String> {
    let grey = imaging::picture::grey_frame(data, instance).map_err(|error| error.to_string())?;
    local::read(&grey.pixels, grey.width as usize, grey.height as usize)
        .map_err(|error| error.to_string())
}

fn render(input: &ReportInput<'_>) -> Result<Vec<Vec<u8>>, ReportError> {
    let (html, text) = (report::html(input)?, report::text(input)?);
    Ok(vec![html.into_bytes(), text.into_bytes(), report::pdf(input)?])
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The child of the pool's tests: this test binary, started again.
    #[test]
    #[ignore = "started by the pool's tests"]
    fn child() {
        std::process::exit(if child_main() == ExitCode::SUCCESS { 0 } else { 1 });
    }

    pub fn misbehave(how: &str) -> Answer {
        fn deeper(n: u64) -> u64 {
            let block = std::hint::black_box([n; 64]);
            if n == u64::MAX { block[3] } else { deeper(n + 1) + block[5] }
        }
        let said = match how {
            "panic" => panic!("Doe^Jane"),
            "overflow" => deeper(0).to_string(),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(3),
            // Hidden from the optimiser, which would leave the memory out.
            "memory" => std::hint::black_box(vec![1u8; 3 << 30]).len().to_string(),
            "for ever" => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            "socket" => {
                format!("{:?}", std::net::UdpSocket::bind("127.0.0.1:0").err().map(|e| e.kind()))
            }
            "exec" => {
                let run = std::process::Command::new("/bin/true").status();
                format!("{:?}", run.err().map(|e| e.kind()))
            }
            "write" => {
                let path = std::env::temp_dir().join("prelim-worker-must-not-write");
                format!("{:?}", std::fs::write(path, "x").err().map(|e| e.kind()))
            }
            "thread" => format!("{:?}", std::thread::spawn(|| 5).join().ok()),
            "environment" => {
                let names =
                    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
                names.collect::<Vec<_>>().join(" ")
            }
            "noise" => {
                (0..5_000).for_each(|i| eprintln!("line {i} {}", "x".repeat(500)));
                "done".into()
            }
            other => other.to_owned(),
        };
        Answer::Refused { reason: said }
    }
}
