//! One look over a message before rows are made of it: how much does it hold, and is that within the
//! limits?
//!
//! A flood of empty elements is two bytes an element on the wire and forty times that in rows. The look
//! allocates nothing, and goes on where it stopped when more of the message is there, so a flood is
//! refused for the price of the bytes that came before the limit was crossed.

use super::decoded::{Protocol, SYMBOLS_MAX, WalkLimits};
use super::error::DecodeError;
use super::proto::{Fields, PAST_THE_END, Skim};

/// A key and a length take at most this: with more bytes at hand a field that does not read is broken.
const HEAD_MAX: usize = 20;
/// A varint's most bytes: a packed list of n bytes has at least n / 10 items.
const VARINT_MAX: usize = 10;

/// What a message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) series: usize,
    pub(super) samples: usize,
    pub(super) histograms: usize,
    pub(super) exemplars: usize,
    pub(super) symbols: usize,
    pub(super) metadata: usize,
}

/// A message that is being looked at, the request or one within it.
#[derive(Clone, Copy)]
struct Level {
    end: usize,
    /// Labels (1.0) or label references (2.0) in it so far.
    labels: usize,
}

/// The request, a series in it, an exemplar in that.
const REQUEST: usize = 0;
const SERIES: usize = 1;
const EXEMPLAR: usize = 2;

/// The look, and how far it has come.
pub(super) struct Shape<'l> {
    pub(super) protocol: Protocol,
    limits: &'l WalkLimits,
    /// Next byte to look at; past what is there while a field is skipped.
    at: usize,
    levels: [Level; 3],
    level: usize,
    pub(super) held: Held,
}

impl<'l> Shape<'l> {
    pub(super) fn new(protocol: Protocol, limits: &'l WalkLimits) -> Self {
        let whole = Level {
            end: usize::MAX,
            labels: 0,
        };
        Self {
            protocol,
            limits,
            at: 0,
            levels: [whole; 3],
            level: REQUEST,
            held: Held::default(),
        }
    }

    /// Can a message of this length hold more than a limit allows? An element takes two bytes or more.
    pub(super) fn concerns(&self, len: usize) -> bool {
        let limits = self.limits;
        len / 2 > limits.series.min(limits.elements).min(SYMBOLS_MAX)
    }

    /// Looks at what `prefix` has beyond what was looked at before.
    ///
    /// # Errors
    /// When a limit is crossed, or the bytes are broken. What is cut off at the end of `prefix` is no
    /// error: if the message ends there too, the walk finds it.
    pub(super) fn look(&mut self, prefix: &[u8]) -> Result<(), DecodeError> {
        loop {
            while self.level > REQUEST && self.at >= self.levels[self.level].end {
                self.level -= 1;
            }
            if self.at >= prefix.len() || !self.field(prefix)? {
                return Ok(());
            }
        }
    }

    /// Looks at one field. `false`: it is cut off, more of it has to be there.
    #[inline]
    fn field(&mut self, prefix: &[u8]) -> Result<bool, DecodeError> {
        let (at, parent) = (self.at, self.levels[self.level].end);
        let bytes = &prefix[..parent.min(prefix.len())];
        // Nearly all fields have a key and a length of one byte.
        let (number, skim, from) = match bytes[at..] {
            [key @ 8..0x80, len @ 0..0x80, ..] if key & 7 == 2 => {
                (u32::from(key >> 3), Skim::Bytes(usize::from(len)), at + 2)
            }
            _ => match self.long_head(bytes)? {
                Some(head) => head,
                None => return Ok(false),
            },
        };
        let Skim::Bytes(len) = skim else {
            self.at = from;
            if number == 1 && skim == Skim::Varint && self.protocol == Protocol::V2 {
                self.labels(1)?;
            }
            return Ok(true);
        };
        let end = from.checked_add(len).filter(|end| *end <= parent);
        let end = end.ok_or(PAST_THE_END)?;
        self.at = end;
        if self.level == REQUEST || number != 1 {
            self.element(number, from, end)?;
        } else if self.protocol == Protocol::V1 {
            self.labels(1)?;
        } else if let Some(packed) = bytes.get(from..end) {
            self.labels(packed.iter().filter(|byte| **byte < 0x80).count())?;
        } else if len / VARINT_MAX > 2 * self.limits.labels {
            return Err(DecodeError::LabelCount(self.limits.labels));
        } else {
            // Packed references are counted once they are all there.
            self.at = at;
            return Ok(false);
        }
        Ok(true)
    }

    /// A field's number, what it is, and where its content begins; `None` when it is cut off.
    fn long_head(&self, bytes: &[u8]) -> Result<Option<(u32, Skim, usize)>, DecodeError> {
        let mut fields = Fields::starting(bytes, self.at);
        let error = match fields.skim() {
            Ok((number, skim)) => return Ok(Some((number, skim, fields.position()))),
            Err(error) => error,
        };
        let rest = &bytes[self.at..];
        let is_group = Fields::new(rest).key().is_ok_and(|key| key.1 == 3);
        let is_whole = bytes.len() == self.levels[self.level].end;
        let is_broken = is_whole || rest.len() >= HEAD_MAX && !is_group;
        if is_broken || error == DecodeError::ProtobufDepth {
            Err(error)
        } else {
            Ok(None)
        }
    }

    /// Counts a field with content, and goes into it where elements or labels may be inside.
    #[inline]
    fn element(&mut self, number: u32, from: usize, end: usize) -> Result<(), DecodeError> {
        match (self.level, self.protocol, number) {
            (REQUEST, Protocol::V1, 1) | (REQUEST, Protocol::V2, 5) => {
                self.held.series += 1;
                self.enter(SERIES, from, end);
            }
            (REQUEST, Protocol::V1, 3) => self.held.metadata += 1,
            (REQUEST, Protocol::V2, 4) => self.held.symbols += 1,
            (SERIES, _, 2) => self.held.samples += 1,
            (SERIES, Protocol::V1, 3) | (SERIES, Protocol::V2, 4) => {
                self.held.exemplars += 1;
                self.enter(EXEMPLAR, from, end);
            }
            (SERIES, Protocol::V1, 4) | (SERIES, Protocol::V2, 3) => self.held.histograms += 1,
            _ => {}
        }
        let (held, limits) = (&self.held, self.limits);
        if held.series > limits.series {
            return Err(DecodeError::SeriesCount(limits.series));
        }
        let elements = held.samples + held.histograms + held.exemplars;
        if elements.max(held.metadata) > limits.elements {
            return Err(DecodeError::ElementCount(limits.elements));
        }
        if held.symbols > SYMBOLS_MAX {
            return Err(DecodeError::Symbols("too many"));
        }
        Ok(())
    }

    fn enter(&mut self, level: usize, from: usize, end: usize) {
        (self.at, self.level) = (from, level);
        self.levels[level] = Level { end, labels: 0 };
    }

    /// That many more labels (1.0) or references (2.0) of a series or exemplar.
    #[inline]
    fn labels(&mut self, count: usize) -> Result<(), DecodeError> {
        let most = self.limits.labels;
        let each = if self.protocol == Protocol::V1 { 1 } else { 2 };
        let level = &mut self.levels[self.level];
        level.labels += count;
        if level.labels > each * most && self.level > REQUEST {
            return Err(DecodeError::LabelCount(most));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::put_bytes;

    const LIMITS: WalkLimits = WalkLimits {
        series: 10,
        elements: 20,
        labels: 4,
        label_bytes: 100,
        expanded_bytes: 1000,
    };

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, content);
        out
    }

    /// The look in one go, and in steps of every size, must say the same.
    fn look(protocol: Protocol, message: &[u8]) -> Result<Held, DecodeError> {
        let mut shape = Shape::new(protocol, &LIMITS);
        let whole = shape.look(message).map(|()| shape.held);
        for step in [1, 2, 3, 7, 50] {
            let mut shape = Shape::new(protocol, &LIMITS);
            let mut to = 0;
            let mut seen = Ok(());
            while seen.is_ok() && to < message.len() {
                to = (to + step).min(message.len());
                seen = shape.look(&message[..to]);
            }
            assert_eq!(seen.map(|()| shape.held), whole, "steps of {step}");
        }
        whole
    }

    #[test]
    fn elements_are_counted_wherever_a_step_ends() {
        let series = [
            field(1, b"\x0a\x01a"),
            field(2, &[]),
            field(3, &field(1, &[])),
            field(4, &[]),
        ]
        .concat();
        let group = [0x33, 0x08, 1, 0x34];
        let v1 = [
            field(1, &series),
            group.to_vec(),
            field(3, b""),
            field(1, &[]),
        ]
        .concat();
        let held = look(Protocol::V1, &v1).unwrap();
        let expected = Held {
            series: 2,
            samples: 1,
            histograms: 1,
            exemplars: 1,
            symbols: 0,
            metadata: 1,
        };
        assert_eq!(held, expected);
        let series = [
            field(1, &[0, 1, 0x80, 0x01]),
            vec![0x08, 3],
            field(2, &[]),
            field(4, &field(1, &[1, 2])),
            field(3, &[]),
        ]
        .concat();
        let v2 = [field(5, &series), field(4, b"")].concat();
        let held = look(Protocol::V2, &v2).unwrap();
        let expected = Held {
            series: 1,
            symbols: 1,
            metadata: 0,
            ..expected
        };
        assert_eq!(held, expected);
    }

    #[test]
    fn each_limit_is_met_exactly() {
        use Protocol::{V1, V2};
        let many = |number: u8, n: usize| field(number, &[]).repeat(n);
        let series = DecodeError::SeriesCount(10);
        let elements = DecodeError::ElementCount(20);
        let labels = DecodeError::LabelCount(4);
        for (protocol, number, most, refused) in [
            (V1, 1, 10, &series),
            (V2, 5, 10, &series),
            (V1, 3, 20, &elements),
        ] {
            assert!(look(protocol, &many(number, most)).is_ok());
            let seen = look(protocol, &many(number, most + 1));
            assert_eq!(seen.as_ref(), Err(refused), "field {number}");
        }
        for (protocol, number, most, refused) in [
            (V1, 1, 4, &labels),
            (V1, 2, 20, &elements),
            (V1, 3, 20, &elements),
            (V2, 2, 20, &elements),
            (V2, 3, 20, &elements),
        ] {
            let outer = if protocol == V1 { 1 } else { 5 };
            assert!(look(protocol, &field(outer, &many(number, most))).is_ok());
            let seen = look(protocol, &field(outer, &many(number, most + 1)));
            assert_eq!(seen.as_ref(), Err(refused), "inner field {number}");
        }
        for refs in [field(1, &[0; 9]), [0x08, 0].repeat(9)] {
            let seen = look(V2, &field(5, &refs));
            assert_eq!(seen.as_ref(), Err(&labels));
            let seen = look(V2, &field(5, &field(4, &refs)));
            assert_eq!(seen.as_ref(), Err(&labels), "in an exemplar");
        }
        let seen = look(V1, &field(1, &field(3, &many(1, 5))));
        assert_eq!(seen.as_ref(), Err(&labels), "in an exemplar");
    }

    #[test]
    fn broken_bytes_are_refused_and_cut_off_ones_waited_for() {
        let series = field(1, &field(2, &[0x09, 0, 0, 0, 0, 0, 0, 0, 0]));
        for cut in 0..series.len() {
            assert!(look(Protocol::V1, &series[..cut]).is_ok());
        }
        assert!(
            look(Protocol::V1, &field(1, &[0x12, 5])).is_err(),
            "past its series"
        );
        assert!(look(Protocol::V1, &[0x0e; 30]).is_err(), "wire type 6");
        assert!(look(Protocol::V1, &[0x0b; 40]).is_err(), "groups too deep");
        assert!(look(Protocol::V1, &[0x0b; 20]).is_ok(), "an open group");
    }
}
