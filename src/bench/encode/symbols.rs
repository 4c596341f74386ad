//! The symbol table of a 2.0 request.

use std::collections::HashMap;

use super::proto::put_bytes;
use crate::bench::data::DataSet;

/// The symbols of one 2.0 request: a data set's strings, and some of the request's own.
pub(super) struct SymbolTable {
    /// Per string of the data set: request in which it was last used, and its number there.
    numbers: Vec<(u32, u32)>,
    request: u32,
    order: Vec<Symbol>,
    extra: HashMap<String, u32>,
}

enum Symbol {
    Shared(u32),
    Extra(String),
}

impl SymbolTable {
    pub(super) fn new(strings: usize) -> Self {
        Self {
            numbers: vec![(0, 0); strings],
            request: 0,
            order: Vec::new(),
            extra: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.request = self.request.wrapping_add(1);
        self.order.clear();
        self.extra.clear();
    }

    /// The symbol 0 is the empty string, so the first of ours is 1.
    fn next(&mut self, symbol: Symbol) -> u32 {
        self.order.push(symbol);
        self.order.len() as u32
    }

    pub(super) fn shared(&mut self, id: u32) -> u32 {
        let (request, number) = self.numbers[id as usize];
        if request == self.request {
            return number;
        }
        let number = self.next(Symbol::Shared(id));
        self.numbers[id as usize] = (self.request, number);
        number
    }

    pub(super) fn extra(&mut self, text: &str) -> u32 {
        if let Some(number) = self.extra.get(text) {
            return *number;
        }
        let number = self.next(Symbol::Extra(text.to_owned()));
        self.extra.insert(text.to_owned(), number);
        number
    }

    pub(super) fn write(&self, data: &DataSet, out: &mut Vec<u8>) {
        put_bytes(out, 4, b"");
        for symbol in &self.order {
            match symbol {
                Symbol::Shared(id) => {
                    put_bytes(out, 4, data.symbols()[*id as usize].as_bytes());
                }
                Symbol::Extra(text) => put_bytes(out, 4, text.as_bytes()),
            }
        }
    }
}
