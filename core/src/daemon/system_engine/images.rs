//! Which kinds there are: what the images' labels say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::ListImagesOptionsBuilder;

use super::SystemEngine;
use crate::built_in::BuiltIn;
use crate::error::{Error, Result};
use crate::manifest::{KIND_LABEL, MANIFEST_LABEL, Manifest};
use crate::name::{Kind, quoted};

const DEADLINE: Duration = Duration::from_secs(30);

/// An image that serves a kind of storage.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginImage {
    /// The kind.
    pub kind: Kind,
    /// The image's identity (`sha256:…`): unlike a tag, always the same image.
    pub image_id: String,
    /// What the plugin says of itself.
    pub manifest: Manifest,
}

/// The images that serve kinds, and what is wrong with others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginImages {
    /// One per kind, ordered by kind.
    pub images: Vec<PluginImage>,
    /// A sentence for each image passed over.
    pub problems: Vec<String>,
    /// The newest image of each kind that none serves because it may not, and why not.
    pub refused: BTreeMap<Kind, (PluginImage, Error)>,
}

impl SystemEngine {
    /// The plugin images the engine has. A bad one is reported and passed over, as is one that
    /// `may` refuses; without an error, it is passed over in silence. Of several of one kind the newest
    /// serves, and one that is part of the OS only where no other may.
    ///
    /// # Errors
    /// The engine's.
    pub async fn plugins(
        &self,
        of_the_os: &BuiltIn,
        may: impl Fn(&PluginImage) -> Result<(), Option<Error>>,
    ) -> Result<PluginImages> {
        let filters = HashMap::from([("label", vec![KIND_LABEL])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self
            .client
            .call("list its images", DEADLINE, |docker| async move {
                docker.list_images(Some(options)).await
            })
            .await?;
        Ok(choose(images, of_the_os, may))
    }

    /// The identity of the image that `name` (a tag or an identity) means.
    ///
    /// # Errors
    /// `NotFound`, and the engine's.
    pub async fn image_id(&self, name: &str) -> Result<String> {
        let found = self
            .client
            .call(
                &format!("find image {name}"),
                DEADLINE,
                |docker| async move { docker.inspect_image(name).await },
            )
            .await?;
        Ok(found.id.unwrap_or_default())
    }
}

fn choose(
    mut images: Vec<ImageSummary>,
    of_the_os: &BuiltIn,
    may: impl Fn(&PluginImage) -> Result<(), Option<Error>>,
) -> PluginImages {
    // Whoever brings an image of a kind that the OS has wants it to serve, whichever was made later.
    images.sort_by_key(|image| {
        let last = of_the_os.contains(&image.id);
        (last, Reverse(image.created), image.id.clone())
    });
    let mut chosen = BTreeMap::<Kind, PluginImage>::new();
    let mut refused = BTreeMap::new();
    let mut problems = Vec::new();
    let mut passed_over = |image: &ImageSummary, why: &str| {
        problems.push(format!("image {} is not used: {why}", shown(image)));
    };
    for image in &images {
        let plugin = match read(&image.id, &image.labels) {
            Ok(plugin) => plugin,
            Err(why) => {
                passed_over(image, &why);
                continue;
            }
        };
        match may(&plugin) {
            Ok(()) => match chosen.get(&plugin.kind) {
                None => {
                    chosen.insert(plugin.kind.clone(), plugin);
                }
                // It waits for the other one to be removed.
                Some(_) if of_the_os.contains(&image.id) => {}
                Some(newer) => {
                    let why = format!(
                        "{} serves {} and is newer; remove one of them",
                        short(&newer.image_id),
                        plugin.kind,
                    );
                    passed_over(image, &why);
                }
            },
            Err(Some(error)) => {
                let why = [error.cause.as_deref(), error.remedy.as_deref()];
                let why: Vec<&str> = why.into_iter().flatten().collect();
                passed_over(image, &why.join("; "));
                let kind = plugin.kind.clone();
                refused.entry(kind).or_insert((plugin, error));
            }
            Err(None) => {}
        }
    }
    refused.retain(|kind, _| !chosen.contains_key(kind));
    PluginImages {
        images: chosen.into_values().collect(),
        problems,
        refused,
    }
}

/// The plugin that the labels of the image `id` describe, or why there is none.
pub(super) fn read(id: &str, labels: &HashMap<String, String>) -> Result<PluginImage, String> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let kind = label(KIND_LABEL).unwrap_or_default();
    let kind = Kind::new(kind).map_err(|error| format!("label {KIND_LABEL}: {error}"))?;
    let manifest = label(MANIFEST_LABEL)
        .ok_or_else(|| format!("it has no label {MANIFEST_LABEL}; rebuild it"))?;
    let manifest: Manifest = serde_json::from_str(manifest).map_err(|error| {
        format!("label {MANIFEST_LABEL}: {error}; rebuild it with this version's plugin host")
    })?;
    if manifest.kind != kind {
        return Err(format!(
            "label {KIND_LABEL} says {}, but its manifest says {}",
            quoted(kind.as_str()),
            quoted(manifest.kind.as_str())
        ));
    }
    manifest
        .privileges
        .check()
        .map_err(|error| error.to_string())?;
    Ok(PluginImage {
        kind,
        image_id: id.to_owned(),
        manifest,
    })
}

/// The image's tag, or its identity if it has none.
fn shown(image: &ImageSummary) -> &str {
    match image.repo_tags.first() {
        Some(tag) if tag != "<none>:<none>" => tag,
        _ => short(&image.id),
    }
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(tag: &str, created: i64, labels: &[(&str, &str)]) -> ImageSummary {
        ImageSummary {
            id: format!("sha256:{created:064}"),
            repo_tags: vec![tag.into()],
            created,
            labels: labels
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            ..ImageSummary::default()
        }
    }

    fn manifest(kind: &str) -> String {
        json!({"kind": kind, "version": "1", "context_schema": {}, "volume_schema": {},
               "capabilities": ["create"], "privileges": {}})
        .to_string()
    }

    fn choose(images: Vec<ImageSummary>) -> PluginImages {
        super::choose(images, &BuiltIn::default(), |_| Ok(()))
    }

    #[test]
    fn the_newest_of_a_kind_serves_and_the_other_is_reported() {
        let text = manifest("nfs");
        let labels = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, text.as_str())];
        let found = choose(vec![image("old:1", 1, &labels), image("new:1", 2, &labels)]);
        assert_eq!(found.images.len(), 1);
        assert!(found.images[0].image_id.ends_with('2'));
        assert_eq!(found.problems.len(), 1);
        assert!(found.problems[0].contains("old:1"), "{:?}", found.problems);
    }

    fn unsigned() -> Error {
        Error::invalid("plugin \"nfs\"").cause("it has no signature")
    }

    #[test]
    fn a_kind_that_none_may_serve_is_told_with_its_newest_image() {
        let text = manifest("nfs");
        let labels = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, text.as_str())];
        let images = vec![image("old:1", 1, &labels), image("new:1", 2, &labels)];
        let none = BuiltIn::default();
        let found = super::choose(images, &none, |_| Err(Some(unsigned())));
        assert_eq!((found.images.len(), found.problems.len()), (0, 2));
        let (plugin, error) = &found.refused[&Kind::new("nfs").unwrap()];
        assert!(plugin.image_id.ends_with('2'));
        assert_eq!(*error, unsigned());
    }

    #[test]
    fn one_that_may_not_serve_leaves_its_place_to_an_older_one() {
        let text = manifest("nfs");
        let labels = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, text.as_str())];
        let images = vec![image("old:1", 1, &labels), image("new:1", 2, &labels)];
        let none = BuiltIn::default();
        let found = super::choose(images, &none, |plugin| {
            match plugin.image_id.ends_with('2') {
                true => Err(Some(unsigned())),
                false => Ok(()),
            }
        });
        assert!(found.images[0].image_id.ends_with('1') && found.refused.is_empty());
        assert_eq!(
            found.problems,
            ["image new:1 is not used: it has no signature"]
        );
    }

    #[test]
    fn an_image_of_the_os_serves_only_where_no_other_may_and_is_no_problem_meanwhile() {
        let text = manifest("nfs");
        let labels = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, text.as_str())];
        let images = |other| vec![image("os:1", 2, &labels), image("other:1", other, &labels)];
        let listed = BuiltIn::parse(&format!("sha256:{:064} os:1", 2));
        for other in [1, 3] {
            let found = super::choose(images(other), &listed, |_| Ok(()));
            assert_eq!(found.images.len(), 1);
            let serves = &found.images[0].image_id;
            assert!(serves.ends_with(&other.to_string()), "{serves}");
            assert!(found.problems.is_empty(), "{:?}", found.problems);
            let found = super::choose(images(other), &listed, |plugin| {
                let may = listed.contains(&plugin.image_id);
                may.then_some(()).ok_or_else(|| Some(unsigned()))
            });
            assert!(found.images[0].image_id.ends_with('2') && found.refused.is_empty());
            let said = ["image other:1 is not used: it has no signature"];
            assert_eq!(found.problems, said);
        }
    }

    #[test]
    fn an_image_that_asks_for_what_nobody_gets_is_not_used_and_the_reason_is_said() {
        for privileges in [
            json!({"host_directories": ["/run"]}),
            json!({"host_files": ["/var/run/docker.sock"]}),
            json!({"host_directories": ["/"]}),
            json!({"capabilities": ["ALL"]}),
        ] {
            let mut text: serde_json::Value = serde_json::from_str(&manifest("nfs")).unwrap();
            text["privileges"] = privileges;
            let text = text.to_string();
            let labels = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, text.as_str())];
            let decent = manifest("nfs");
            let older = [(KIND_LABEL, "nfs"), (MANIFEST_LABEL, decent.as_str())];
            let found = choose(vec![
                image("hostile:2", 2, &labels),
                image("decent:1", 1, &older),
            ]);
            assert_eq!(found.images.len(), 1, "the decent one goes on serving");
            assert!(found.images[0].image_id.ends_with('1'));
            let said = &found.problems[0];
            assert!(
                said.contains("hostile:2") && said.contains("privileges."),
                "{said}"
            );
            assert!(said.contains("no plugin gets that"), "{said}");
        }
    }

    #[test]
    fn a_bad_image_is_reported_and_the_others_serve() {
        let (nfs, zfs) = (manifest("nfs"), manifest("zfs"));
        let found = choose(vec![
            image("good:1", 1, &[(KIND_LABEL, "nfs"), (MANIFEST_LABEL, &nfs)]),
            image(
                "cut:1",
                2,
                &[(KIND_LABEL, "lvm"), (MANIFEST_LABEL, &nfs[..20])],
            ),
            image("bare:1", 3, &[(KIND_LABEL, "lvm")]),
            image("name:1", 4, &[(KIND_LABEL, "../x"), (MANIFEST_LABEL, &nfs)]),
            image("other:1", 5, &[(KIND_LABEL, "nfs"), (MANIFEST_LABEL, &zfs)]),
            image("<none>:<none>", 6, &[(KIND_LABEL, "")]),
        ]);
        assert_eq!(found.images.len(), 1);
        assert_eq!(found.images[0].kind.as_str(), "nfs");
        assert_eq!(found.problems.len(), 5, "{:?}", found.problems);
        for name in ["cut:1", "bare:1", "name:1", "other:1", "000000000000"] {
            assert!(
                found.problems.iter().any(|problem| problem.contains(name)),
                "{name} in {:?}",
                found.problems
            );
        }
    }
}
