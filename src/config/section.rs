//! From the tree to typed keys, collecting what does not fit.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::endpoint::Secret;
use super::keys;
use super::problem::{Located, Problems, Source};
use super::tree::{Entry, Kind, Node};
use crate::units::{ByteSize, Span};

/// A type that a key of the file can have.
pub(super) trait FromNode: Sized {
    /// The value, or nothing after the reason was reported.
    fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self>;
}

/// A mapping while its keys are taken one by one; what is left in the end is unknown.
pub(super) struct Section<'a> {
    /// As in the docs: `remote_write[].queue_config`.
    about: &'static str,
    source: &'a Source,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Nothing, and a problem, when the node is no mapping.
    pub(super) fn open(
        about: &'static str,
        node: &'a Node,
        source: &'a Source,
        problems: &mut Problems,
    ) -> Option<Self> {
        let entries: &[Entry] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Null => &[],
            Kind::Text(_) | Kind::List(_) => {
                problems.note(source, "must be a mapping of keys to values");
                return None;
            }
        };
        Some(Self {
            about,
            source,
            entries,
            known: Vec::new(),
        })
    }

    /// The value of a key. An empty one counts as not there, as in Prometheus.
    pub(super) fn take<T: FromNode>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Located<T>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.value.kind, Kind::Null) {
            return None;
        }
        let source = self.source.below(key, Some(entry.line));
        let value = T::from_node(&entry.value, &source, problems)?;
        Some(Located { value, source })
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self, problems: &mut Problems) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_str()) && !problems.is_full() {
                let source = self.source.below(&entry.key, Some(entry.line));
                problems.note(&source, keys::unknown(self.about, &self.known, &entry.key));
            }
        }
    }
}

/// The text of a scalar, or nothing after the reason was reported.
fn scalar<'a>(node: &'a Node, source: &Source, problems: &mut Problems) -> Option<&'a str> {
    match &node.kind {
        Kind::Text(text) => return Some(text),
        Kind::Null => problems.note(source, "must not be empty"),
        Kind::List(_) => problems.note(source, "must be a single value, not a list"),
        Kind::Map(_) => problems.note(source, "must be a single value, not a mapping"),
    }
    None
}

/// Scalars whose parser explains itself.
macro_rules! parsed {
    ($($type:ty: $parse:expr;)*) => {$(
        impl FromNode for $type {
            fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self> {
                let text = scalar(node, source, problems)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(text)
                    .map_err(|reason| problems.refuse(source, text, reason))
                    .ok()
            }
        }
    )*};
}

parsed! {
    String: |text| Ok(text.to_owned());
    PathBuf: path;
    SocketAddr: address;
    ByteSize: |text| text.parse().map_err(|_| "must be a size, for example 64MiB".to_owned());
    Span: |text| text.parse().map_err(|_| "must be a duration, for example 30ms or 1h30m".to_owned());
    u64: |text| text.parse().map_err(|_| "must be a whole number, 0 or more".to_owned());
    bool: boolean;
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text.into())
}

/// An address to listen at. Names are refused: what they mean changes, and with it who gets in.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "must be an IP address and a port, for example 127.0.0.1:9201, 0.0.0.0:9201 or [::]:9201"
            .to_owned()
    })
}

/// As Prometheus' YAML 1.1 has it.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

impl FromNode for Secret {
    fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self> {
        scalar(node, source, problems).map(Self::new)
    }
}

impl<T: FromNode> FromNode for Vec<Located<T>> {
    fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            problems.note(source, "must be a list");
            return None;
        };
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let source = Source {
                key: format!("{}[{index}]", source.key),
                line: Some(item.line),
            };
            if let Some(value) = T::from_node(item, &source, problems) {
                list.push(Located { value, source });
            }
        }
        Some(list)
    }
}

/// Names and values, both as written: static headers. Values are secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, Located<Secret>)>);

impl FromNode for Pairs {
    fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            problems.note(source, "must be a mapping of names to values");
            return None;
        };
        let mut pairs = Vec::new();
        for Entry { key, line, value } in entries {
            let source = source.below(key, Some(*line));
            if let Some(value) = Secret::from_node(value, &source, problems) {
                pairs.push((key.clone(), Located { value, source }));
            }
        }
        Some(Self(pairs))
    }
}
