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

/// A message within a message that is being looked at.
#[derive(Clone, Copy)]
struct Inner {
    end: usize,
    /// Labels (1.0) or label references (2.0) in it so far.
    labels: usize,
}

/// The look, and how far it has come.
pub(super) struct Shape<'l> {
    pub(super) protocol: Protocol,
    limits: &'l WalkLimits,
    /// Next byte to look at; past what is there while a field is skipped.
    at: usize,
    series: Option<Inner>,
    exemplar: Option<Inner>,
    pub(super) held: Held,
}

impl<'l> Shape<'l> {
    pub(super) fn new(protocol: Protocol, limits: &'l WalkLimits) -> Self {
        Self {
            protocol,
            limits,
            at: 0,
            series: None,
            exemplar: None,
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
            let at = self.at;
            self.exemplar = self.exemplar.filter(|inner| at < inner.end);
            self.series = self.series.filter(|inner| at < inner.end);
            if at >= prefix.len() {
                return Ok(());
            }
            let parent = self.exemplar.or(self.series).map(|inner| inner.end);
            let known = parent.filter(|end| *end <= prefix.len());
            let bytes = &prefix[..known.unwrap_or(prefix.len())];
            let mut fields = Fields::starting(bytes, at);
            let (number, skim) = match fields.skim() {
                Ok(field) => field,
                Err(error) if known.is_some() || is_broken(&bytes[at..], &error) => {
                    return Err(error);
                }
                Err(_) => return Ok(()),
            };
            let from = fields.position();
            let end = match skim {
                Skim::Bytes(len) => from.checked_add(len),
                Skim::Varint | Skim::Other => Some(from),
            };
            let end = end.filter(|end| parent.is_none_or(|parent| *end <= parent));
            let end = end.ok_or(PAST_THE_END)?;
            self.at = end;
            match skim {
                // Packed references are counted once they are there.
                Skim::Bytes(len) if number == 1 && !self.v1() && parent.is_some() => {
                    let Some(packed) = prefix.get(from..end) else {
                        self.at = at;
                        return self.refs(len / VARINT_MAX, false);
                    };
                    self.refs(packed.iter().filter(|byte| **byte < 0x80).count(), true)?;
                }
                Skim::Bytes(_) => self.enter(number, from, end)?,
                Skim::Varint if number == 1 && !self.v1() => self.refs(1, true)?,
                Skim::Varint | Skim::Other => {}
            }
        }
    }

    fn v1(&self) -> bool {
        self.protocol == Protocol::V1
    }

    /// Counts a field with content, and goes into it where elements or labels may be inside.
    fn enter(&mut self, number: u32, from: usize, end: usize) -> Result<(), DecodeError> {
        let (inner, v1) = (Some(Inner { end, labels: 0 }), self.v1());
        match (number, v1, self.series.is_some(), self.exemplar.is_some()) {
            (1, true, false, _) | (5, false, false, _) => {
                self.held.series += 1;
                (self.series, self.at) = (inner, from);
            }
            (3, true, false, _) => self.held.metadata += 1,
            (4, false, false, _) => self.held.symbols += 1,
            (1, true, true, _) => return self.label(),
            (2, _, true, false) => self.held.samples += 1,
            (3, true, true, false) | (4, false, true, false) => {
                self.held.exemplars += 1;
                (self.exemplar, self.at) = (inner, from);
            }
            (4, true, true, false) | (3, false, true, false) => self.held.histograms += 1,
            _ => {}
        }
        self.within_limits()
    }

    fn within_limits(&self) -> Result<(), DecodeError> {
        let (held, limits) = (&self.held, self.limits);
        if held.series > limits.series {
            return Err(DecodeError::SeriesCount(limits.series));
        }
        if held.samples + held.histograms + held.exemplars > limits.elements
            || held.metadata > limits.elements
        {
            return Err(DecodeError::ElementCount(limits.elements));
        }
        if held.symbols > SYMBOLS_MAX {
            return Err(DecodeError::Symbols("too many"));
        }
        Ok(())
    }

    /// One more label of a 1.0 series or exemplar.
    fn label(&mut self) -> Result<(), DecodeError> {
        let most = self.limits.labels;
        if let Some(inner) = self.exemplar.as_mut().or(self.series.as_mut()) {
            inner.labels += 1;
            if inner.labels > most {
                return Err(DecodeError::LabelCount(most));
            }
        }
        Ok(())
    }

    /// That many more references of a 2.0 series or exemplar, at least.
    fn refs(&mut self, count: usize, keep: bool) -> Result<(), DecodeError> {
        let most = self.limits.labels;
        if let Some(inner) = self.exemplar.as_mut().or(self.series.as_mut()) {
            let refs = inner.labels + count;
            if refs > 2 * most {
                return Err(DecodeError::LabelCount(most));
            }
            if keep {
                inner.labels = refs;
            }
        }
        Ok(())
    }
}

/// Is a field that does not read broken, rather than cut off at the end of what is there?
fn is_broken(rest: &[u8], error: &DecodeError) -> bool {
    let is_group = Fields::new(rest).key().is_ok_and(|key| key.1 == 3);
    *error == DecodeError::ProtobufDepth || (rest.len() >= HEAD_MAX && !is_group)
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
