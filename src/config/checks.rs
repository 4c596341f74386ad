//! Small judgements, each about one value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::choice::Choice;
use super::problem::{Located, Problems, Source};

/// Where judgements are collected.
pub(super) struct Judge {
    pub(super) problems: Problems,
    pub(super) warnings: Vec<String>,
    /// What relative paths in the file start at.
    pub(super) directory: PathBuf,
}

impl Judge {
    /// The given value, or the default; the default as well when what was given is out of range.
    pub(super) fn range<T: PartialOrd + Display + Copy>(
        &mut self,
        given: Option<&Located<T>>,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let Some(Located { value, source }) = given else {
            return default;
        };
        if range.contains(value) {
            return *value;
        }
        let reason = format!("must be between {} and {}", range.start(), range.end());
        self.problems.refuse(source, value, reason);
        default
    }

    /// [`Self::range`] for a count.
    pub(super) fn count(
        &mut self,
        given: Option<&Located<u64>>,
        default: usize,
        range: RangeInclusive<u64>,
    ) -> usize {
        let value = self.range(given, default as u64, range);
        usize::try_from(value).unwrap_or(usize::MAX)
    }

    /// One word out of a few.
    pub(super) fn word<C: Choice>(&mut self, given: Option<&Located<String>>, default: C) -> C {
        let Some(Located { value, source }) = given else {
            return default;
        };
        C::parse(value).unwrap_or_else(|reason| {
            self.problems.refuse(source, value, reason);
            default
        })
    }

    /// A key that Prometheus has, and that has one value only here.
    pub(super) fn must_be<T: PartialEq + Display + Copy>(
        &mut self,
        given: Option<&Located<T>>,
        only: T,
        why: &str,
    ) {
        if let Some(Located { value, source }) = given
            && *value != only
        {
            self.problems
                .refuse(source, value, format!("must be {only}: {why}"));
        }
    }

    /// A list of texts that are good, there once, and not too many.
    pub(super) fn list(
        &mut self,
        given: Option<&Located<Vec<Located<String>>>>,
        default: Vec<String>,
        most: usize,
        judge: fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let Some(Located {
            value: items,
            source,
        }) = given
        else {
            return default;
        };
        if items.len() > most {
            self.problems
                .note(source, format!("{} entries; at most {most}", items.len()));
        }
        let mut list: Vec<String> = Vec::new();
        for Located { value, source } in items.iter().take(most) {
            if let Err(reason) = judge(value) {
                self.problems.refuse(source, value, reason);
            } else if list.iter().any(|other| other.eq_ignore_ascii_case(value)) {
                self.problems.refuse(source, value, "is there twice");
            } else {
                list.push(value.clone());
            }
        }
        list
    }

    /// A path as the process finds it. Says so when there is nothing, which may change: secrets
    /// are often mounted later.
    pub(super) fn path(&mut self, given: &Located<PathBuf>) -> PathBuf {
        let path = self.directory.join(&given.value);
        if let Err(error) = std::fs::metadata(&path) {
            let key = &given.source.key;
            self.warnings.push(format!(
                "{key}: {}: cannot be read now: {error}",
                path.display()
            ));
        }
        path
    }
}

/// A byte of a queue's name.
pub(super) fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A queue's name; it becomes a label value, and later the name of a folder.
pub(super) fn name(text: &str) -> Result<(), String> {
    if (1..=64).contains(&text.len()) && text.bytes().all(in_name) {
        return Ok(());
    }
    Err("must be 1 to 64 letters, digits, _ or -".to_owned())
}

/// A label that divides series. Any UTF-8, since Prometheus 3.
pub(super) fn label(text: &str) -> Result<(), String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        "__name__" => Err("would set every metric apart".to_owned()),
        _ if text.len() > 256 => Err("must have at most 256 bytes".to_owned()),
        _ => Ok(()),
    }
}

/// Value of `job` with a star at its ends.
pub(super) fn job_pattern(text: &str) -> Result<(), String> {
    let inner = text.strip_prefix('*').unwrap_or(text);
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if inner.contains('*') {
        Err("a * can only be the first or the last character".to_owned())
    } else {
        Ok(())
    }
}

/// What the protocol and the connection set themselves.
///
/// Source: prometheus `config.go`, `reservedHeaders`; the second group is HTTP/1.1's and ours.
const RESERVED: [&str; 24] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    // Of the connection.
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "proxy-connection",
    // Of the sender's retries.
    "retry-attempt",
    "retry-after",
];

/// The name of a header that may be chosen freely.
pub(super) fn header_name(text: &str) -> Result<(), String> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err("must be a valid header name".to_owned());
    };
    if name == "authorization" {
        let text =
            "authorization header must be changed via the basic_auth or authorization parameter";
        return Err(text.to_owned());
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "{text} is a reserved header. It must not be changed"
        ));
    }
    Ok(())
}

/// The value of a header. The reason never shows it.
pub(super) fn header_value(text: &str) -> Result<(), String> {
    const MOST: usize = 8 << 10;
    if text.len() > MOST {
        return Err(format!("must have at most {MOST} bytes"));
    }
    let valid = HeaderValue::from_str(text).is_ok() && text.is_ascii();
    valid
        .then_some(())
        .ok_or_else(|| "must be visible ASCII, on one line".to_owned())
}

/// An absolute URL with one of these schemes, nothing secret before its host.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<Uri, String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) || !text.is_ascii() {
        return Err("must be visible ASCII without blanks".to_owned());
    }
    let uri: Uri = text
        .parse()
        .map_err(|_| "must be an absolute URL".to_owned())?;
    if !uri
        .scheme_str()
        .is_some_and(|scheme| schemes.contains(&scheme))
    {
        let schemes: Vec<_> = schemes
            .iter()
            .map(|scheme| format!("{scheme}://"))
            .collect();
        return Err(format!("must begin with {}", schemes.join(" or ")));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("must not hold user and password".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("has no host".to_owned());
    }
    if text.contains('#') {
        return Err("must not have a fragment (#)".to_owned());
    }
    Ok(uri)
}

/// As much of a URL as may be shown: a user's password or a key in the query may be in it.
pub(super) fn shown(url: &str) -> &str {
    if url.contains('@') {
        return "(hidden)";
    }
    url.split(['?', '#']).next().unwrap_or(url)
}

/// What relative paths in a file start at.
pub(super) fn directory_of(file: &Path) -> PathBuf {
    file.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The source of the first value that was given, to pin a problem between two of them on.
pub(super) fn blame<'a>(candidates: &[Option<&'a Source>], otherwise: &'a Source) -> &'a Source {
    candidates
        .iter()
        .flatten()
        .next()
        .copied()
        .unwrap_or(otherwise)
}
