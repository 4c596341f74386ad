//! Where each request of a connection begins and ends. Pure.
//!
//! The HTTP parser behind this mends what RFC 9112 lets a server mend: it drops a `Content-Length` that
//! stands beside a `Transfer-Encoding`, one that is there twice, and takes a bare line feed for the end of a
//! line. A proxy before us may read the same bytes in another way; then a part of one sender's body is a
//! request to us. So heads are read here as well, by rules that leave one reading only.
//!
//! After a chunked request, and after one that is refused here, nothing of the connection is read as a
//! request any more: no mistake about a body's end can become a second request.

use std::collections::VecDeque;

/// Bytes of a line that are kept: more than any header that says how long a body is.
const LINE: usize = 256;

/// What the head of a request says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Its end is known: another request may follow.
    Sized,
    /// It comes in chunks: the connection ends with it.
    Chunked,
    /// It can be read in more than one way, and how.
    Ambiguous(&'static str),
}

#[derive(Debug)]
enum At {
    Head,
    /// So many bytes of a body are still to come.
    Body(u64),
    /// Nothing is looked at any more.
    Last,
}

/// The heads of a connection's requests, in order.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    /// The beginning of the line that is coming.
    line: Vec<u8>,
    /// How long it is so far.
    line_len: usize,
    /// Its last byte.
    last: u8,
    head: Lines,
    heads: VecDeque<Head>,
}

/// What the lines of a head have said so far.
#[derive(Debug, Default)]
struct Lines {
    request: bool,
    length: Option<u64>,
    chunked: bool,
    why: Option<&'static str>,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            at: At::Head,
            line: Vec::new(),
            line_len: 0,
            last: 0,
            head: Lines::default(),
            heads: VecDeque::new(),
        }
    }

    /// Goes over what was received.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Last => return,
                At::Body(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |n| n.min(bytes.len()));
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    if *left == 0 {
                        self.at = At::Head;
                    }
                }
                At::Head => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    let kept = LINE.saturating_sub(self.line.len()).min(line.len());
                    self.line.extend_from_slice(&line[..kept]);
                    self.line_len += line.len();
                    self.last = line.last().copied().unwrap_or(self.last);
                    bytes = rest;
                    if end.is_some() {
                        bytes = &rest[1..];
                        self.line_ended();
                    }
                }
            }
        }
    }

    /// The next request's head; `None` when none was read here.
    pub(super) fn next(&mut self) -> Option<Head> {
        self.heads.pop_front()
    }

    /// A head has begun and is not complete.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(self.at, At::Head) && (self.head.request || self.line_len > 0)
    }

    fn line_ended(&mut self) {
        if self.last == b'\r' && self.line_len <= self.line.len() {
            self.line.pop();
        }
        let whole = self.line_len <= LINE;
        if self.last != b'\r' {
            self.head.why = Some("a line ends in a bare line feed");
        }
        let empty = self.line_len == usize::from(self.last == b'\r');
        if empty && self.head.request {
            self.head_ended();
        } else if self.head.request {
            self.head.header(&self.line, whole);
        } else if !empty {
            self.head.request = true;
        }
        self.line.clear();
        (self.line_len, self.last) = (0, 0);
    }

    fn head_ended(&mut self) {
        let Lines {
            length,
            chunked,
            why,
            ..
        } = std::mem::take(&mut self.head);
        let why = why.or((chunked && length.is_some())
            .then_some("Content-Length and Transfer-Encoding stand there together"));
        let (head, at) = match (why, chunked) {
            (Some(why), _) => (Head::Ambiguous(why), At::Last),
            (None, true) => (Head::Chunked, At::Last),
            (None, false) => match length.unwrap_or(0) {
                0 => (Head::Sized, At::Head),
                left => (Head::Sized, At::Body(left)),
            },
        };
        (self.at, self.line) = (at, Vec::new());
        self.heads.push_back(head);
    }
}

impl Lines {
    fn header(&mut self, line: &[u8], whole: bool) {
        if let Err(why) = self.judge(line, whole) {
            self.why = self.why.or(Some(why));
        }
    }

    fn judge(&mut self, line: &[u8], whole: bool) -> Result<(), &'static str> {
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            return Err("a header goes on in a second line");
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let value = line.get(name.len() + 1..).unwrap_or_default().trim_ascii();
        let is = |known: &[u8]| name.trim_ascii().eq_ignore_ascii_case(known);
        if is(b"content-length") {
            if !whole || name.len() != "content-length".len() {
                return Err("Content-Length is no number");
            }
            if self.length.is_some() {
                return Err("Content-Length stands there twice");
            }
            self.length = Some(number(value).ok_or("Content-Length is no number")?);
        } else if is(b"transfer-encoding") {
            let chunked = whole && value.eq_ignore_ascii_case(b"chunked");
            if !chunked || self.chunked {
                return Err("Transfer-Encoding is not chunked, once");
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// Digits, and no zero before them: some would read that as octal.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !digits || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in these bytes, whatever pieces they come in.
    fn heads(bytes: &[u8]) -> Vec<Head> {
        let whole = in_pieces(bytes, bytes.len());
        for piece in [1, 2, 3, 7] {
            assert_eq!(in_pieces(bytes, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn in_pieces(bytes: &[u8], size: usize) -> Vec<Head> {
        let mut framing = Framing::new();
        bytes.chunks(size).for_each(|piece| framing.read(piece));
        std::iter::from_fn(|| framing.next()).collect()
    }

    fn ambiguous(head: &[u8]) -> &'static str {
        match heads(head)[..] {
            [Head::Ambiguous(why)] => why,
            ref other => panic!("{other:?}: {:?}", String::from_utf8_lossy(head)),
        }
    }

    #[test]
    fn requests_follow_each_other_where_their_bodies_end() {
        let two = b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nPOST \r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(heads(two), [Head::Sized, Head::Sized]);
        // An empty line before a request is skipped, a body is not looked into.
        let hidden =
            b"\r\nPOST / HTTP/1.1\r\ncontent-length:28\r\n\r\nGET /evil HTTP/1.1\r\nA: b\r\n\r\n";
        assert_eq!(heads(hidden), [Head::Sized]);
        let long = [
            b"GET /".as_slice(),
            &[b'x'; 5000],
            b" HTTP/1.1\r\nX: ",
            &[b'y'; 5000],
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ];
        assert_eq!(heads(&long.concat()), [Head::Sized, Head::Sized]);
    }

    #[test]
    fn nothing_is_a_request_after_a_chunked_or_an_ambiguous_one() {
        let chunked =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(heads(chunked), [Head::Chunked]);
        let both = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert!(ambiguous(both).contains("together"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_ambiguous() {
        for (headers, says) in [
            (
                "Transfer-Encoding: chunked\r\ncontent-length: 4",
                "together",
            ),
            ("Content-Length: 4\r\nContent-Length: 4", "twice"),
            ("Content-Length: 4\r\nContent-Length: 5", "twice"),
            ("Content-Length: 4, 4", "no number"),
            ("Content-Length: +4", "no number"),
            ("Content-Length: -4", "no number"),
            ("Content-Length: 04", "no number"),
            ("Content-Length: 0x4", "no number"),
            ("Content-Length: 4 4", "no number"),
            ("Content-Length:", "no number"),
            ("Content-Length: 18446744073709551616", "no number"),
            ("Content-Length : 4", "no number"),
            ("Transfer-Encoding: xchunked", "not chunked"),
            ("Transfer-Encoding: gzip, chunked", "not chunked"),
            ("Transfer-Encoding: chunked, identity", "not chunked"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "not chunked",
            ),
            ("Transfer-Encoding: \x0bchunked", "not chunked"),
            ("X: a\r\n Content-Length: 4", "second line"),
            ("X: a\nContent-Length: 4", "bare line feed"),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
            let why = ambiguous(head.as_bytes());
            assert!(why.contains(says), "{headers:?}: {why}");
        }
        assert!(ambiguous(b"GET / HTTP/1.1\n\n").contains("bare line feed"));
        let digits = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}1\r\n\r\n",
            " ".repeat(500)
        );
        assert!(ambiguous(digits.as_bytes()).contains("no number"));
    }

    #[test]
    fn half_a_head_is_known_as_such() {
        let mut framing = Framing::new();
        assert!(!framing.is_within_head());
        framing.read(b"PO");
        assert!(framing.is_within_head());
        framing.read(b"ST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n");
        assert!(!framing.is_within_head(), "within a body");
        framing.read(b"abG");
        assert!(framing.is_within_head());
    }
}
