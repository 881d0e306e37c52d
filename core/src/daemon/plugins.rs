//! The plugins that this machine has: shown, installed, replaced and removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::admission::Install;
use super::backend::Backend;
use super::steps::Hands;
use super::supervisor::Supervisor;
use super::system_engine::PluginImage;
use crate::control::{PluginInstall, PluginStatus, Plugins, Problem};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind};
use crate::planner::Event;

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
        let plugins = self.world.kinds.iter().map(|(kind, entry)| PluginStatus {
            kind: kind.clone(),
            version: entry.manifest.version.clone(),
            image: entry.image.clone(),
            contexts: self.contexts_of(kind),
            manifest: entry.manifest.clone(),
        });
        Plugins {
            plugins: plugins.collect(),
            problems: self.image_problems.iter().cloned().collect(),
        }
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
    /// upgrade under which containers would lose their mounts.
    fn may_install(&self, new: &PluginImage, wanted: &PluginInstall) -> Result<PluginStatus> {
        let kind = &new.kind;
        let what = || format!("plugin \"{kind}\"");
        match self.world.kinds.get(kind) {
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
            Some(old) if old.image != new.image_id => self.may_end(kind, &old.manifest, wanted)?,
            _ => {}
        }
        Ok(PluginStatus {
            kind: kind.clone(),
            version: new.manifest.version.clone(),
            image: new.image_id.clone(),
            contexts: self.contexts_of(kind),
            manifest: new.manifest.clone(),
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

    /// Refuses to remove a plugin that is not there, or that has contexts.
    fn may_remove(&self, kind: &Kind) -> Result<()> {
        let what = format!("plugin \"{kind}\"");
        if !self.world.kinds.contains_key(kind) {
            return Err(Error::not_found(what)
                .cause("it is not installed")
                .remedy("laz plugin ls shows those that are"));
        }
        let contexts: Vec<String> = self
            .contexts_of(kind)
            .iter()
            .map(ToString::to_string)
            .collect();
        match contexts.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Busy, what)
                .cause(format!("it serves the context {}", contexts.join(", ")))
                .remedy(
                    "detach it or take it out of the cloud-config first, and remove its volumes",
                )),
        }
    }
}

impl Hands {
    /// Whether the image may serve its kind; if not, why, unless nobody needs to be told.
    pub(super) fn may_serve(&self, image: &PluginImage) -> Result<(), Option<String>> {
        match self.admission.is_pending(image) {
            true => Err(None),
            false => Ok(()),
        }
    }

    /// Gives system Docker the image `name`: that of user Docker if it has one, else the registry's.
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

    /// Makes the one plugin among the images `names`, which have just been loaded, serve its kind.
    /// What must not serve, or was only to be looked at, is removed again unless it was there before.
    ///
    /// # Errors
    /// What refuses it; the engine's.
    pub(super) async fn install_plugin(
        &self,
        backend: &Backend,
        names: Vec<String>,
        install: &Install<'_>,
        wanted: PluginInstall,
    ) -> Result<PluginStatus> {
        let look = wanted.look;
        let mut images = BTreeSet::new();
        for name in &names {
            images.insert(self.system.image_id(name).await?);
        }
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
        let may = backend.ask_informed(move |s, reply| {
            super::requests::answer(reply, s.may_install(&asked, &wanted));
        });
        let seen_now = may.await?;
        if look {
            return Ok(seen_now);
        }
        install.let_in(image);
        let kind = new.kind.clone();
        self.look_again.notify_one();
        let serves = |plugin: &PluginStatus| plugin.image == image;
        let plugin = self
            .seen(backend, &kind, |found| found.is_some_and(serves))
            .await;
        let Ok(Some(plugin)) = plugin else {
            let all = backend.look(|s| Ok(s.plugins())).await?;
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("plugin \"{kind}\""))
                    .cause(
                        all.problems
                            .first()
                            .map_or("it is not seen", String::as_str),
                    )
                    .remedy("remove what serves the kind first: laz plugin rm"),
            );
        };
        let renewed = kind.clone();
        let before: Vec<_> = self.system.images_of(&kind).await?;
        let older: Vec<_> = before.into_iter().filter(|other| other != image).collect();
        if !older.is_empty() {
            let renew = backend.ask(move |s, reply| {
                s.renew(&renewed);
                super::requests::answer(reply, Ok(()));
            });
            renew.await?;
        }
        for older in older {
            self.remove_unused(&older).await;
        }
        self.look_again.notify_one();
        Ok(plugin)
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

    /// Removes a plugin that no context needs.
    ///
    /// # Errors
    /// `Busy` naming the contexts; the engine's.
    pub(super) async fn remove_plugin(&self, backend: &Backend, kind: Kind) -> Result<()> {
        let asked = kind.clone();
        let may = backend
            .ask_informed(move |s, reply| super::requests::answer(reply, s.may_remove(&asked)));
        may.await?;
        for image in self.system.images_of(&kind).await? {
            self.system.remove_image(&image).await?;
        }
        self.look_again.notify_one();
        self.seen(backend, &kind, |found| found.is_none())
            .await
            .map(drop)
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
