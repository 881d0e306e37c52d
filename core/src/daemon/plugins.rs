//! The plugins that this machine has: shown, installed, replaced and removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use semver::Version;
use tokio::time::{Instant, sleep};

use super::admission::{Candidate, Install};
use super::backend::Backend;
use super::steps::Hands;
use super::supervisor::Supervisor;
use super::system_engine::PluginImage;
use crate::control::{PluginInstall, PluginStatus, Plugins, Problem};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind};
use crate::planner::{Event, KindEntry};

/// How long core may take to see what the engine has been told.
const SEEN: Duration = Duration::from_secs(30);
/// How long the containers of an older image may take to end.
const REPLACED: Duration = Duration::from_secs(60);
/// Between two looks.
const STEP: Duration = Duration::from_millis(100);
/// Which containers have the device serve their mounts themselves.
const FUSE: &str = "/dev/fuse";

impl Supervisor {
    /// The plugins, and what is wrong with images that could be some.
    pub fn plugins(&self) -> Plugins {
        let serving = self.world.kinds.iter();
        let serving = serving.map(|(kind, entry)| self.plugin(kind, entry, None));
        let refused = self.world.refused.iter();
        let refused =
            refused.map(|(kind, known)| self.plugin(kind, &known.entry, Some(&known.why)));
        let mut plugins: Vec<PluginStatus> = serving.chain(refused).collect();
        plugins.sort_by(|a, b| a.kind.cmp(&b.kind));
        Plugins {
            plugins,
            problems: self.image_problems.iter().cloned().collect(),
        }
    }

    fn plugin(&self, kind: &Kind, entry: &KindEntry, refused: Option<&Error>) -> PluginStatus {
        let version = &entry.manifest.version;
        let candidate = Candidate {
            kind,
            version,
            image: &entry.image,
        };
        PluginStatus {
            kind: kind.clone(),
            version: version.clone(),
            image: entry.image.clone(),
            contexts: self.contexts_of(kind),
            manifest: entry.manifest.clone(),
            signature: self.hands.admission.shown(candidate),
            refused: refused.cloned(),
        }
    }

    /// The plugin of `kind` that there is, whether it may serve or not.
    fn installed(&self, kind: &Kind) -> Option<&KindEntry> {
        let refused = self.world.refused.get(kind);
        let serving = self.world.kinds.get(kind);
        serving.or(refused.map(|refused| &refused.entry))
    }

    /// Has what decides on plugins know what the cloud-config says of them and what signatures they
    /// have; if that is news, they are looked at anew.
    pub(super) fn tell_admission(&self) {
        let (policy, signatures) = (self.configuration.signatures(), &self.world.signatures);
        if !self.hands.admission.learn(policy, signatures.clone()) {
            self.hands.look_again.notify_one();
        }
    }

    /// Keeps the signature that has come with `image`, beside those of the images that are `there`.
    fn keep_signature(
        &mut self,
        image: String,
        signature: String,
        mut there: BTreeSet<String>,
    ) -> Result<()> {
        there.insert(image.clone());
        let signed = Event::Signed {
            image,
            signature,
            there,
        };
        self.apply_durably([signed])?;
        self.tell_admission();
        Ok(())
    }

    /// What the plugins say of themselves.
    pub(super) fn manifests(&self) -> Vec<Manifest> {
        let kinds = self.world.kinds.values();
        kinds.map(|kind| kind.manifest.clone()).collect()
    }

    /// What is wrong with images, as `laz status` shows it.
    pub(super) fn plugin_problems(&self) -> impl Iterator<Item = Problem> {
        self.image_problems.iter().map(|message| Problem {
            source: "system Docker".into(),
            line: None,
            path: String::new(),
            message: message.clone(),
        })
    }

    fn contexts_of(&self, kind: &Kind) -> Vec<ContextName> {
        let contexts = self.world.contexts.iter();
        let of_kind = contexts.filter(|(_, context)| context.kind == *kind);
        of_kind.map(|(name, _)| name.clone()).collect()
    }

    /// What `new` would be. Refuses an install of it that would take another plugin's place, and an
    /// upgrade to an older version, or under which containers would lose their mounts.
    fn may_install(&self, new: &PluginImage, wanted: &PluginInstall) -> Result<PluginStatus> {
        let kind = &new.kind;
        let what = || format!("plugin \"{kind}\"");
        let given = wanted.signature.as_deref();
        let admission = &self.hands.admission;
        let signature = admission.judge_given(Candidate::of(new), given)?;
        match self.installed(kind) {
            None if wanted.upgrade => {
                return Err(Error::not_found(what())
                    .cause("it is not installed")
                    .remedy("install it: laz plugin install"));
            }
            Some(old) if old.image != new.image_id && !wanted.upgrade => {
                return Err(Error::new(ErrorKind::AlreadyExists, what())
                    .cause(format!("version {} is installed", old.manifest.version))
                    .remedy("replace it: laz plugin upgrade"));
            }
            Some(old) if old.image == new.image_id => {}
            old => {
                if let Some(removed) = self.world.removed.get(kind) {
                    may_follow(&new.manifest, removed, "was removed", wanted)?;
                }
                if let Some(old) = old {
                    let version = &old.manifest.version;
                    may_follow(&new.manifest, version, "is installed", wanted)?;
                    self.may_end(kind, &old.manifest, wanted)?;
                }
            }
        }
        Ok(PluginStatus {
            kind: kind.clone(),
            version: new.manifest.version.clone(),
            image: new.image_id.clone(),
            contexts: self.contexts_of(kind),
            manifest: new.manifest.clone(),
            signature,
            refused: None,
        })
    }

    /// Refuses to end the containers of a kind under which others would lose their mounts.
    fn may_end(&self, kind: &Kind, manifest: &Manifest, wanted: &PluginInstall) -> Result<()> {
        let served_within = manifest.privileges.devices.iter().any(|d| d == FUSE);
        let users = self.users_of(kind);
        if !served_within || users.is_empty() || wanted.force {
            return Ok(());
        }
        let users: Vec<&str> = users.into_iter().collect();
        Err(Error::new(ErrorKind::Busy, format!("plugin \"{kind}\""))
            .cause(format!(
                "its FUSE clients end with its container, and under them the mounts of {}",
                users.join(", ")
            ))
            .remedy(
                "stop these containers first, or have their mounts replaced under them: --force",
            ))
    }

    /// The containers that use volumes of a kind.
    fn users_of(&self, kind: &Kind) -> BTreeSet<&str> {
        let contexts = self.contexts_of(kind);
        let volumes = self.world.volumes.values();
        let of_kind = volumes.filter(|volume| contexts.contains(&volume.context));
        let users = of_kind.flat_map(|volume| &volume.used_by);
        users.map(String::as_str).collect()
    }

    /// Has the containers of a kind made anew, of the image that serves it now.
    fn renew(&mut self, kind: &Kind) {
        for name in self.contexts_of(kind) {
            self.hands.forget_link(&name);
            self.apply(Event::ContainerLost(name));
        }
    }

    /// Keeps which version of `kind` goes now: an older one is not to come in its place unasked.
    fn keep_version(&mut self, kind: Kind, images: &Images) -> Result<()> {
        let going = self.installed(&kind);
        let going = going.filter(|entry| images.others.contains(&entry.image));
        let Some(version) = going.map(|entry| entry.manifest.version.clone()) else {
            return Ok(());
        };
        match self.world.removed.get(&kind) {
            Some(newer) if is_older(&version, newer) => Ok(()),
            _ => self.apply_durably([Event::Removed(kind, Some(version))]),
        }
    }

    /// Refuses to remove a plugin that is not there, that is part of the OS, or that has contexts.
    fn may_remove(&self, kind: &Kind, images: &Images) -> Result<()> {
        let what = format!("plugin \"{kind}\"");
        if self.installed(kind).is_none() {
            return Err(Error::not_found(what)
                .cause("it is not installed")
                .remedy("laz plugin ls shows those that are"));
        }
        if images.others.is_empty() && !images.of_the_os.is_empty() {
            return Err(Error::invalid(what)
                .cause("it is part of the OS, and stays")
                .remedy("nothing of it runs as long as no context needs it"));
        }
        let contexts: Vec<String> = self
            .contexts_of(kind)
            .iter()
            .map(ToString::to_string)
            .collect();
        if contexts.is_empty() {
            return Ok(());
        }
        let mut remedy =
            "detach it or take it out of the cloud-config first, and remove its volumes".to_owned();
        if let Some(image) = images.of_the_os.first() {
            remedy.push_str("; or put the OS's own in its place: laz plugin upgrade --downgrade ");
            remedy.push_str(image);
        }
        Err(Error::new(ErrorKind::Busy, what)
            .cause(format!("it serves the context {}", contexts.join(", ")))
            .remedy(remedy))
    }
}

/// The images of one kind.
struct Images {
    /// Those that are part of the OS: they stay.
    of_the_os: Vec<String>,
    others: Vec<String>,
}

/// Refuses an older version in the place of `old`, of which `what` is said, whoever signed it: what was
/// mended since would be broken again.
fn may_follow(new: &Manifest, old: &str, said: &str, wanted: &PluginInstall) -> Result<()> {
    if wanted.downgrade || !is_older(&new.version, old) {
        return Ok(());
    }
    let what = format!("plugin \"{}\"", new.kind);
    Err(Error::invalid(what)
        .cause(format!(
            "version {} is older than {old}, which {said}",
            new.version
        ))
        .remedy("if that is what you want: --downgrade"))
}

/// Whether version `new` is older than `old`, as <https://semver.org> orders them. Never, where one of
/// them is not written so: nobody knows then.
fn is_older(new: &str, old: &str) -> bool {
    let both = Version::parse(new).ok().zip(Version::parse(old).ok());
    // What was built from the same source (`+build`) is the same version.
    both.is_some_and(|(new, old)| new.cmp_precedence(&old).is_lt())
}

impl Hands {
    /// Whether the image may serve its kind; if not, why, unless nobody needs to be told.
    pub(super) fn may_serve(&self, image: &PluginImage) -> Result<(), Option<Error>> {
        if self.admission.is_pending(image) {
            return Err(None);
        }
        let judged = self.admission.judge(Candidate::of(image));
        judged.map(drop).map_err(Some)
    }

    /// The images of `kind` on system Docker.
    async fn images_of_kind(&self, kind: &Kind) -> Result<Images> {
        let of_the_os = |image: &String| self.admission.built_in().contains(image);
        let images = self.system.images_of(kind).await?.into_iter();
        let (of_the_os, others) = images.partition(of_the_os);
        Ok(Images { of_the_os, others })
    }

    /// Gives system Docker the image `name`: that of user Docker if it has one, else the registry's.
    /// An image of the OS is there.
    ///
    /// # Errors
    /// `NotFound` if nobody has it; the engines'.
    pub(super) async fn fetch_plugin(&self, name: &str) -> Result<Vec<String>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@-".contains(c);
        if name.is_empty() || name.len() > 255 || name.starts_with('-') || !name.chars().all(plain)
        {
            return Err(
                Error::invalid(format!("image {}", crate::name::quoted(name)))
                    .remedy("give an image's name, such as registry.example/shelves:1.0"),
            );
        }
        if self.admission.built_in().contains(name) {
            return Ok(vec![name.to_owned()]);
        }
        if let Ok(chunks) = self.user.image(name).await {
            return self.system.load(chunks).await;
        }
        match self.system.pull(name).await {
            Ok(()) => {}
            // Somebody may have given it to system Docker itself.
            Err(error) => self
                .system
                .image_id(name)
                .await
                .map(drop)
                .map_err(|_| error)?,
        }
        Ok(vec![name.to_owned()])
    }

    /// The identities of the images `names`.
    ///
    /// # Errors
    /// The engine's, and that of `names`.
    pub(super) async fn images_of(&self, names: Result<Vec<String>>) -> Result<BTreeSet<String>> {
        let mut images = BTreeSet::new();
        for name in names? {
            images.insert(self.system.image_id(&name).await?);
        }
        Ok(images)
    }

    /// Makes the one plugin among `images`, which have just been loaded, serve its kind.
    /// What must not serve, or was only to be looked at, is removed again unless it was there before.
    ///
    /// # Errors
    /// What refuses it; the engine's.
    pub(super) async fn install_plugin(
        &self,
        backend: &Backend,
        images: BTreeSet<String>,
        install: &Install<'_>,
        wanted: PluginInstall,
    ) -> Result<PluginStatus> {
        let look = wanted.look;
        let installed = match images.first() {
            Some(image) if images.len() == 1 => {
                self.put_in_place(backend, image, install, wanted).await
            }
            _ => Err(Error::invalid("the archive")
                .cause(format!("it has {} images, not one", images.len()))
                .remedy("give it the image of one plugin: docker save IMAGE")),
        };
        if installed.is_err() || look {
            for image in images.difference(&install.before) {
                if let Err(error) = self.system.remove_image(image).await {
                    tracing::warn!("{error}");
                }
            }
        }
        installed
    }

    async fn put_in_place(
        &self,
        backend: &Backend,
        image: &str,
        install: &Install<'_>,
        wanted: PluginInstall,
    ) -> Result<PluginStatus> {
        let new = Arc::new(self.system.plugin(image).await?);
        if wanted.expected.as_deref().is_some_and(|id| id != image) {
            return Err(
                Error::invalid(format!("image {}", wanted.image.unwrap_or_default()))
                    .cause("it is another one than was looked at")
                    .remedy("try again"),
            );
        }
        let (asked, look) = (Arc::clone(&new), wanted.look);
        let signature = wanted.signature.clone();
        let may = backend.ask_informed(move |s, reply| {
            super::requests::answer(reply, s.may_install(&asked, &wanted));
        });
        let seen_now = may.await?;
        if look {
            return Ok(seen_now);
        }
        if let Some(signature) = signature {
            let (image, there) = (image.to_owned(), install.before.clone());
            let keep = backend.ask(move |s, reply| {
                super::requests::answer(reply, s.keep_signature(image, signature, there));
            });
            keep.await?;
        }
        let mut others = self.images_of_kind(&new.kind).await?;
        others.others.retain(|other| other != image);
        let served = served_before(backend, &new.kind).await?;
        let replaces =
            !others.others.is_empty() || served.as_deref().is_some_and(|served| served != image);
        let all = [&others.of_the_os[..], &others.others].concat();
        install.let_in(image, &all);
        self.look_again.notify_one();
        let plugin = self.comes_to_serve(backend, &new.kind, image).await?;
        if replaces {
            self.retire(backend, &new.kind, others.others).await?;
        }
        if served.as_deref() != Some(image) {
            let kind = new.kind.clone();
            let installed = backend.ask(move |s, reply| {
                let kept = s.apply_durably([Event::Removed(kind, None)]);
                super::requests::answer(reply, kept);
            });
            installed.await?;
        }
        self.look_again.notify_one();
        Ok(plugin)
    }

    /// Waits until `image` serves `kind`.
    async fn comes_to_serve(
        &self,
        backend: &Backend,
        kind: &Kind,
        image: &str,
    ) -> Result<PluginStatus> {
        let serves = |plugin: &PluginStatus| plugin.image == image && plugin.refused.is_none();
        let seen = self.seen(backend, kind, |found| found.is_some_and(serves));
        if let Ok(Some(plugin)) = seen.await {
            return Ok(plugin);
        }
        let all = backend.look(|s| Ok(s.plugins())).await?;
        let why = all.problems.first();
        Err(
            Error::new(ErrorKind::AlreadyExists, format!("plugin \"{kind}\""))
                .cause(why.map_or("it is not seen", String::as_str))
                .remedy("remove what serves the kind first: laz plugin rm"),
        )
    }

    /// Has the containers of the kind made anew, which may be of other images, and removes those of
    /// them that are `others`.
    async fn retire(&self, backend: &Backend, kind: &Kind, others: Vec<String>) -> Result<()> {
        let kind = kind.clone();
        let renew = backend.ask(move |s, reply| {
            s.renew(&kind);
            super::requests::answer(reply, Ok(()));
        });
        renew.await?;
        for other in others {
            self.remove_unused(&other).await;
        }
        Ok(())
    }

    /// Removes an image as soon as no container is made of it. One that stays does no harm.
    async fn remove_unused(&self, image: &str) {
        let end = Instant::now() + REPLACED;
        while let Err(error) = self.system.remove_image(image).await {
            if Instant::now() > end {
                tracing::warn!("{error}");
                return;
            }
            sleep(STEP).await;
        }
    }

    /// Removes a plugin that no context needs; the OS's own of its kind, which serves it again.
    ///
    /// # Errors
    /// `Busy` naming the contexts; `InvalidArgument` if it is the OS's own; the engine's.
    pub(super) async fn remove_plugin(
        &self,
        backend: &Backend,
        kind: Kind,
    ) -> Result<Option<PluginStatus>> {
        let images = Arc::new(self.images_of_kind(&kind).await?);
        let (asked, there) = (kind.clone(), Arc::clone(&images));
        let may = backend.ask_informed(move |s, reply| {
            let may = s.may_remove(&asked, &there);
            super::requests::answer(reply, may.and_then(|()| s.keep_version(asked, &there)));
        });
        may.await?;
        for image in &images.others {
            self.system.remove_image(image).await?;
        }
        self.look_again.notify_one();
        let (of_the_os, none) = (&images.of_the_os, images.of_the_os.is_empty());
        self.seen(backend, &kind, |found| {
            found.map_or(none, |plugin| of_the_os.contains(&plugin.image))
        })
        .await
    }

    /// Waits until core sees the plugin of `kind` as `wanted`.
    async fn seen(
        &self,
        backend: &Backend,
        kind: &Kind,
        wanted: impl Fn(Option<&PluginStatus>) -> bool,
    ) -> Result<Option<PluginStatus>> {
        let end = Instant::now() + SEEN;
        loop {
            let all = backend.look(|s| Ok(s.plugins())).await?;
            let found = all.plugins.into_iter().find(|plugin| plugin.kind == *kind);
            if wanted(found.as_ref()) {
                return Ok(found);
            }
            if Instant::now() > end {
                let error = Error::new(ErrorKind::Timeout, format!("plugin \"{kind}\""));
                return Err(error.cause("system Docker does not show the change"));
            }
            sleep(STEP).await;
        }
    }
}

/// The image that serves `kind`, or would if it might.
async fn served_before(backend: &Backend, kind: &Kind) -> Result<Option<String>> {
    let kind = kind.clone();
    let image = backend.look(move |s| Ok(s.installed(&kind).map(|entry| entry.image.clone())));
    image.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_comes_in_anothers_place_only_if_that_is_said() {
        let new: Manifest = serde_json::from_value(serde_json::json!({
            "kind": "shelves", "version": "1.5.0", "context_schema": {}, "volume_schema": {},
            "capabilities": [], "privileges": {}
        }))
        .unwrap();
        let mut wanted = PluginInstall::default();
        for before in ["1.4.9", "1.5.0", "latest"] {
            assert!(may_follow(&new, before, "was removed", &wanted).is_ok());
        }
        let error = may_follow(&new, "2.0.0", "was removed", &wanted).unwrap_err();
        assert_eq!(
            error.to_string(),
            "plugin \"shelves\": version 1.5.0 is older than 2.0.0, which was removed; \
             if that is what you want: --downgrade"
        );
        wanted.downgrade = true;
        assert!(may_follow(&new, "2.0.0", "was removed", &wanted).is_ok());
    }

    #[test]
    fn a_version_is_older_only_where_both_are_semantic() {
        for (older, newer) in [
            ("0.9.12", "1.0.0-alpha"),
            ("1.0.0-rc.1", "1.0.0"),
            ("1.2.0", "1.10.0"),
            ("1.0.0+10", "1.0.1"),
        ] {
            assert!(is_older(older, newer) && !is_older(newer, older), "{older}");
        }
        for (one, other) in [
            ("1.0.0+2", "1.0.0+10"),
            ("1.0", "9.0.0"),
            ("latest", "9.0.0"),
            ("99999999999999999999.0.0", "1.0.0"),
        ] {
            assert!(!is_older(one, other) && !is_older(other, one), "{one}");
        }
    }
}
