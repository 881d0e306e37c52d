//! What `gluster --xml` writes: elements and text, nothing else of XML.

/// More elements than this are not looked at.
const MOST: usize = 100_000;
/// Nor what is nested deeper.
const DEEPEST: usize = 32;

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name.
    pub(crate) name: String,
    /// Its own text, without that of the elements in it, trimmed.
    pub(crate) text: String,
    /// The elements in it.
    pub(crate) inner: Vec<Element>,
}

impl Element {
    /// The first element of that name directly in it.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.inner.iter().find(|e| e.name == name)
    }

    /// The text of the first element of that name directly in it; empty without one.
    pub(crate) fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |e| e.text.as_str())
    }

    /// All elements of that name in it, however deep, but none in one of these.
    pub(crate) fn all(&self, name: &str) -> Vec<&Self> {
        let mut found = Vec::new();
        for element in &self.inner {
            if element.name == name {
                found.push(element);
            } else {
                found.extend(element.all(name));
            }
        }
        found
    }
}

/// Reads a document; its outermost element. None if it is not whole, or odd.
pub(crate) fn parse(text: &str) -> Option<Element> {
    let mut open: Vec<Element> = vec![Element::default()];
    let mut rest = text;
    let mut count = 0;
    while let Some(start) = rest.find('<') {
        let current = open.last_mut()?;
        current.text.push_str(&unescaped(&rest[..start]));
        rest = &rest[start + 1..];
        let end = rest.find('>')?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop().filter(|e| e.name == name.trim())?;
            close(done, open.last_mut()?);
            continue;
        }
        count += 1;
        let (tag, whole) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name = tag.split_ascii_whitespace().next()?.to_owned();
        if count > MOST || open.len() > DEEPEST {
            return None;
        }
        let element = Element {
            name,
            ..Element::default()
        };
        if whole {
            close(element, open.last_mut()?);
        } else {
            open.push(element);
        }
    }
    let mut outside = open.pop().filter(|_| open.is_empty())?;
    (outside.inner.len() == 1).then(|| outside.inner.remove(0))
}

fn close(mut element: Element, around: &mut Element) {
    let text = element.text.trim();
    if text.len() != element.text.len() {
        element.text = text.to_owned();
    }
    around.inner.push(element);
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let known = rest.find(';').filter(|end| *end <= 8);
        let meant = known.and_then(|end| Some((end, meaning(&rest[1..end])?)));
        match meant {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn meaning(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_have_names_text_and_elements() {
        let text = "<?xml version=\"1.0\"?>\n<a>\n <b x=\"1\">one &lt;&#65;&#x42;&amp; &odd;</b>\n <c/><d><b>two</b></d> </a>\n";
        let a = parse(text).unwrap();
        assert_eq!(a.name, "a");
        assert_eq!(a.text_of("b"), "one <AB& &odd;");
        assert_eq!(a.text_of("c"), "");
        assert_eq!(a.text_of("nosuch"), "");
        let all: Vec<&str> = a.all("b").iter().map(|b| b.text.as_str()).collect();
        assert_eq!(all, ["one <AB& &odd;", "two"]);
    }

    #[test]
    fn what_is_not_whole_is_nothing() {
        for bad in [
            "",
            "a",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a",
            "<>",
            "<a><b></a></b>",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"<a>".repeat(1000)), None);
        let deep = "<a>".repeat(1000) + &"</a>".repeat(1000);
        assert_eq!(parse(&deep), None);
    }

    proptest! {
        #[test]
        fn no_document_is_too_odd(text in "(<a>|</a>|<b/>|&|;|&lt;|<|>|/|\\PC|\n){0,200}") {
            let _ = parse(&text);
        }
    }
}
