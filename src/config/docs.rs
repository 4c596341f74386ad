//! `docs/config.md`, from the tables that the parser itself uses.

use std::fmt::Write;

use super::choice::Choice;
use super::keys::{Key, SectionDoc};
use super::preset::Preset;
use super::raw::SECTIONS;

const HEAD: &str = "\
# Configuration

<!-- Generated from src/config/raw.rs. To write it again: SLUICEGATE_BLESS=1 cargo test --lib config -->

`sluicegate run` takes flags, environment variables and a YAML file (`--config.file`). What is said
twice is decided in this order: flag, environment, file, preset, default. A flag for something that
every queue has overrides it in every queue.

* Keys of `remote_write` are Prometheus' own: an entry can be copied from `prometheus.yml`. A key
  that is unknown, or that Prometheus has and Sluicegate has not yet, is an error that names it and
  its line. Where the default differs from Prometheus', it says so.
* Durations are written as in Prometheus (`30ms`, `5s`, `1h30m`), sizes as `64KiB`, `32MiB`, `1GB` or
  plain bytes.
* Environment variables are named after the flag: `--storage.path` is `SLUICEGATE_STORAGE_PATH`.
* Nothing in the file is replaced by environment variables. Secrets belong in files
  (`credentials_file`, `password_file`), which are read again when they change.
* The file has at most 1 MiB and one document.
* `sluicegate check FILE` lists every problem and exits 0 or 1. `sluicegate run` exits 78 when the
  configuration makes no sense, 64 when the command line cannot be read.
* With `--config.on-error stay` a configuration that makes no sense, or cannot be started with, ends nothing. The process
  runs with the last good one: a start that works with a log on disk keeps its file there as `config.last-good.yaml`
  (readable to its user only: it may hold passwords). Where there is none, it answers senders 503 with `Retry-After`, and
  they keep what they have. Probes say 200; log, page and `sluicegate_config_last_load_successful` say what is wrong. The
  file is looked at every five seconds, and taken when it has said the same twice and has no problems; the process stops
  for that and starts again by itself, which costs senders a second or two of 503. With the last good one and `ack:
  memory` it waits for you to restart it instead, because a stop may lose what is acknowledged from memory. What failed
  for another reason than the file (an address or a folder in use) is tried again after 30 s, but not while the last good
  one runs.
  Give addresses and `storage.path` as flags then: a file that cannot be parsed tells neither. Flags are not kept; a
  command line that cannot be read still ends with 64, and an address that cannot be had in standby with 1. A file that is
  broken *while* the process runs well is not noticed before the next start. `log` is as at the first start.

Without a file, `--upstream [NAME=]URL` makes one queue each, with a full copy of the data:
`sluicegate run --upstream discard:` sends nothing, and measures for ten minutes what sending would come to
([the shadow report](api.md#the-shadow-report)). `--upstream` and a file with `remote_write` exclude each other.
";

/// The whole page.
pub fn render() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        render_section(&mut page, section);
    }
    render_presets(&mut page);
    page
}

fn render_section(page: &mut String, section: &SectionDoc) {
    let title = match section.path {
        "" => "Top level".to_owned(),
        path => format!("`{path}`"),
    };
    let about = paragraph(section.text);
    line(page, &format!("\n## {title}\n\n{about}\n"));
    line(page, "| key | default | flag | meaning |");
    line(page, "|---|---|---|---|");
    for Key {
        name,
        default,
        flag,
        text,
    } in section.keys
    {
        let (default, flag) = (code(default), code(flag));
        line(
            page,
            &format!("| `{name}` | {default} | {flag} | {} |", paragraph(text)),
        );
    }
}

fn render_presets(page: &mut String) {
    line(page, "\n## Presets\n");
    line(
        page,
        "| `preset` | `capacity` | `max_samples_per_send` | `min_shards` | `max_shards` |",
    );
    line(page, "|---|---|---|---|---|");
    for (name, preset) in Preset::WORDS {
        let limits = preset.limits();
        let (capacity, batch) = (limits.capacity, limits.max_samples_per_send);
        let (least, most) = (limits.min_shards, limits.max_shards);
        line(
            page,
            &format!("| `{name}` | {capacity} | {batch} | {least} | {most} |"),
        );
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes everything");
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

/// Doc comment lines as one paragraph.
fn paragraph(lines: &[&str]) -> String {
    let words: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    words.join(" ")
}
