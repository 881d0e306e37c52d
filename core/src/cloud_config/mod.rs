//! The cloud-config: one document that says what the machine should be.
//!
//! Several sources make it up, laid over each other in a fixed order ([`load`]). What is wrong in
//! them is told with source, line, path and, where there is one, the name that was probably
//! meant; a bad part is left out and the rest applies.
//!
//! | module | what it is |
//! |---|---|
//! | `model` | the shape of the document |
//! | `outline`, `yaml` | reading a text: limits and lines, values |
//! | `node` | a document that knows where its parts come from |
//! | `merge` | laying sources over each other |
//! | `command_line` | the kernel command line as a source |
//! | `schema`, `validate`, `explain` | the JSON schema, what it finds wrong, and that in plain words |
//! | `rules` | what a JSON schema does not tell: addresses, mount paths |
//! | `check` | all checks together, and taking out what is bad |
//! | `options` | options given as text, typed by a kind's schema |

mod check;
mod command_line;
mod explain;
mod merge;
mod model;
mod node;
mod options;
mod outline;
mod places;
mod rules;
mod schema;
mod validate;
mod yaml;

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod sections_tests;
#[cfg(test)]
mod validate_tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;

use serde::de::DeserializeOwned;

use crate::control::Problem;
use crate::manifest::Manifest;
use crate::name::Kind;

pub use command_line::from_kernel_command_line;
pub use model::*;
pub use options::{
    OptionInfo, check_options, describe_options, laid_over, option_names, typed_options,
    unknown_option,
};
pub use schema::schema;

use node::{Finding, Node, Origin, Path};

/// The largest text of one source, in bytes.
pub const LARGEST_SOURCE: usize = outline::LARGEST_TEXT;

/// The data root of user Docker when the one that was written cannot be understood: no volume can
/// be called so.
const NOWHERE: &str = "?";

/// One text that the configuration is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What problems call it: a file name, as a rule.
    pub name: String,
    /// YAML (or JSON, which is YAML).
    pub text: String,
}

impl Source {
    /// A source called `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// What [`load`] makes of its sources.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What can be used.
    pub config: CloudConfig,
    /// What is wrong, in the order of the sources and their lines. Each part named here is not in
    /// `config`.
    pub problems: Vec<Problem>,
}

/// Lays `sources` over each other, the last one on top, checks the result and leaves out what is
/// bad. Without `kinds` (none known yet) the options of contexts and volumes are not checked.
///
/// Never fails as a whole: a bad context, volume or field is left out alone (a volume also if its
/// context is), a text that is no YAML at all as a whole.
pub fn load(sources: &[Source], kinds: &BTreeMap<Kind, Manifest>) -> Loaded {
    let mut findings = Vec::new();
    let mut document = Node::empty_map(Origin {
        source: 0,
        line: None,
    });
    for (index, source) in sources.iter().enumerate() {
        match yaml::read(&source.text, index, &mut findings) {
            Ok(node) => {
                document = merge::merge(document, node, &Path::default(), &mut findings);
            }
            Err(refused) => findings.push(Finding::ignored(
                Origin {
                    source: index,
                    line: refused.line,
                },
                Path::default(),
                refused.why,
            )),
        }
    }
    check::prune(&mut document, &Path::default());
    // What could not even be read is null in the document: told once.
    let unread: Vec<Path> = findings.iter().map(|found| found.path.clone()).collect();
    let checked = check::check(&document, kinds).into_iter();
    findings.extend(checked.filter(|found| !unread.contains(&found.path)));
    let data_root = document.at(&rules::data_root_path()).is_some();
    let unclear = rules::signatures_are_unclear(&findings);
    check::take_out(&mut document, &mut findings);
    let mut config = build(&document, &mut findings);
    if data_root && config.lazarette.docker.data_root.is_none() {
        // Docker must not fill another place instead: it waits for what is nowhere.
        config.lazarette.docker.data_root = Some(NOWHERE.into());
    }
    // What was meant to keep plugins out must not let them in because of a mistake in it.
    config.lazarette.plugins.require_signature |= unclear;
    Loaded {
        config,
        problems: problems(sources, findings),
    }
}

/// What is wrong with `text` by itself, as `laz config validate` tells it.
pub fn check(source: &Source, kinds: &BTreeMap<Kind, Manifest>) -> Vec<Problem> {
    load(std::slice::from_ref(source), kinds).problems
}

/// What is wrong with `sources[candidate]` as one of `sources`: what it says wrongly itself, and
/// what goes wrong elsewhere because of it. What it refers to may be in another source.
pub fn check_among(
    sources: &[Source],
    candidate: usize,
    kinds: &BTreeMap<Kind, Manifest>,
) -> Vec<Problem> {
    let Some(name) = sources.get(candidate).map(|source| &source.name) else {
        return Vec::new();
    };
    let mut others = sources.to_vec();
    others.remove(candidate);
    let known = load(&others, kinds).problems;
    let mut problems = load(sources, kinds).problems;
    problems.retain(|problem| problem.source == *name || !known.contains(problem));
    problems
}

/// The cloud-configs in directory `dir` (`*.yml`, `*.yaml`) in the order of their names. A file
/// that cannot be read is left out and told; a directory that is not there holds none.
pub fn read_directory(dir: &FilePath) -> (Vec<Source>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut problem = |path: &FilePath, error: &dyn std::fmt::Display| {
        problems.push(Problem {
            source: path.display().to_string(),
            line: None,
            path: String::new(),
            message: format!("cannot be read: {error}"),
        });
    };
    let mut paths = Vec::new();
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => paths.push(entry.path()),
                    Err(error) => problem(dir, &error),
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problem(dir, &error),
    }
    paths.retain(|path| {
        matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("yml" | "yaml")
        )
    });
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(text) => sources.push(Source::new(path.display().to_string(), text)),
            Err(error) => problem(&path, &error),
        }
    }
    (sources, problems)
}

/// Reads a cloud-config file, [`LARGEST_SOURCE`] at most.
///
/// # Errors
/// Those of the file system, and `InvalidData` if it is too large or no UTF-8.
pub fn read_file(path: &FilePath) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let limit = LARGEST_SOURCE as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST_SOURCE {
        let message = "larger than 1 MiB";
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            message,
        ));
    }
    String::from_utf8(bytes)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// Puts the configuration together part by part, so that no part can spoil another one.
fn build(document: &Node, findings: &mut Vec<Finding>) -> CloudConfig {
    let mut parts = Parts { document, findings };
    let interfaces = Path::of(&["network", "interfaces"]);
    CloudConfig {
        hostname: parts.part(&Path::of(&["hostname"])),
        modules: parts.part(&Path::of(&["modules"])),
        network: Network {
            interfaces: parts
                .fields(&interfaces)
                .into_iter()
                .filter_map(|name| {
                    Some((
                        name.clone(),
                        parts.part::<Option<_>>(&interfaces.key(&name))?,
                    ))
                })
                .collect(),
            nameservers: parts.part(&Path::of(&["network", "nameservers"])),
            search: parts.part(&Path::of(&["network", "search"])),
            hosts: parts.part(&Path::of(&["network", "hosts"])),
        },
        lazarette: Lazarette {
            docker: UserDocker {
                args: parts.part(&Path::of(&["lazarette", "docker", "args"])),
                wait_seconds: parts.part(&Path::of(&["lazarette", "docker", "wait_seconds"])),
                data_root: parts.part(&rules::data_root_path()),
            },
            storage: Storage {
                contexts: parts.named(&check::contexts_path()),
                mount_roots: parts.part(&Path::of(&["lazarette", "storage", "mount_roots"])),
                volumes: parts.named(&check::volumes_path()),
            },
            plugins: Plugins {
                require_signature: parts.part(&rules::plugins_path().key("require_signature")),
                keys: parts.part(&rules::plugins_path().key("keys")),
            },
            console: parts.part(&Path::of(&["lazarette", "console"])),
        },
        services: parts.part(&Path::of(&["services"])),
        runcmd: parts.part(&Path::of(&["runcmd"])),
    }
}

struct Parts<'a> {
    document: &'a Node,
    findings: &'a mut Vec<Finding>,
}

impl Parts<'_> {
    /// The part at `path`; its default if it is not there or, against all checks, does not fit.
    fn part<T: DeserializeOwned + Default>(&mut self, path: &Path) -> T {
        let Some(node) = self.document.at(path) else {
            return T::default();
        };
        serde_json::from_value(node.to_json()).unwrap_or_else(|error| {
            self.findings
                .push(Finding::new(node.origin, path.clone(), error.to_string()));
            T::default()
        })
    }

    fn fields(&self, path: &Path) -> Vec<String> {
        let entries = self.document.at(path).and_then(Node::entries);
        entries
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The map at `path`, each entry by itself.
    fn named<K, T>(&mut self, path: &Path) -> BTreeMap<K, T>
    where
        K: TryFrom<String, Error = crate::Error> + Ord,
        T: DeserializeOwned,
    {
        let mut map = BTreeMap::new();
        for name in self.fields(path) {
            let below = path.key(&name);
            let key = match K::try_from(name) {
                Ok(key) => key,
                Err(error) => {
                    let origin = self.document.origin_at(&below);
                    self.findings
                        .push(Finding::new(origin, below, error.to_string()));
                    continue;
                }
            };
            if let Some(value) = self.part::<Option<T>>(&below) {
                map.insert(key, value);
            }
        }
        map
    }
}

/// What was found, as it is told; each thing once.
fn problems(sources: &[Source], findings: Vec<Finding>) -> Vec<Problem> {
    let mut findings = findings;
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.origin.source, finding.origin.line);
        key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
    });
    let mut problems: Vec<Problem> = findings
        .into_iter()
        .map(|finding| Problem {
            source: sources
                .get(finding.origin.source)
                .map_or_else(String::new, |source| source.name.clone()),
            line: finding.origin.line,
            path: finding.path.to_string(),
            message: finding.message,
        })
        .collect();
    problems.dedup();
    problems
}
