//! From the URL of `laz attach` to what it names, by the kind that has the scheme.

use super::options;
use super::requests::Attach;
use super::supervisor::Supervisor;
use crate::control::NewVolume;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, UrlMapping};
use crate::name::{ContextName, Kind, VolumeName};
use serde_json::Value;

/// What a URL names.
#[derive(Debug)]
pub(super) enum UrlTarget {
    /// A volume, and its place below `/mnt`.
    Volume(NewVolume, String),
    /// A whole context.
    Context {
        /// Its name, if it is to be a new one.
        name: ContextName,
        /// Whether the user has chosen that name.
        named: bool,
        /// Its kind.
        kind: Kind,
        /// The options that it must have.
        config: Value,
    },
}

/// The parts of a URL behind its scheme.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    authority: Option<&'a str>,
    root: Option<&'a str>,
    path: Option<&'a str>,
}

impl Supervisor {
    /// What the URL of `attach` names. An authority that is the name of a context of that kind
    /// means that context.
    pub(super) fn url_target(&self, attach: &Attach) -> Result<UrlTarget> {
        let bad = |why: &str| {
            Error::invalid(format!("\"{}\": {why}", attach.url)).remedy("write scheme://where/what")
        };
        let (scheme, rest) = attach
            .url
            .split_once(':')
            .ok_or_else(|| bad("this is no URL"))?;
        let (kind, manifest, mapping) = self.kind_of_scheme(scheme).ok_or_else(|| {
            let error = Error::invalid(format!(
                "\"{}\": no kind of storage has URLs of that scheme",
                attach.url
            ));
            error.remedy(format!("the schemes are: {}", self.schemes().join(", ")))
        })?;
        let parts = parts(rest, mapping).map_err(bad)?;
        match parts.path {
            None => self.whole_context(attach, kind, manifest, mapping, &parts),
            Some(path) => self.single_volume(attach, kind, mapping, &parts, path),
        }
    }

    fn kind_of_scheme(&self, scheme: &str) -> Option<(&Kind, &Manifest, &UrlMapping)> {
        let mut kinds = self.world.kinds.iter();
        kinds.find_map(|(kind, entry)| {
            let mapping = entry.manifest.url.as_ref()?;
            (mapping.scheme == scheme).then_some((kind, &entry.manifest, mapping))
        })
    }

    fn schemes(&self) -> Vec<&str> {
        let mappings = self
            .world
            .kinds
            .values()
            .filter_map(|e| e.manifest.url.as_ref());
        mappings.map(|m| m.scheme.as_str()).collect()
    }

    fn single_volume(
        &self,
        attach: &Attach,
        kind: &Kind,
        mapping: &UrlMapping,
        parts: &Parts<'_>,
        path: &str,
    ) -> Result<UrlTarget> {
        let mut options = attach.options.clone();
        let context = parts
            .authority
            .and_then(|authority| ContextName::new(authority).ok())
            .filter(|n| self.world.contexts.get(n).is_some_and(|c| c.kind == *kind));
        let given = [
            (
                &mapping.authority,
                parts.authority.filter(|_| context.is_none()),
            ),
            (&mapping.root, parts.root),
        ];
        for (option, value) in given {
            if let (Some(option), Some(value)) = (option, value) {
                options.insert(option.clone(), value.into());
            }
        }
        options.insert(mapping.path.clone(), path.into());
        let last = path.trim_end_matches('/').rsplit('/').next();
        let name = match &attach.name {
            Some(name) => name.clone(),
            None => VolumeName::new(last.unwrap_or_default())
                .map_err(|e| e.remedy("give it a name with --name"))?,
        };
        let below = match (&context, parts.root.or(parts.authority)) {
            (Some(context), _) => context.to_string(),
            (None, where_to) => where_to.unwrap_or(kind.as_str()).replace([':', ','], "-"),
        };
        let place = format!("{below}/{name}");
        let new = NewVolume {
            name,
            kind: Some(kind.clone()),
            context,
            options,
        };
        Ok(UrlTarget::Volume(new, place))
    }

    fn whole_context(
        &self,
        attach: &Attach,
        kind: &Kind,
        manifest: &Manifest,
        mapping: &UrlMapping,
        parts: &Parts<'_>,
    ) -> Result<UrlTarget> {
        let mut options = attach.options.clone();
        for (option, value) in [
            (&mapping.authority, parts.authority),
            (&mapping.root, parts.root),
        ] {
            if let (Some(option), Some(value)) = (option, value) {
                options.insert(option.clone(), value.into());
            }
        }
        let sorted = options::sort(manifest, &options).map_err(|e| Error {
            message: format!("\"{}\": {}", attach.url, e.message),
            ..e
        })?;
        if let Some(option) = sorted.volume.keys().next() {
            return Err(Error::invalid(format!(
                "\"{}\": `{option}` is an option of a volume",
                attach.url
            ))
            .cause("the URL names a whole context")
            .remedy("leave it out, or name a volume in the URL"));
        }
        let config = Value::Object(sorted.context);
        crate::cloud_config::check_options(&config, &manifest.context_schema)?;
        let named = attach.name.is_some();
        let name = match &attach.name {
            Some(name) => ContextName::new(name.as_str())?,
            None => slug(parts.root.or(parts.authority).unwrap_or_default())
                .map_err(|e| e.remedy("give it a name with --name"))?,
        };
        Ok(UrlTarget::Context {
            name,
            named,
            kind: kind.clone(),
            config,
        })
    }
}

/// Takes apart what stands behind `scheme:`.
fn parts<'a>(rest: &'a str, mapping: &UrlMapping) -> Result<Parts<'a>, &'static str> {
    let mut parts = Parts::default();
    let mut rest = rest;
    if mapping.authority.is_some() {
        let behind = rest.strip_prefix("//").ok_or("it names no storage")?;
        let (authority, path) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
        if authority.is_empty() {
            return Err("it names no storage");
        }
        parts.authority = Some(authority);
        rest = path;
    } else if let Some(behind) = rest.strip_prefix("//") {
        rest = behind;
    }
    if mapping.root.is_some() {
        let below = rest.trim_start_matches('/');
        let (root, path) = below.split_at(below.find('/').unwrap_or(below.len()));
        if root.is_empty() {
            return Err("it names no storage");
        }
        parts.root = Some(root);
        rest = path.trim_matches('/');
    }
    parts.path = Some(rest).filter(|path| !path.trim_matches('/').is_empty());
    if parts == Parts::default() {
        return Err("it names no storage");
    }
    Ok(parts)
}

/// A context's name out of what the URL names.
fn slug(text: &str) -> Result<ContextName> {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '-',
    };
    let slug: String = text.chars().map(plain).take(63).collect();
    ContextName::new(slug.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(authority: Option<&str>, root: Option<&str>) -> UrlMapping {
        UrlMapping {
            scheme: "x".into(),
            authority: authority.map(Into::into),
            root: root.map(Into::into),
            path: "path".into(),
        }
    }

    fn taken(rest: &str, mapping: &UrlMapping) -> (String, String, String) {
        let parts = parts(rest, mapping).unwrap();
        let text = |part: Option<&str>| part.unwrap_or("-").to_owned();
        (text(parts.authority), text(parts.root), text(parts.path))
    }

    #[test]
    fn urls_are_taken_apart_as_the_contract_says() {
        let nfs = mapping(Some("server"), None);
        let gluster = mapping(Some("servers"), Some("volume"));
        let zfs = mapping(None, Some("pool"));
        for (rest, mapping, authority, root, path) in [
            ("//nas/media", &nfs, "nas", "-", "/media"),
            ("//nas/srv/media/", &nfs, "nas", "-", "/srv/media/"),
            ("//nas", &nfs, "nas", "-", "-"),
            ("//nas/", &nfs, "nas", "-", "-"),
            ("//g1,g2/gv0/apps", &gluster, "g1,g2", "gv0", "apps"),
            ("//g1,g2/gv0/a/b/", &gluster, "g1,g2", "gv0", "a/b"),
            ("//g1,g2/gv0", &gluster, "g1,g2", "gv0", "-"),
            ("tank/media", &zfs, "-", "tank", "media"),
            ("tank/a/b", &zfs, "-", "tank", "a/b"),
            ("tank", &zfs, "-", "tank", "-"),
            ("//tank/", &zfs, "-", "tank", "-"),
        ] {
            let wanted = (authority.into(), root.into(), path.into());
            assert_eq!(taken(rest, mapping), wanted, "{rest}");
        }
        for (rest, mapping) in [
            ("nas/media", &nfs),
            ("///media", &nfs),
            ("", &nfs),
            ("//g1", &gluster),
            ("//g1/", &gluster),
            ("", &zfs),
            ("//", &zfs),
        ] {
            assert!(parts(rest, mapping).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_contexts_name_comes_from_what_is_named() {
        assert_eq!(slug("tank").unwrap().as_str(), "tank");
        assert_eq!(slug("nas.Example").unwrap().as_str(), "nas-example");
        assert_eq!(slug("-g1,g2-").unwrap().as_str(), "g1-g2");
        assert!(slug("").is_err() && slug("...").is_err());
    }
}
