//! `storage export`: the requests in a folder, as their senders sent them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

use super::Folder;
use super::inspect::encoding_name;
use super::journals::QueueJournal;
use super::range::Range;
use super::show;
use crate::log::Seq;
use crate::log::disk::look::{Place, SeenSegment, Told};
use crate::model::counts::Counts;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;
use crate::wire::negotiate::{CONTENT_TYPE_V1, CONTENT_TYPE_V2};

/// File beside the bodies that says what is in them.
const INDEX: &str = "index.jsonl";

/// Which records are wanted.
pub(super) struct Choice<'f> {
    /// Only what this queue has not settled.
    pub(super) queue: Option<&'f QueueJournal>,
    pub(super) range: Range,
}

/// A request as its sender sent it.
pub(super) struct Request {
    pub(super) place: Place,
    pub(super) told: Told,
    pub(super) body: Bytes,
    /// Elements that the queue has not settled.
    pub(super) pending: Option<Counts>,
}

/// What was exported.
#[derive(Default)]
pub(super) struct Exported {
    pub(super) records: u64,
    pub(super) counts: Counts,
    pub(super) bytes: u64,
    /// Of these, elements that the queue had settled: they are repeated.
    pub(super) settled: u64,
    /// Records that are damaged, and what they cost.
    pub(super) damaged: Vec<(Seq, Counts)>,
}

/// Where requests go.
pub(super) trait Target {
    /// Takes the next one; an error ends the export.
    fn take(&mut self, request: &Request) -> Result<(), String>;

    /// There are no more.
    fn end(&mut self) -> Result<(), String>;
}

impl Request {
    /// The headers to send it with.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let fixed = self
            .fixed_headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let tenant = self.told.tenant.0.iter().cloned();
        fixed.into_iter().chain(tenant).collect()
    }

    /// Content type, content encoding, and the version of the protocol.
    pub(super) fn fixed_headers(&self) -> [(&'static str, &'static str); 3] {
        let (content_type, version) = match self.told.protocol {
            Protocol::V1 => (CONTENT_TYPE_V1, "0.1.0"),
            Protocol::V2 => (CONTENT_TYPE_V2, "2.0.0"),
        };
        let encoding = self.told.encoding;
        [
            ("Content-Type", content_type),
            ("Content-Encoding", encoding_name(encoding)),
            match encoding {
                Encoding::Snappy => ("X-Prometheus-Remote-Write-Version", version),
                Encoding::Zstd => ("X-VictoriaMetrics-Remote-Write-Version", "1"),
            },
        ]
    }

    fn file_name(&self) -> String {
        let message = match self.told.protocol {
            Protocol::V1 => "rw1",
            Protocol::V2 => "rw2",
        };
        let encoding = encoding_name(self.told.encoding);
        format!("{:020}.{message}.{encoding}", self.place.seq.0)
    }
}

/// Takes requests to a target, in order. On an error what was exported before it, and where it came.
pub(super) fn export(
    folder: &Folder,
    choice: &Choice<'_>,
    target: &mut dyn Target,
    done: &mut Exported,
) -> Result<(), (Seq, String)> {
    let segments = folder.segments.iter();
    for segment in segments.filter(|segment| choice.wants_any_of(segment)) {
        let Ok(file) = segment.open(&folder.fs) else {
            // Deleted meanwhile by the process at work here: settled, then.
            continue;
        };
        for place in segment.index(&*file).places {
            let pending = choice.queue.map(|queue| queue.unsettled(&place));
            if !choice.range.holds(place.seq) || pending.is_some_and(|pending| pending.is_zero()) {
                continue;
            }
            let record = segment.read(&*file, &place);
            let (Some(told), Some(body)) = (record.told, record.body) else {
                let lost = pending.unwrap_or(place.admitted);
                done.damaged.push((place.seq, lost));
                continue;
            };
            let request = Request {
                place,
                told,
                body,
                pending,
            };
            let taken = target.take(&request);
            taken.map_err(|error| (place.seq, error))?;
            done.add(&request);
        }
    }
    target.end().map_err(|error| (folder.end().0, error))
}

impl Choice<'_> {
    fn wants_any_of(&self, segment: &SeenSegment) -> bool {
        let queue = self.queue.is_none_or(|queue| queue.wants_any_of(segment));
        queue && self.range.meets(segment)
    }
}

impl Exported {
    fn add(&mut self, request: &Request) {
        let admitted = request.place.admitted;
        self.records += 1;
        self.counts += admitted;
        self.bytes += request.body.len() as u64;
        let pending = request.pending.unwrap_or(admitted);
        self.settled += admitted.total() - pending.total();
    }
}

/// A folder of files: a body each, and an index.
pub(super) struct Files {
    folder: PathBuf,
    index: io::BufWriter<fs::File>,
}

/// A line of the index.
#[derive(Serialize)]
struct Line {
    file: String,
    sequence: u64,
    headers: Vec<(String, String)>,
    arrival: String,
    bytes: usize,
    #[serde(serialize_with = "show::counts")]
    counts: Counts,
    /// Ordinals of series that were refused by themselves: from, one past the last.
    skipped: Vec<(u32, u32)>,
    /// Elements that the queue has not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
}

impl Files {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// When it lies in the folder that is exported, or has an index already: nothing is ever overwritten.
    pub(super) fn create(out: &Path, exported: &Path) -> Result<Self, String> {
        let exported = exported.canonicalize();
        let exported = exported.map_err(|error| error.to_string())?;
        // The nearest folder above it that is there: nothing is made before this is known.
        let there = out.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            path.canonicalize().ok()
        });
        if there.is_some_and(|there| there.starts_with(&exported)) {
            return Err("it is in the folder that is exported".to_owned());
        }
        fs::create_dir_all(out).map_err(|error| error.to_string())?;
        let index = create(&out.join(INDEX))?;
        Ok(Self {
            folder: out.to_owned(),
            index: io::BufWriter::new(index),
        })
    }
}

fn create(path: &Path) -> Result<fs::File, String> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|error| format!("{}: {error}", path.display()))
}

impl Target for Files {
    fn take(&mut self, request: &Request) -> Result<(), String> {
        let name = request.file_name();
        let mut file = create(&self.folder.join(&name))?;
        let written = file.write_all(&request.body);
        written.map_err(|error| format!("{name}: {error}"))?;
        let line = Line {
            sequence: request.place.seq.0,
            headers: request.headers(),
            arrival: show::utc(request.place.arrival_ms),
            bytes: request.body.len(),
            counts: request.place.counts,
            skipped: request.told.skipped.iter().collect(),
            pending: request.pending.map(|pending| pending.total()),
            file: name,
        };
        let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
        let written = writeln!(self.index, "{text}");
        written.map_err(|error| format!("{INDEX}: {error}"))
    }

    /// When this returns all of it is on the disk.
    fn end(&mut self) -> Result<(), String> {
        let flushed = self.index.flush().map_err(|error| error.to_string());
        flushed?;
        let folder = fs::File::open(&self.folder).map_err(|error| error.to_string())?;
        rustix::fs::syncfs(&folder).map_err(|error| error.to_string())
    }
}
