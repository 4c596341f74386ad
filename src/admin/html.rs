//! HTML by hand: what is text is escaped, whoever wrote it. Pure.

use std::fmt;

/// HTML that is safe to put into a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Markup of ours: it stands in the source.
    pub(super) fn markup(markup: &'static str) -> Self {
        Self(markup.to_owned())
    }

    /// Any text.
    pub(super) fn text(text: &str) -> Self {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                // No reader of the page needs it, and some parsers trip over it.
                '\0' => out.push('\u{fffd}'),
                c => out.push(c),
            }
        }
        Self(out)
    }

    /// An element of ours around something: `element("p", "note", inner)`.
    pub(super) fn element(name: &'static str, class: &'static str, inner: &Self) -> Self {
        Self(format!("<{name} class=\"{class}\">{inner}</{name}>"))
    }

    /// The same with a text that is shown while the pointer rests there.
    pub(super) fn titled(
        name: &'static str,
        class: &'static str,
        title: &str,
        inner: &Self,
    ) -> Self {
        let title = Self::text(title);
        Self(format!(
            "<{name} class=\"{class}\" title=\"{title}\">{inner}</{name}>"
        ))
    }

    /// How full something is, between 0 and 1.
    pub(super) fn meter(share: f64) -> Self {
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let percent = share * 100.0;
        Self(format!(
            "<svg class=\"meter\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"all\" width=\"100\" height=\"4\"/><rect class=\"used\" width=\"{percent:.1}\" \
             height=\"4\"/></svg>"
        ))
    }

    /// A row of a table of two columns: name and value.
    pub(super) fn row(name: &str, value: &Self) -> Self {
        let name = Self::text(name);
        Self(format!(
            "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>"
        ))
    }

    /// A table of such rows.
    pub(super) fn table(rows: impl IntoIterator<Item = Self>) -> Self {
        let rows: Self = rows.into_iter().collect();
        Self(format!("<table>{rows}</table>"))
    }

    /// A part of the page with its heading.
    pub(super) fn card(class: &'static str, heading: &str, inner: &Self) -> Self {
        let heading = Self::text(heading);
        Self(format!(
            "<section class=\"card {class}\"><h2>{heading}</h2>{inner}</section>"
        ))
    }

    /// This and that.
    #[must_use]
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0 += &other.0;
        self
    }

    /// As it goes out.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.0 += &part.0;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let evil = "<script>alert('1')</script>&lt;\" onload=\"x\0";
        let safe =
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;lt;&quot; onload=&quot;x\u{fffd}";
        assert_eq!(Html::text(evil).to_string(), safe);
        let titled = Html::titled("b", "x", evil, &Html::text(evil)).to_string();
        assert_eq!(
            titled,
            format!("<b class=\"x\" title=\"{safe}\">{safe}</b>")
        );
        for made in [
            Html::row(evil, &Html::text(evil)),
            Html::card("x", evil, &Html::text(evil)),
        ] {
            let made = made.to_string();
            assert!(
                !made.contains("<script") && !made.contains("onload=\""),
                "{made}"
            );
        }
    }

    #[test]
    fn a_meter_stays_within_its_bounds() {
        for (share, width) in [
            (0.25, "25.0"),
            (-1.0, "0.0"),
            (7.0, "100.0"),
            (f64::NAN, "0.0"),
        ] {
            let meter = Html::meter(share).to_string();
            assert!(
                meter.contains(&format!("width=\"{width}\"")),
                "{share}: {meter}"
            );
        }
    }
}
