//! YAML text to a tree that knows its lines. The only place that knows the YAML library.
//!
//! The library reads straight into types and stops at the first problem; a tree in between is what
//! lets us report all of them. Input is bounded: [`MAX_BYTES`] of text, [`MAX_NODES`] nodes after
//! aliases are expanded, [`MAX_DEPTH`] levels, one document.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Largest file that is read. A generous entry takes 2 KiB.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Nodes, also those that an alias repeats.
const MAX_NODES: usize = 50_000;
/// Ours has five levels.
const MAX_DEPTH: usize = 32;

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// From 1. For an alias: where it is used.
    pub(super) line: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    /// Any scalar, spelled as in the file: whether `007` is a number is up to the key.
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key, from 1.
    pub(super) line: u64,
    pub(super) value: Node,
}

/// Reads a document. An error is a sentence, with the line if there is one.
pub(super) fn parse(source: &str) -> Result<Node, (Option<u64>, String)> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
        // A snippet of the file could show a secret.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Tree>>>(source, options) {
        Ok(Some(tree)) => Ok(settle(tree, source)),
        Ok(None) => Ok(Node {
            line: 1,
            kind: Kind::Null,
        }),
        Err(error) => Err((error.location().map(|at| at.line()), error.to_string())),
    }
}

/// What the library hands over, before spellings are restored.
enum Tree {
    Null,
    Text(String),
    /// A scalar that the library took for a number or a boolean.
    Typed(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn settle(tree: Spanned<Tree>, source: &str) -> Node {
    let kind = match tree.value {
        Tree::Null => Kind::Null,
        Tree::Text(text) => Kind::Text(text),
        Tree::Typed(text) => {
            let span = tree.defined.span();
            Kind::Text(spelling(source, span.byte_offset(), span.byte_len()).unwrap_or(text))
        }
        Tree::List(items) => {
            Kind::List(items.into_iter().map(|item| settle(item, source)).collect())
        }
        Tree::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    line: key.referenced.line(),
                    value: settle(value, source),
                    key: key.value,
                })
                .collect(),
        ),
    };
    Node {
        line: tree.referenced.line(),
        kind,
    }
}

/// The text of a plain scalar: `1.50` and `007` would not survive a number.
fn spelling(source: &str, start: Option<u64>, len: Option<u64>) -> Option<String> {
    let start = usize::try_from(start?).ok()?;
    let end = start.checked_add(usize::try_from(len?).ok()?)?;
    let text = source.get(start..end)?.trim();
    (!text.is_empty() && !text.starts_with(['!', '&', '"', '\''])).then(|| text.to_owned())
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Typed(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: &Node) -> &[Entry] {
        match &node.kind {
            Kind::Map(entries) => entries,
            other => panic!("not a mapping: {other:?}"),
        }
    }

    fn text(node: &Node) -> &str {
        match &node.kind {
            Kind::Text(text) => text,
            other => panic!("not a scalar: {other:?}"),
        }
    }

    #[test]
    fn keys_and_values_know_their_lines_also_behind_aliases_and_merges() {
        let source = "# comment\na: &x\n  k: 1\nb: *x\nc:\n  <<: *x\n  l:\n    - 5\n    - {m: é}\n";
        let tree = parse(source).unwrap();
        let top = entries(&tree);
        let lines: Vec<_> = top.iter().map(|e| (e.key.as_str(), e.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 4), ("c", 5)]);
        assert_eq!(entries(&top[0].value)[0].line, 3);
        let keys: Vec<_> = entries(&top[2].value)
            .iter()
            .map(|e| e.key.as_str())
            .collect();
        assert!(keys.contains(&"k") && keys.contains(&"l"), "{keys:?}");
    }

    #[test]
    fn scalars_keep_the_spelling_of_the_file() {
        for spelling in [
            "007", "1.50", "1_000", "yes", "True", "0x1F", "1e3", "12:30:45", "30s",
        ] {
            let tree = parse(&format!("é: 'ü'\nkey: {spelling}   # comment\n")).unwrap();
            assert_eq!(text(&entries(&tree)[1].value), spelling);
        }
        let tree = parse("a: 'no'\nb: \"0x1F\"\nc: |\n  12\nd: *missing\n");
        assert!(tree.is_err(), "an unknown alias");
        let tree = parse("a: &n 007\nb: *n\n").unwrap();
        assert_eq!(text(&entries(&tree)[1].value), "007");
    }

    #[test]
    fn an_empty_file_is_nothing_and_an_empty_value_is_null() {
        for source in ["", "# only a comment\n", "---\n", "\u{feff}"] {
            assert!(
                matches!(parse(source).unwrap().kind, Kind::Null),
                "{source:?}"
            );
        }
        let tree = parse("\u{feff}a:\nb: ~\nc: null\n").unwrap();
        assert!(
            entries(&tree)
                .iter()
                .all(|e| matches!(e.value.kind, Kind::Null))
        );
    }

    #[test]
    fn syntax_errors_duplicate_keys_and_second_documents_are_refused_with_their_line() {
        for (source, line) in [
            ("a: 1\na: 2\n", 2),
            ("a: [1\nb: 2\n", 2),
            ("a:\n\t- 1\n", 2),
        ] {
            let (at, reason) = parse(source).unwrap_err();
            assert_eq!(at, Some(line), "{reason}");
        }
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
    }

    #[test]
    fn alias_bombs_and_deep_nesting_end_at_the_limits() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]
"
        .to_owned();
        for level in 1..12 {
            let row = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb = format!("{bomb}a{level}: &a{level} [{row}]\n");
        }
        let (_, reason) = parse(&bomb).unwrap_err();
        assert!(
            reason.contains("alias") || reason.contains("budget"),
            "{reason}"
        );
        assert!(parse(&"[".repeat(5_000)).is_err());
        let nested = (0..100).fold(String::new(), |yaml, depth| {
            yaml + &" ".repeat(depth)
                + "k:
"
        });
        assert!(parse(&nested).is_err());
        assert!(parse(&"- a\n".repeat(60_000)).is_err());
    }
}
