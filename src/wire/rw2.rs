//! Reader of `io.prometheus.write.v2.Request` (Remote-Write 2.0).
//!
//! Protobuf lets symbols follow the series that refer to them, so the message is scanned for both first
//! and references are resolved afterwards. A reference that points nowhere refuses the request.

use super::canonical::{Label, check_labels, is_utf8};
use super::decoded::{
    Decoded, HistogramRow, IdentityKey, InvalidSeries, Place, RowCounts, SampleRow, SeriesRow,
    Symbol, WalkLimits,
};
use super::error::DecodeError;
use super::histogram;
use super::proto::{Fields, put_label, repeated_varints};
use super::rw1::metadata_kind;
use crate::model::content::Exemplar;

const BAD_REF: DecodeError = DecodeError::Symbols("reference outside the symbol table");
const ODD_REFS: DecodeError = DecodeError::Symbols("odd number of label references");

/// Walks a message: validates it, hashes each series, and notes where everything is. That its counts are
/// within the limits is known.
pub(super) fn walk(
    mut out: Decoded,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    let mut places = Vec::with_capacity(out.series.capacity());
    scan(&mut out, &mut places)?;
    // Symbols are looked at while rows are made: the body is lent out for that time.
    let body = std::mem::take(&mut out.body);
    let mut walker = Walker {
        body: &body,
        limits,
        key,
        refs: Vec::new(),
        canonical: Vec::new(),
        expanded: 0,
    };
    out.series.reserve_exact(places.len());
    for place in places {
        walker.series(place, &mut out)?;
    }
    out.body = body;
    Ok(out)
}

fn scan(out: &mut Decoded, series: &mut Vec<Place>) -> Result<(), DecodeError> {
    let mut looks_like_v1 = false;
    let mut fields = Fields::new(&out.body);
    while let Some((number, value)) = fields.next()? {
        match number {
            4 => {
                let text = value.bytes()?;
                if out.symbols.is_empty() && !text.is_empty() {
                    return Err(DecodeError::Symbols("the first is not the empty string"));
                }
                out.symbols.push(Symbol {
                    place: Place::of(text, fields.position()),
                    utf8: is_utf8(text),
                });
            }
            5 => series.push(Place::of(value.bytes()?, fields.position())),
            // 2.0 reserves the numbers that 1.0 uses.
            1 | 3 => looks_like_v1 = true,
            _ => {}
        }
    }
    if looks_like_v1 && series.is_empty() && out.symbols.is_empty() {
        return Err(DecodeError::ProtocolMismatch);
    }
    Ok(())
}

struct Walker<'b, 'l> {
    body: &'b [u8],
    limits: &'l WalkLimits,
    key: &'l IdentityKey,
    refs: Vec<u32>,
    canonical: Vec<u8>,
    /// Bytes that labels have expanded to so far.
    expanded: usize,
}

impl Walker<'_, '_> {
    fn series(&mut self, place: Place, out: &mut Decoded) -> Result<(), DecodeError> {
        let message = &self.body[place.at as usize..][..place.len as usize];
        let mut counts = RowCounts::default();
        let mut metadata = Place::default();
        let mut invalid = None;
        self.refs.clear();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            let here = |bytes| Place::of(bytes, place.at as usize + fields.position());
            match number {
                1 => {
                    read_refs(value, &mut self.refs, self.limits.labels)?;
                }
                2 => {
                    read_sample(value.bytes()?, out)?;
                    counts.samples += 1;
                }
                3 => {
                    let bytes = value.bytes()?;
                    let checked = histogram::check(bytes)?;
                    invalid = invalid.or(checked.invalid);
                    out.histograms.push(HistogramRow {
                        place: here(bytes),
                        ..checked.row
                    });
                    counts.histograms += 1;
                }
                4 => {
                    let bytes = value.bytes()?;
                    if !self.exemplar(bytes, &out.symbols)? {
                        invalid = invalid.or(Some(InvalidSeries::NotUtf8));
                    }
                    out.exemplars.push(here(bytes));
                    counts.exemplars += 1;
                }
                5 => {
                    let bytes = value.bytes()?;
                    metadata_refs(bytes, &out.symbols)?;
                    metadata = here(bytes);
                }
                _ => {}
            }
        }
        let (id, wrong) = self.identity(&out.symbols)?;
        invalid = wrong.or(invalid);
        if counts == RowCounts::default() {
            invalid = invalid.or(Some(InvalidSeries::NoElement));
        }
        out.push_series(SeriesRow {
            id,
            place,
            counts,
            metadata,
            invalid,
        });
        Ok(())
    }

    /// The identity of the labels that `self.refs` name: that of the same labels in 1.0's bytes.
    fn identity(
        &mut self,
        symbols: &[Symbol],
    ) -> Result<(u128, Option<InvalidSeries>), DecodeError> {
        if !self.refs.len().is_multiple_of(2) {
            return Err(ODD_REFS);
        }
        self.canonical.clear();
        let mut good = true;
        let mut named = false;
        let mut previous: &[u8] = &[];
        for (index, pair) in self.refs.chunks_exact(2).enumerate() {
            let (name, value) = (symbol(symbols, pair[0])?, symbol(symbols, pair[1])?);
            let (name_text, value_text) = (text(self.body, name), text(self.body, value));
            self.limits
                .check_label(index + 1, (name_text, value_text))?;
            expand(
                &mut self.expanded,
                name_text.len() + value_text.len(),
                self.limits,
            )?;
            good &= name_text > previous && name.utf8 && value.utf8;
            named |= name_text == b"__name__" && !value_text.is_empty();
            previous = name_text;
            put_label(&mut self.canonical, name_text, value_text);
        }
        if good && named {
            return Ok((self.key.hash(&self.canonical), None));
        }
        self.sorted_identity(symbols)
    }

    /// As [`identity`](Self::identity), for labels that are unsorted or wrong.
    fn sorted_identity(
        &mut self,
        symbols: &[Symbol],
    ) -> Result<(u128, Option<InvalidSeries>), DecodeError> {
        let mut labels = Vec::new();
        for pair in self.refs.chunks_exact(2) {
            let (name, value) = (symbol(symbols, pair[0])?, symbol(symbols, pair[1])?);
            labels.push((text(self.body, name), text(self.body, value)));
        }
        labels.sort_by_key(|label| label.0);
        let invalid = check_labels(&labels);
        self.canonical.clear();
        for (name, value) in &labels {
            put_label(&mut self.canonical, name, value);
        }
        Ok((self.key.hash(&self.canonical), invalid))
    }

    /// References in range and even, within the limits of labels; `false` when a text is not UTF-8.
    fn exemplar(&mut self, message: &[u8], symbols: &[Symbol]) -> Result<bool, DecodeError> {
        let (mut name, mut count, mut utf8): (Option<&[u8]>, usize, bool) = (None, 0, true);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => repeated_varints(value, |reference| {
                    let reference = u32::try_from(reference).map_err(|_| BAD_REF)?;
                    let symbol = symbol(symbols, reference)?;
                    utf8 &= symbol.utf8;
                    let string = text(self.body, symbol);
                    expand(&mut self.expanded, string.len(), self.limits)?;
                    let Some(name) = name.take() else {
                        name = Some(string);
                        return Ok(());
                    };
                    count += 1;
                    self.limits.check_label(count, (name, string))
                })?,
                2 => drop(value.double_bits()?),
                3 => drop(value.varint()?),
                _ => {}
            }
        }
        if name.is_some() {
            Err(ODD_REFS)
        } else {
            Ok(utf8)
        }
    }
}

fn text(body: &[u8], symbol: Symbol) -> &[u8] {
    &body[symbol.place.at as usize..][..symbol.place.len as usize]
}

/// A few bytes of a small message may refer to a long symbol over and over: what is referred to has a
/// limit too.
fn expand(expanded: &mut usize, bytes: usize, limits: &WalkLimits) -> Result<(), DecodeError> {
    *expanded += bytes;
    if *expanded > limits.expanded_bytes {
        return Err(DecodeError::DecodedSize {
            declared: *expanded as u64,
            limit: limits.expanded_bytes as u64,
        });
    }
    Ok(())
}

#[inline]
fn read_sample(message: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    let mut row = SampleRow {
        timestamp: 0,
        bits: 0,
    };
    let mut start = 0;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => row.bits = value.double_bits()?,
            2 => row.timestamp = value.varint()?.cast_signed(),
            3 => start = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    if start != 0 && out.starts.is_empty() {
        out.starts.resize(out.samples.len(), 0);
    }
    if start != 0 || !out.starts.is_empty() {
        out.starts.push(start);
    }
    out.samples.push(row);
    Ok(())
}

fn read_refs(
    value: super::proto::Value<'_>,
    refs: &mut Vec<u32>,
    labels_max: usize,
) -> Result<(), DecodeError> {
    repeated_varints(value, |reference| {
        if refs.len() == 2 * labels_max {
            return Err(DecodeError::LabelCount(labels_max));
        }
        refs.push(u32::try_from(reference).map_err(|_| BAD_REF)?);
        Ok(())
    })
}

fn symbol(symbols: &[Symbol], reference: u32) -> Result<Symbol, DecodeError> {
    symbols.get(reference as usize).copied().ok_or(BAD_REF)
}

/// All labels of a series message, in wire order.
pub(super) fn read_labels<'a>(
    decoded: &'a Decoded,
    message: &'a [u8],
    out: &mut Vec<Label<'a>>,
) -> Result<(), DecodeError> {
    let mut name = None;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            repeated_varints(value, |reference| {
                let reference = u32::try_from(reference).map_err(|_| BAD_REF)?;
                let text = decoded.bytes(symbol(&decoded.symbols, reference)?.place);
                match name.take() {
                    None => name = Some(text),
                    Some(name) => out.push((name, text)),
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

pub(super) fn read_exemplar(decoded: &Decoded, message: &[u8]) -> Result<Exemplar, DecodeError> {
    let mut exemplar = Exemplar::default();
    let mut labels = Vec::new();
    let mut pairs = Vec::new();
    read_labels(decoded, message, &mut pairs)?;
    for (name, value) in pairs {
        put_label(&mut labels, name, value);
    }
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => exemplar.bits = value.double_bits()?,
            3 => exemplar.timestamp = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    exemplar.labels = labels.into_boxed_slice();
    Ok(exemplar)
}

/// Type, help reference and unit reference, the references in range.
fn metadata_refs(message: &[u8], symbols: &[Symbol]) -> Result<(u8, u32, u32), DecodeError> {
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let reference = |value: u64| u32::try_from(value).map_err(|_| BAD_REF);
        match number {
            1 => kind = metadata_kind(value.varint()?),
            3 => help = reference(value.varint()?)?,
            4 => unit = reference(value.varint()?)?,
            _ => {}
        }
    }
    // Zero is the empty string even where a sender left the table empty.
    for reference in [help, unit] {
        if reference != 0 {
            symbol(symbols, reference)?;
        }
    }
    Ok((kind, help, unit))
}

/// Type, help and unit; `None` when a text is not UTF-8.
pub(super) fn read_metadata<'a>(
    decoded: &'a Decoded,
    message: &[u8],
) -> Result<Option<(u8, &'a str, &'a str)>, DecodeError> {
    let (kind, help, unit) = metadata_refs(message, &decoded.symbols)?;
    let text = |reference: u32| -> Option<&'a str> {
        let Some(symbol) = decoded.symbols.get(reference as usize) else {
            return Some("");
        };
        std::str::from_utf8(decoded.bytes(symbol.place)).ok()
    };
    Ok(text(help)
        .zip(text(unit))
        .map(|(help, unit)| (kind, help, unit)))
}
