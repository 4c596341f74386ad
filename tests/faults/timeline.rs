//! Holds the order of a process's system calls against what its answers claim. Pure: reads strace's text.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

/// Calls that the rules are about.
pub(crate) const CALLS: &str =
    "recvfrom,read,sendto,write,writev,sendmsg,pwrite64,pwritev,fdatasync,fsync";

/// One call. Begin and end are numbers of lines.
#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    begin: usize,
    end: usize,
    name: &'a str,
    /// File or socket, as strace shows it.
    about: &'a str,
    /// Arguments, as far as they are shown.
    text: &'a str,
    /// Result; -1 is an error.
    result: i64,
}

/// What a trace has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// 2xx answers to senders.
    pub(crate) answers: usize,
    /// Syncs in the folder that failed.
    pub(crate) failed_syncs: usize,
}

/// Checks the calls of a program with **one** sender, whose requests follow each other:
///
/// * before a 2xx to `data`, bytes as many as the body's were written to one file in `folder` since the 2xx
///   before, and a sync of that file began after the last of them and succeeded;
/// * a file whose sync failed is never synced again.
///
/// # Errors
/// What breaks a rule, with the lines.
pub(crate) fn check(trace: &str, data: SocketAddr, folder: &Path) -> Result<Shown, String> {
    let events = events(trace);
    let socket = format!("TCP:[{data}->");
    let folder = format!("{}/", folder.display());
    let mut shown = Shown::default();
    let mut distrusted = HashSet::new();
    let (mut body, mut last_answer) = (0, 0);
    for event in &events {
        if event.about.starts_with(&folder) && is_sync(event) {
            if distrusted.contains(event.about) {
                return Err(format!("synced again after a failed sync: {event:?}"));
            }
            if event.result < 0 {
                shown.failed_syncs += 1;
                distrusted.insert(event.about);
            }
        }
        if !event.about.starts_with(&socket) {
            continue;
        }
        if let Some(length) = content_length(event.text).filter(|_| is_read(event)) {
            body = length;
        }
        if event.text.contains("HTTP/1.1 2") && !is_read(event) {
            shown.answers += 1;
            let since = events
                .iter()
                .filter(|other| other.begin > last_answer && other.end < event.begin);
            let since: Vec<&Event<'_>> = since
                .filter(|other| other.about.starts_with(&folder))
                .collect();
            if !covered(&since, body) {
                return Err(format!(
                    "{body} bytes are answered before they are synced: {event:?}\n{since:#?}"
                ));
            }
            last_answer = event.end;
        }
    }
    Ok(shown)
}

/// Whether one file got so many bytes and was synced after the last of them.
fn covered(since: &[&Event<'_>], body: i64) -> bool {
    let files: HashSet<&str> = since.iter().map(|event| event.about).collect();
    files.iter().any(|file| {
        let writes = || {
            since
                .iter()
                .filter(|event| event.about == *file && is_write(event) && event.result > 0)
        };
        let bytes: i64 = writes().map(|event| event.result).sum();
        let last = writes().map(|event| event.end).max();
        let synced = |event: &&&Event<'_>| {
            event.about == *file && is_sync(event) && event.result == 0 && Some(event.begin) > last
        };
        body > 0 && bytes >= body && since.iter().any(|event| synced(&event))
    })
}

fn is_sync(event: &Event<'_>) -> bool {
    matches!(event.name, "fdatasync" | "fsync")
}

fn is_write(event: &Event<'_>) -> bool {
    matches!(event.name, "write" | "writev" | "pwrite64" | "pwritev")
}

fn is_read(event: &Event<'_>) -> bool {
    matches!(event.name, "read" | "recvfrom")
}

fn content_length(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.split_once("content-length: ")?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

/// The calls of a trace, in the order of their beginnings. A call that never returned is none.
fn events(trace: &str) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    let mut open: Vec<(&str, usize, &str)> = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            open.push((thread, number, begun));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let place = open.iter().position(|(other, ..)| *other == thread);
            let Some((_, first, begun)) = place.map(|place| open.remove(place)) else {
                continue;
            };
            // What a read got is shown only now.
            let text = if is_read_name(begun) { resumed } else { begun };
            events.extend(event(first, number, begun, text, resumed));
        } else {
            events.extend(event(number, number, rest, rest, rest));
        }
    }
    events.sort_by_key(|event| event.begin);
    events
}

fn is_read_name(text: &str) -> bool {
    text.starts_with("read(") || text.starts_with("recvfrom(")
}

fn event<'a>(
    begin: usize,
    end: usize,
    head: &'a str,
    text: &'a str,
    tail: &'a str,
) -> Option<Event<'a>> {
    let (name, arguments) = head.split_once('(')?;
    let (_, about) = arguments.split_once('<')?;
    // `7</path>` or `7<TCP:[a->b]>`: up to the bracket that closes it.
    let about = &about[..about.find([',', ')']).unwrap_or(about.len())];
    let about = about.trim_end().strip_suffix('>')?;
    let (_, result) = tail.rsplit_once(" = ")?;
    let result = result.split_whitespace().next()?.parse().ok()?;
    Some(Event {
        begin,
        end,
        name,
        about,
        text,
        result,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: &str = "7 recvfrom(9<TCP:[127.0.0.1:90->127.0.0.1:5]>, \"POST / HTTP/1.1\\r\\nContent-Length: 100\\r\\n\", 8192, 0, NULL, NULL) = 300";
    const WRITTEN: &str = "8 pwrite64(5</log/1.seg>, \"abc\"..., 140, 0) = 140";
    const SYNCED: &str = "8 fdatasync(5</log/1.seg>) = 0";
    const ANSWERED: &str = "7 writev(9<TCP:[127.0.0.1:90->127.0.0.1:5]>, [{iov_base=\"HTTP/1.1 204 No Content\\r\\n\", iov_len=9}], 1) = 9";
    const FAILED: &str = "8 fdatasync(5</log/1.seg>) = -1 EIO (Input/output error) (INJECTED)";

    fn of(lines: &[&str]) -> Result<Shown, String> {
        check(
            &lines.join("\n"),
            "127.0.0.1:90".parse().unwrap(),
            Path::new("/log"),
        )
    }

    #[test]
    fn an_answer_after_its_sync_is_truthful() {
        let good = [
            RECEIVED, WRITTEN, SYNCED, ANSWERED, RECEIVED, WRITTEN, SYNCED, ANSWERED,
        ];
        assert_eq!(of(&good).unwrap().answers, 2);
        let split = [
            RECEIVED,
            WRITTEN,
            "8 fdatasync(5</log/1.seg> <unfinished ...>",
            "7 read(3</etc/hosts>, \"\", 10) = 0",
            "8 <... fdatasync resumed>) = 0",
            ANSWERED,
        ];
        assert_eq!(of(&split).unwrap().answers, 1);
    }

    #[test]
    fn an_answer_without_its_own_sync_is_a_lie() {
        for lines in [
            vec![RECEIVED, ANSWERED],
            vec![RECEIVED, WRITTEN, ANSWERED, SYNCED],
            vec![RECEIVED, SYNCED, WRITTEN, ANSWERED],
            vec![RECEIVED, WRITTEN, SYNCED, ANSWERED, RECEIVED, ANSWERED],
            vec![RECEIVED, WRITTEN, FAILED, ANSWERED],
            vec![
                RECEIVED,
                WRITTEN,
                "8 fdatasync(6</log/journal>) = 0",
                ANSWERED,
            ],
            vec![
                RECEIVED,
                "8 pwrite64(5</log/1.seg>, \"\", 40, 0) = 40",
                SYNCED,
                ANSWERED,
            ],
            vec![
                RECEIVED,
                "8 fdatasync(5</log/1.seg> <unfinished ...>",
                WRITTEN,
                "8 <... fdatasync resumed>) = 0",
                ANSWERED,
            ],
        ] {
            assert!(of(&lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_file_whose_sync_failed_is_never_synced_again() {
        let other = WRITTEN.replace("1.seg", "2.seg");
        let other_synced = SYNCED.replace("1.seg", "2.seg");
        let rewritten = [RECEIVED, WRITTEN, FAILED, &other, &other_synced, ANSWERED];
        assert_eq!(
            of(&rewritten).unwrap(),
            Shown {
                answers: 1,
                failed_syncs: 1
            }
        );
        assert!(of(&[RECEIVED, WRITTEN, FAILED, SYNCED, ANSWERED]).is_err());
    }
}
