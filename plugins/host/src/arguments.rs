//! The command line: four sub-commands, so no parser library (it would be most of the program).

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Serves a storage plugin to laz-core.

Usage: laz-plugin-host supervise [OPTIONS]
       laz-plugin-host serve [OPTIONS]
       laz-plugin-host describe PLUGIN.so
       laz-plugin-host scan [PLUGIN.so]

Commands:
  supervise  run as PID 1 of a storage container: reap, keep `serve` running, end in order
  serve      load the plugin and serve it on a Unix socket
  describe   print the plugin's manifest as JSON (for the image label dev.lazarette.manifest)
  scan       print the storage that the plugin finds and no context has, as JSON

Options of supervise and serve:
  --plugin FILE   the plugin [default: /usr/lib/lazarette/plugin.so]
  --socket FILE   where to listen [default: /run/lazarette/plugin.sock]
  --mounts DIR    where the plugin mounts [default: /mnt]

  -h, --help      print this
  -V, --version   print the version

Exit status: 0 done, 1 failed, 2 wrong usage, 75 restart wanted (too many calls hang).
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Describe { plugin: PathBuf },
    Scan { plugin: PathBuf },
    Serve(Paths),
    Supervise(Paths),
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) plugin: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) mounts: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            plugin: "/usr/lib/lazarette/plugin.so".into(),
            socket: "/run/lazarette/plugin.sock".into(),
            mounts: "/mnt".into(),
        }
    }
}

/// Parses the arguments behind the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let command = arguments
        .next()
        .ok_or("no command given; try laz-plugin-host --help")?;
    match command.to_str() {
        Some("-h" | "--help" | "help") => Ok(Command::Help),
        Some("-V" | "--version") => Ok(Command::Version),
        Some("describe") => {
            let plugin = arguments.next().ok_or("describe: which PLUGIN.so?")?;
            if plugin == "-h" || plugin == "--help" {
                return Ok(Command::Help);
            }
            match arguments.next() {
                None => Ok(Command::Describe {
                    plugin: plugin.into(),
                }),
                Some(more) => Err(unexpected(&more)),
            }
        }
        Some("scan") => {
            let plugin = arguments
                .next()
                .map_or_else(|| Paths::default().plugin, PathBuf::from);
            match arguments.next() {
                _ if plugin.as_os_str() == "-h" || plugin.as_os_str() == "--help" => {
                    Ok(Command::Help)
                }
                None => Ok(Command::Scan { plugin }),
                Some(more) => Err(unexpected(&more)),
            }
        }
        Some("serve") => {
            options(arguments).map(|paths| paths.map_or(Command::Help, Command::Serve))
        }
        Some("supervise") => {
            options(arguments).map(|paths| paths.map_or(Command::Help, Command::Supervise))
        }
        _ => Err(unexpected(&command)),
    }
}

/// The paths, or none if help is wanted.
fn options(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Paths>, String> {
    let mut paths = Paths::default();
    while let Some(option) = arguments.next() {
        let field = match option.to_str() {
            Some("-h" | "--help") => return Ok(None),
            Some("--plugin") => &mut paths.plugin,
            Some("--socket") => &mut paths.socket,
            Some("--mounts") => &mut paths.mounts,
            _ => return Err(unexpected(&option)),
        };
        let value = arguments
            .next()
            .ok_or_else(|| format!("{} needs a path", option.display()))?;
        *field = PathBuf::from(value);
        if !field.is_absolute() {
            return Err(format!("{} needs an absolute path", option.display()));
        }
    }
    Ok(Some(paths))
}

fn unexpected(argument: &OsString) -> String {
    format!(
        "unexpected argument {:?}; try laz-plugin-host --help",
        argument.display().to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_and_paths() {
        assert_eq!(
            parsed("supervise"),
            Ok(Command::Supervise(Paths::default()))
        );
        let Ok(Command::Serve(paths)) = parsed("serve --socket /a --mounts /b --plugin /c") else {
            panic!("not parsed");
        };
        assert_eq!(paths.socket, PathBuf::from("/a"));
        assert_eq!(paths.mounts, PathBuf::from("/b"));
        assert_eq!(paths.plugin, PathBuf::from("/c"));
        assert_eq!(parsed("serve --help"), Ok(Command::Help));
        let plugin = Paths::default().plugin;
        assert_eq!(parsed("scan"), Ok(Command::Scan { plugin }));
        let plugin = "/p.so".into();
        assert_eq!(parsed("scan /p.so"), Ok(Command::Scan { plugin }));
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        for (line, says) in [
            ("", "--help"),
            ("frob", "frob"),
            ("serve --frob", "--frob"),
            ("serve --socket", "needs a path"),
            ("serve --socket rel", "absolute"),
            ("describe", "PLUGIN.so"),
            ("describe a b", "\"b\""),
        ] {
            assert!(parsed(line).unwrap_err().contains(says), "{line}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for option in ["--plugin", "--socket", "--mounts", "--help", "--version"] {
            assert!(HELP.contains(option), "{option}");
        }
    }
}
