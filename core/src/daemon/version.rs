//! Which of two versions is the older one, as semantic versioning orders them.

use std::cmp::Ordering;

/// A version as semantic versioning writes it: `1.2.3-rc.1+build`.
#[derive(Debug, PartialEq, Eq)]
struct Version<'a> {
    numbers: [u64; 3],
    /// What makes it come before the version of these numbers; empty: nothing.
    pre_release: Vec<&'a str>,
}

/// Whether `new` is older than `old`. Never, where one of them is not written as semantic versioning
/// wants it: nobody knows then.
pub(super) fn is_older(new: &str, old: &str) -> bool {
    let both = Version::parse(new).zip(Version::parse(old));
    both.is_some_and(|(new, old)| new.compare(&old) == Ordering::Less)
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // What was built from the same source is the same version.
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, rest)) => (numbers, rest.split('.').collect()),
            None => (text, Vec::new()),
        };
        let mut parts = numbers.split('.').map(number);
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let named = |word: &&str| !word.is_empty() && word.chars().all(plain);
        let whole = parts.next().is_none() && pre_release.iter().all(named);
        whole.then_some(Self {
            numbers,
            pre_release,
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let released = self
            .pre_release
            .is_empty()
            .cmp(&other.pre_release.is_empty());
        let numbers = self.numbers.cmp(&other.numbers).then(released);
        let mut words = self.pre_release.iter().zip(&other.pre_release);
        let words = words.find_map(|(a, b)| Some(word(a, b)).filter(|found| found.is_ne()));
        let longer = self.pre_release.len().cmp(&other.pre_release.len());
        numbers.then(words.unwrap_or(longer))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Numbers by their value and before words, words as text.
fn word(a: &str, b: &str) -> Ordering {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semantic_versioning_does() {
        let ordered = [
            "0.9.12",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
            "10.0.0",
        ];
        for (i, older) in ordered.iter().enumerate() {
            for (j, newer) in ordered.iter().enumerate() {
                assert_eq!(is_older(older, newer), i < j, "{older} before {newer}");
            }
        }
        assert!(!is_older("1.0.0+2", "1.0.0+10") && !is_older("1.0.0+10", "1.0.0+2"));
        assert!(is_older("1.0.0+10", "1.0.1"));
    }

    #[test]
    fn what_is_no_such_version_is_not_older() {
        for text in [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "v1.0.0",
            "1.0.x",
            "1.-1.0",
            "1.+1.0",
            "1.0.0-",
            "1.0.0-a..b",
            "1.0.0-ä",
            "latest",
        ] {
            assert!(!is_older(text, "9.0.0"), "{text}");
            assert!(!is_older("0.0.1", text), "{text}");
        }
        // Larger than any number here: not known, but no reason to fall over.
        assert!(!is_older("99999999999999999999.0.0", "1.0.0"));
    }
}
