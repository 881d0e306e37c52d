//! The kernel's command line, as far as init reads it itself: `lazarette.debug` and
//! `cloud-config-base64=…`. Settings (`lazarette.a.b=value`) are read by
//! [`lazarette_core::cloud_config`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the command line holds for init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The text as the kernel shows it.
    pub text: String,
    /// `lazarette.debug`: a shell on the console.
    pub debug: bool,
    /// `cloud-config-base64=`: a whole document.
    pub document: Option<Vec<u8>>,
    /// Words that were meant for us and make no sense.
    pub problems: Vec<String>,
}

/// Reads the command line as the kernel shows it in `/proc/cmdline`.
pub fn parse(text: &str) -> CommandLine {
    let mut line = CommandLine {
        text: text.into(),
        ..CommandLine::default()
    };
    for word in text.split_whitespace() {
        if word == "lazarette.debug" {
            line.debug = true;
        } else if let Some(encoded) = word.strip_prefix("cloud-config-base64=") {
            match STANDARD.decode(encoded) {
                Ok(document) => line.document = Some(document),
                Err(error) => line.problems.push(format!(
                    "kernel command line: cloud-config-base64: {error}; encode it with `base64 -w0`"
                )),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_document_are_found() {
        let line = parse("quiet lazarette.debug cloud-config-base64=aG9zdG5hbWU6IHg=\n");
        assert!(line.debug && line.problems.is_empty());
        assert_eq!(line.document.as_deref(), Some(b"hostname: x".as_slice()));
    }

    #[test]
    fn other_words_are_not_ours_and_nonsense_is_a_problem() {
        let line = parse("lazarette.debugging lazarette.hostname=x cloud-config-base64=%%");
        assert!(!line.debug && line.document.is_none());
        assert_eq!(line.problems.len(), 1, "{:?}", line.problems);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,300}") {
            parse(&text);
        }
    }
}
