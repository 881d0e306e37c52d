//! Enough of Rust's grammar to tell code from comments, strings and tests.

/// The text with comments blanked, and strings too unless `strings` are wanted. Lines stay lines.
pub(crate) fn code(text: &str, strings: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (end, keep) = if rest.starts_with(b"//") {
            (
                at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
                false,
            )
        } else if rest.starts_with(b"/*") {
            (at + block_comment(rest), false)
        } else if let Some(length) = raw_string(bytes, at) {
            (at + length, strings)
        } else if rest[0] == b'"' {
            (at + quoted(rest, b'"'), strings)
        } else if rest[0] == b'\'' {
            (at + character(rest), true)
        } else {
            (at + 1, true)
        };
        if !keep {
            blank(&mut out[at..end]);
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a raw string that begins at `at`, if one does.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if at > 0 && named(bytes[at - 1]) {
        return None;
    }
    let rest = &bytes[at..];
    let prefix = ["br", "cr", "r"]
        .iter()
        .find(|p| rest.starts_with(p.as_bytes()))?
        .len();
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = prefix + hashes + 1;
    let length = rest[body..]
        .windows(end.len())
        .position(|window| window == end);
    Some(length.map_or(rest.len(), |length| body + length + end.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or the tick of a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => quoted(rest, b'\''),
        Some(_) => {
            let length = rest[1..].iter().take(5).position(|b| *b == b'\'');
            match length {
                // `'a'`, `'é'`; but `'a, 'b` are lifetimes.
                Some(length) if length == 1 || rest[1] >= 0x80 => length + 2,
                _ => 1,
            }
        }
        None => 1,
    }
}

/// Blanks everything under `#[cfg(test)]` in code that [`code`] has prepared without strings.
/// `shape` is that code; `text` (of the same length) is what gets blanked.
pub(crate) fn without_tests(text: &str, shape: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let bytes = shape.as_bytes();
    for (start, marker) in shape.match_indices("#[cfg(test)]") {
        let mut at = start + marker.len();
        let mut depth = 0_usize;
        while at < bytes.len() {
            match bytes[at] {
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        at += 1;
                        break;
                    }
                }
                b';' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        let end = at.min(out.len());
        blank(&mut out[start..end]);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Program code: no comments, no tests, and no strings unless wanted.
pub(crate) fn program(text: &str, strings: bool) -> String {
    without_tests(&code(text, strings), &code(text, false))
}

/// The words of a line, by `_`, by change of case and by punctuation, in lower case.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        let new = !c.is_alphanumeric() || (c.is_uppercase() && !before.is_uppercase());
        if new {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_lines_stay() {
        let text = "a // b\n/* c /* d */ e */ f\n\"// g\" h";
        assert_eq!(code(text, true), "a     \n                  f\n\"// g\" h");
        assert!(!code(text, false).contains('g'));
        assert_eq!(code(text, true).lines().count(), 3);
    }

    #[test]
    fn strings_and_characters_do_not_confuse() {
        for text in [
            r##"r#"unsafe " "# x"##,
            r#""unsafe \" unsafe" x"#,
            r#"b"unsafe" x"#,
            "'\"' x // unsafe",
            "'\\'' x // unsafe",
            "fn f<'a>(a: &'a str) x // unsafe",
            "'é' x // unsafe",
            "br\"unsafe\" x",
        ] {
            let code = code(text, false);
            assert!(
                code.contains('x') && !code.contains("unsafe"),
                "{text} -> {code}"
            );
        }
        assert!(code("'\"' unsafe '\"'", false).contains("unsafe"));
        assert!(code("bar\"s\" unsafe", false).contains("unsafe"));
    }

    #[test]
    fn tests_are_not_program() {
        let text =
            "a\n#[cfg(test)]\nmod tests { fn x() { \"}\"; } b }\nc\n#[cfg(test)]\nmod more;\nd";
        let program = program(text, false);
        assert!(
            !program.contains('b') && !program.contains("more"),
            "{program}"
        );
        for kept in ["a", "c", "d"] {
            assert!(
                program.lines().any(|line| line.trim() == kept),
                "{kept}: {program}"
            );
        }
    }

    #[test]
    fn words_are_found_inside_identifiers() {
        assert_eq!(
            words("NfsServer::mount_nfs4(\"x\")"),
            ["nfs", "server", "mount", "nfs4", "x"]
        );
        assert_eq!(words("confused"), ["confused"]);
    }
}
