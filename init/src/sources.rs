//! Where the cloud-config comes from: all sources are gathered in their fixed order, written to
//! `/run/lazarette/config/NN-name.yml`, where core reads them too, and laid over each other.
//!
//! | file | source |
//! |---|---|
//! | `10-image-NAME` | `/usr/share/lazarette/cloud-config.d/NAME` |
//! | `20-conf-NAME` | `/var/lib/lazarette/conf/cloud-config.d/NAME` |
//! | `30-cloud-config` | `/var/lib/lazarette/conf/cloud-config.yml`, what `laz config set` writes |
//! | `40-disk-DEVICE` | a config disk ([`crate::config_disk`]) |
//! | `50-kernel-document` | `cloud-config-base64=` on the kernel command line |
//! | `60-kernel-settings` | `lazarette.a.b=value` on the kernel command line |

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lazarette_core::cloud_config::{
    LARGEST_SOURCE, Loaded, Source, from_kernel_command_line, load, read_directory, read_file,
};

use crate::cmdline::CommandLine;
use crate::config_disk::Search;
use crate::early::make_directory;
use crate::error::{Error, all, chain};
use crate::layout::Layout;

/// All sources in order, each with the name of its file, and what kept others from being read.
#[derive(Debug, Default)]
pub struct Gathered {
    /// File name and source.
    pub sources: Vec<(String, Source)>,
    /// What could not be read, one line each.
    pub problems: Vec<String>,
}

impl Gathered {
    /// Lays the sources over each other. Never fails as a whole; see
    /// [`lazarette_core::cloud_config::load`].
    pub fn merge(&self) -> Loaded {
        let sources: Vec<Source> = self
            .sources
            .iter()
            .map(|(_, source)| source.clone())
            .collect();
        load(&sources, &BTreeMap::new())
    }

    /// Writes the sources for core into `directory`, in place of what was there.
    ///
    /// # Errors
    /// When the directory or a file cannot be written; the others are written all the same.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        // Documents may hold secrets.
        make_directory(directory, 0o700)?;
        let mut failures = Vec::new();
        for path in left_over(directory) {
            if let Err(error) = fs::remove_file(&path) {
                failures.push(chain(&Error::file("remove", path, error)));
            }
        }
        for (name, source) in &self.sources {
            let path = directory.join(name);
            if let Err(error) = write_private(&path, source.text.as_bytes()) {
                failures.push(chain(&Error::file("write", path, error)));
            }
        }
        all(failures)
    }

    fn add(&mut self, file: String, source: Source) {
        self.sources.push((file, source));
    }

    fn add_directory(&mut self, prefix: &str, directory: &Path) {
        let (sources, problems) = read_directory(directory);
        self.problems
            .extend(problems.iter().map(ToString::to_string));
        for source in sources {
            let file = Path::new(&source.name)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy();
            self.add(format!("{prefix}-{file}.yml"), source);
        }
    }

    fn add_bytes(&mut self, file: String, name: String, bytes: &[u8]) {
        if bytes.len() >= LARGEST_SOURCE {
            self.problems
                .push(format!("{name}: {LARGEST_SOURCE} bytes or more; ignored"));
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.add(file, Source::new(name, text)),
            Err(error) => self
                .problems
                .push(format!("{name}: not UTF-8: {error}; ignored")),
        }
    }
}

/// Gathers every source of the machine.
pub fn gather(layout: &Layout, line: &CommandLine, disks: &Search) -> Gathered {
    let mut gathered = Gathered::default();
    let conf = layout.state().join("conf");
    gathered.add_directory(
        "10-image",
        &layout.at("/usr/share/lazarette/cloud-config.d"),
    );
    gathered.add_directory("20-conf", &conf.join("cloud-config.d"));
    let set = conf.join("cloud-config.yml");
    match read_file(&set) {
        Ok(text) => gathered.add(
            "30-cloud-config.yml".into(),
            Source::new(set.display().to_string(), text),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => gathered
            .problems
            .push(format!("{}: {error}; ignored", set.display())),
    }
    gathered.problems.extend(disks.problems.iter().cloned());
    for found in &disks.found {
        let file = format!("40-disk-{}.yml", found.device.replace('!', "-"));
        gathered.add_bytes(file, format!("/dev/{}", found.device), &found.document);
    }
    gathered.problems.extend(line.problems.iter().cloned());
    if let Some(document) = &line.document {
        let name = "cloud-config-base64 on the kernel command line";
        gathered.add_bytes("50-kernel-document.yml".into(), name.into(), document);
    }
    let (settings, problems) = from_kernel_command_line(&line.text);
    gathered
        .problems
        .extend(problems.iter().map(ToString::to_string));
    if let Some(settings) = settings {
        gathered.add("60-kernel-settings.yml".into(), settings);
    }
    gathered
}

fn left_over(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline;
    use crate::config_disk::Found;

    fn put(layout: &Layout, path: &str, text: &str) {
        let path = layout.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn machine() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        let image = "/usr/share/lazarette/cloud-config.d";
        put(
            &layout,
            &format!("{image}/b.yml"),
            "hostname: b\nmodules: [b]\n",
        );
        put(
            &layout,
            &format!("{image}/a.yml"),
            "hostname: a\nmodules: [a]\n",
        );
        put(
            &layout,
            "/var/lib/lazarette/conf/cloud-config.d/x.yml",
            "hostname: x\n",
        );
        put(
            &layout,
            "/var/lib/lazarette/conf/cloud-config.yml",
            "hostname: set\n",
        );
        (root, layout)
    }

    fn disk(document: &[u8]) -> Search {
        Search {
            found: vec![Found {
                device: "vdb".into(),
                document: document.into(),
            }],
            problems: vec![],
        }
    }

    #[test]
    fn later_sources_win_in_the_documented_order() {
        let (_root, layout) = machine();
        let line = cmdline::parse(
            "cloud-config-base64=aG9zdG5hbWU6IGRvY3VtZW50Cg== lazarette.hostname=line",
        );
        let gathered = gather(&layout, &line, &disk(b"#cloud-config\nhostname: disk\n"));
        let names: Vec<&str> = gathered
            .sources
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "10-image-a.yml",
                "10-image-b.yml",
                "20-conf-x.yml",
                "30-cloud-config.yml",
                "40-disk-vdb.yml",
                "50-kernel-document.yml",
                "60-kernel-settings.yml"
            ]
        );
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, names, "core reads the files by name");
        assert_eq!(gathered.problems, Vec::<String>::new());
        for (count, hostname) in [
            (1, "a"),
            (2, "b"),
            (3, "x"),
            (4, "set"),
            (5, "disk"),
            (6, "document"),
            (7, "line"),
        ] {
            let first = Gathered {
                sources: gathered.sources[..count].to_vec(),
                problems: vec![],
            };
            let merged = first.merge().config;
            assert_eq!(merged.hostname.as_deref(), Some(hostname));
        }
        assert_eq!(gathered.merge().config.modules, ["b"]);
    }

    #[test]
    fn what_is_written_reads_back_the_same_and_old_files_are_gone() {
        let (_root, layout) = machine();
        let gathered = gather(&layout, &cmdline::parse(""), &disk(b"hostname: disk\n"));
        put(&layout, "/run/lazarette/config/40-disk-old.yml", "x: 1");
        gathered.write(&layout.config()).unwrap();
        let (sources, problems) = read_directory(&layout.config());
        assert!(problems.is_empty());
        assert_eq!(
            load(&sources, &BTreeMap::new()).config,
            gathered.merge().config
        );
        assert_eq!(sources.len(), 5);
    }

    #[test]
    fn a_bad_source_is_a_problem_and_the_others_apply() {
        let (_root, layout) = machine();
        put(
            &layout,
            "/var/lib/lazarette/conf/cloud-config.yml",
            "hostname: [\n",
        );
        let gathered = gather(&layout, &cmdline::parse(""), &disk(b"\xff\xfe"));
        assert_eq!(gathered.problems.len(), 1, "{:?}", gathered.problems);
        assert!(gathered.problems[0].starts_with("/dev/vdb: not UTF-8"));
        let merged = gathered.merge();
        assert_eq!(merged.config.hostname.as_deref(), Some("x"));
        assert!(!merged.problems.is_empty());
    }
}
