//! The symbol table of a 2.0 message that is being written: each string once, the empty one first.

use std::collections::HashMap;
use std::sync::Arc;

use super::encode::MetadataSource;
use super::proto::{put_bytes, put_varint, varint_len};
use super::rw1::read_labels;
use crate::model::content::Exemplar;
use crate::model::labels::Pair;

#[derive(Clone, Copy)]
pub(super) struct MetadataRefs {
    kind: u8,
    help: u32,
    unit: u32,
}

impl MetadataRefs {
    pub(super) fn len(self) -> usize {
        let part = |value: u32| {
            if value == 0 {
                0
            } else {
                1 + varint_len(u64::from(value))
            }
        };
        part(u32::from(self.kind)) + part(self.help) + part(self.unit)
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.push(0x2a);
        put_varint(out, self.len() as u64);
        for (number, value) in [(1, u32::from(self.kind)), (3, self.help), (4, self.unit)] {
            if value != 0 {
                out.push(number << 3);
                put_varint(out, u64::from(value));
            }
        }
    }
}

/// Memory of the symbol table between messages: which pair has which references in this one.
#[derive(Default)]
pub(super) struct SymbolTable {
    /// By pair number: message in which it was last seen, address of that pair, its references.
    pairs: Vec<(u32, usize, [u32; 2])>,
    message: u32,
}

/// The symbol table of one message.
pub(super) struct Symbols<'t, 'c> {
    table: &'t mut SymbolTable,
    refs: HashMap<&'c [u8], u32>,
    strings: Vec<&'c [u8]>,
    /// By the reference of the metric's name.
    metadata: HashMap<u32, Option<MetadataRefs>>,
}

impl SymbolTable {
    pub(super) fn begin<'c>(&mut self) -> Symbols<'_, 'c> {
        self.message = self.message.wrapping_add(1);
        if self.message == 0 {
            self.pairs.clear();
            self.message = 1;
        }
        let empty: &[u8] = &[];
        Symbols {
            table: self,
            refs: HashMap::from([(empty, 0)]),
            strings: vec![empty],
            metadata: HashMap::new(),
        }
    }
}

impl<'c> Symbols<'_, 'c> {
    fn string(&mut self, text: &'c [u8]) -> u32 {
        let next = self.strings.len() as u32;
        let reference = *self.refs.entry(text).or_insert(next);
        if reference == next {
            self.strings.push(text);
        }
        reference
    }

    pub(super) fn pair(&mut self, pair: &'c Arc<Pair>) -> [u32; 2] {
        let number = pair.number() as usize;
        if self.table.pairs.len() <= number {
            self.table.pairs.resize(number + 1, (0, 0, [0; 2]));
        }
        // Numbers are unique among live pairs of one interner; the address tells interners apart.
        let address = Arc::as_ptr(pair) as usize;
        let (message, known, refs) = self.table.pairs[number];
        if message == self.table.message && known == address {
            return refs;
        }
        let refs = [self.string(pair.name()), self.string(pair.value())];
        self.table.pairs[number] = (self.table.message, address, refs);
        refs
    }

    pub(super) fn exemplar(&mut self, exemplar: &'c Exemplar) -> Vec<u32> {
        let mut refs = Vec::new();
        let mut labels = Vec::new();
        // Written by our own reader, so it reads.
        if read_labels(&exemplar.labels, &mut labels).is_ok() {
            for (name, value) in labels {
                refs.extend([self.string(name), self.string(value)]);
            }
        }
        refs
    }

    /// What the metadata of the metric with this `__name__` pair is, in references.
    pub(super) fn metadata(
        &mut self,
        metric: Option<&'c Arc<Pair>>,
        source: &'c dyn MetadataSource,
    ) -> Option<MetadataRefs> {
        let pair = metric?;
        let [_, name] = self.pair(pair);
        if let Some(known) = self.metadata.get(&name) {
            return *known;
        }
        let known = source
            .lookup(pair.value())
            .map(|(kind, help, unit)| MetadataRefs {
                kind,
                help: self.string(help.as_bytes()),
                unit: self.string(unit.as_bytes()),
            });
        self.metadata.insert(name, known);
        known
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.strings.iter().for_each(|text| put_bytes(out, 4, text));
    }
}
