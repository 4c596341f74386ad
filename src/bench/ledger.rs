//! Ledgers as files: what a load or a sink knows at its end, for `bench compare`.
//!
//! Both are lines of JSON. The first says what the file is and has what concerns all of it; each further line
//! is one series; the last one counts those lines, so that a file that was cut off is noticed. A file is
//! written whole at the end of a run: a generator or receiver that is killed leaves an empty one.

use std::io::{self, BufRead, Lines, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Of the format of both files.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head<H> {
    /// Which of the two files.
    ledger: String,
    version: u32,
    #[serde(flatten)]
    head: H,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foot {
    lines: u64,
}

/// Writes a ledger's lines.
pub(super) struct LedgerWriter<W> {
    out: W,
    lines: u64,
}

impl<W: Write> LedgerWriter<W> {
    /// Writes the first line.
    pub(super) fn begin(out: W, kind: &str, head: &impl Serialize) -> io::Result<Self> {
        let mut writer = Self { out, lines: 0 };
        let head = Head {
            ledger: kind.to_owned(),
            version: VERSION,
            head,
        };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Writes a series.
    pub(super) fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.lines += 1;
        self.put(line)
    }

    /// Writes the last line.
    pub(super) fn end(mut self) -> io::Result<()> {
        let lines = self.lines;
        self.put(&Foot { lines })?;
        self.out.flush()
    }

    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads a ledger's lines.
pub(super) struct LedgerReader<R> {
    lines: Lines<R>,
    read: u64,
}

impl<R: BufRead> LedgerReader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is another file, or of another version.
    pub(super) fn begin<H: DeserializeOwned>(input: R, kind: &str) -> io::Result<(Self, H)> {
        let mut reader = Self {
            lines: input.lines(),
            read: 0,
        };
        let first = reader.lines.next().transpose()?;
        let first = first.ok_or_else(|| invalid("the file is empty: was its run killed?"))?;
        let head: Head<serde_json::Value> = serde_json::from_str(&first)
            .map_err(|error| invalid(format!("line 1: not a ledger: {error}")))?;
        if head.ledger != kind {
            return Err(invalid(format!(
                "a ledger of {:?}, not of {kind:?}",
                head.ledger
            )));
        }
        if head.version != VERSION {
            let version = head.version;
            return Err(invalid(format!(
                "version {version} of the format; this program knows {VERSION}"
            )));
        }
        let head = serde_json::from_value(head.head).map_err(|error| reader.refuse(&error))?;
        Ok((reader, head))
    }

    /// The next series; `None` after the last one.
    ///
    /// # Errors
    /// A line that is none of this file, or the end is missing.
    pub(super) fn line<L: DeserializeOwned>(&mut self) -> io::Result<Option<L>> {
        let line = self.lines.next().transpose()?;
        let line = line.ok_or_else(|| invalid("the file was cut off: its last line is missing"))?;
        if let Ok(foot) = serde_json::from_str::<Foot>(&line) {
            return if foot.lines == self.read {
                Ok(None)
            } else {
                let (said, read) = (foot.lines, self.read);
                Err(invalid(format!(
                    "{said} series were written, {read} are there"
                )))
            };
        }
        self.read += 1;
        serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| self.refuse(&error))
    }

    /// The last line read is not what it should be.
    pub(super) fn refuse(&self, why: &impl ToString) -> io::Error {
        invalid(format!("line {}: {}", self.read + 1, why.to_string()))
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer =
            LedgerWriter::begin(&mut bytes, "test", &serde_json::json!({"seed": 3})).unwrap();
        for line in ["a", "b"] {
            writer.line(&line).unwrap();
        }
        writer.end().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<String>> {
        let (mut reader, head) = LedgerReader::begin::<serde_json::Value>(bytes, "test")?;
        assert_eq!(head["seed"], 3);
        let mut lines = Vec::new();
        while let Some(line) = reader.line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        assert_eq!(read(&written()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_whole_ledger_is_refused_with_the_reason() {
        let whole = String::from_utf8(written()).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        for (text, told) in [
            (String::new(), "empty"),
            ("{}".to_owned(), "line 1"),
            (whole.replace("\"test\"", "\"other\""), "\"other\""),
            (whole.replace("\"version\":1", "\"version\":2"), "version 2"),
            (lines[..2].join("\n"), "cut off"),
            ([lines[0], lines[1], lines[3]].join("\n"), "2 series"),
            (whole.replace("\"b\"", "7"), "line 3"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(told), "{error} for {text:?}");
        }
    }
}
