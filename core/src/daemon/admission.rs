//! Which images may serve their kind. Nothing asks core before an image comes to system Docker, so
//! each is judged when it would be used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::system_engine::PluginImage;
use crate::built_in::BuiltIn;
use crate::control::PluginSignature;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Kind;
use crate::signature::{self, KeyId, Policy, Wrong};

/// What decides it.
#[derive(Debug, Default)]
pub(super) struct Admission {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
    /// The images that are part of the OS.
    built_in: BuiltIn,
}

#[derive(Debug, Default)]
struct State {
    /// While a plugin is being installed: the images that may serve. One that has just been loaded
    /// waits for its judgement.
    known: Option<BTreeSet<String>>,
    /// What the cloud-config in force says of signatures.
    policy: Policy,
    /// The signatures that came with images, by the images' identities.
    signatures: BTreeMap<String, String>,
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The kind that it serves.
    pub(super) kind: &'a Kind,
    /// The plugin's version.
    pub(super) version: &'a str,
    /// The image's identity.
    pub(super) image: &'a str,
}

impl<'a> Candidate<'a> {
    /// That of an image.
    pub(super) fn of(plugin: &'a PluginImage) -> Self {
        Self {
            kind: &plugin.kind,
            version: &plugin.manifest.version,
            image: &plugin.image_id,
        }
    }
}

/// An install under way. Its images may not serve until one is [let in](Self::let_in); once it is
/// dropped, all there are may.
pub(super) struct Install<'a> {
    admission: &'a Admission,
    /// The images that were there before.
    pub(super) before: BTreeSet<String>,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Admission {
    /// One that takes the images listed in the file `built_in` for parts of the OS. The file is the
    /// system administrator's alone; without it no image is.
    pub(super) fn new(built_in: &Path) -> Self {
        let listed = BuiltIn::read(built_in).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!("{}: {error}", built_in.display());
            }
            BuiltIn::default()
        });
        Self {
            built_in: listed,
            ..Self::default()
        }
    }

    /// The images that are part of the OS.
    pub(super) fn built_in(&self) -> &BuiltIn {
        &self.built_in
    }

    /// Takes in what signatures there are, and what is said of them. Whether it was said already.
    pub(super) fn learn(&self, policy: Policy, signatures: BTreeMap<String, String>) -> bool {
        let mut state = self.lock();
        let same = state.policy == policy && state.signatures == signatures;
        (state.policy, state.signatures) = (policy, signatures);
        same
    }

    /// Whose the plugin is, if it may serve as far as signatures go.
    ///
    /// # Errors
    /// `PermissionDenied` with what is missing or wrong.
    pub(super) fn judge(&self, plugin: Candidate<'_>) -> Result<PluginSignature> {
        let state = self.lock();
        if self.built_in.contains(plugin.image) {
            return Ok(PluginSignature::BuiltIn);
        }
        let signature = state.signatures.get(plugin.image);
        let verified = verify(&state.policy, plugin, signature.map(String::as_str));
        match verified {
            Ok(key) => Ok(PluginSignature::Verified {
                key: key.to_string(),
            }),
            Err(wrong) if state.policy.required => Err(wrong.error(plugin.kind, plugin.image)),
            Err(wrong) => Ok(shown(&wrong)),
        }
    }

    /// What is shown of whose the plugin is, also if it may not serve.
    pub(super) fn shown(&self, plugin: Candidate<'_>) -> PluginSignature {
        self.judge(plugin).unwrap_or_else(|_| {
            let state = self.lock();
            let signature = state.signatures.get(plugin.image).map(String::as_str);
            match verify(&state.policy, plugin, signature) {
                Ok(key) => PluginSignature::Verified {
                    key: key.to_string(),
                },
                Err(wrong) => shown(&wrong),
            }
        })
    }

    /// The same as [`judge`](Self::judge) with a signature that is not kept yet, which must be right
    /// if there are keys to check it with.
    ///
    /// # Errors
    /// As `judge`.
    pub(super) fn judge_given(
        &self,
        plugin: Candidate<'_>,
        given: Option<&str>,
    ) -> Result<PluginSignature> {
        let Some(given) = given else {
            return self.judge(plugin);
        };
        let state = self.lock();
        if self.built_in.contains(plugin.image) {
            return Ok(PluginSignature::BuiltIn);
        }
        match verify(&state.policy, plugin, Some(given)) {
            Ok(key) => Ok(PluginSignature::Verified {
                key: key.to_string(),
            }),
            Err(Wrong::UnknownKey(key))
                if state.policy.keys.is_empty() && !state.policy.required =>
            {
                Ok(shown(&Wrong::UnknownKey(key)))
            }
            Err(wrong) => Err(wrong.error(plugin.kind, plugin.image)),
        }
    }

    /// Whether the image called `name`, with the identity `image`, may build kernel modules: where
    /// signatures are required, what runs is what was signed, and a name alone says nothing of that.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(super) fn may_build(&self, name: &str, image: &str) -> Result<()> {
        if !self.lock().policy.required || self.built_in.contains(image) || name == image {
            return Ok(());
        }
        let what = format!("image {name}, which builds kernel modules");
        Err(Error::new(ErrorKind::PermissionDenied, what)
            .cause(
                "lazarette.plugins.require_signature asks for signatures, \
                 and the plugin's is not of this image",
            )
            .remedy(
                "install the modules, or a plugin that names its builder by identity (sha256:…)",
            ))
    }

    /// Waits for its turn: one plugin is installed at a time.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Begins an install on top of the images `before`.
    pub(super) fn begin<'a>(
        &'a self,
        turn: tokio::sync::MutexGuard<'a, ()>,
        before: BTreeSet<String>,
    ) -> Install<'a> {
        self.lock().known = Some(before.clone());
        Install {
            admission: self,
            before,
            _turn: turn,
        }
    }

    /// Whether `plugin` is only being looked at so far.
    pub(super) fn is_pending(&self, plugin: &PluginImage) -> bool {
        let state = self.lock();
        let known = state.known.as_ref();
        known.is_some_and(|known| !known.contains(&plugin.image_id))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Install<'_> {
    /// Lets an image serve from now on, and those no longer in whose place it comes: of two of one kind
    /// the one that was made later would serve, whichever is wanted.
    pub(super) fn let_in(&self, image: &str, instead_of: &[String]) {
        if let Some(known) = &mut self.admission.lock().known {
            known.retain(|known| !instead_of.contains(known));
            known.insert(image.to_owned());
        }
    }
}

impl Drop for Install<'_> {
    fn drop(&mut self) {
        self.admission.lock().known = None;
    }
}

fn verify(policy: &Policy, plugin: Candidate<'_>, signature: Option<&str>) -> Result<KeyId, Wrong> {
    let statement = signature::statement(plugin.kind, plugin.version, plugin.image);
    policy.verify(&statement, signature.ok_or(Wrong::Missing)?)
}

fn shown(wrong: &Wrong) -> PluginSignature {
    match wrong {
        Wrong::Missing => PluginSignature::Missing,
        Wrong::UnknownKey(key) => PluginSignature::Unchecked {
            key: key.to_string(),
        },
        Wrong::Unreadable | Wrong::Legacy | Wrong::Mismatch(_) => PluginSignature::Wrong,
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod signature_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn plugin(image: &str) -> PluginImage {
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
            "capabilities": [], "privileges": {}
        }))
        .unwrap();
        PluginImage {
            kind: manifest.kind.clone(),
            image_id: image.into(),
            manifest,
        }
    }

    #[tokio::test]
    async fn an_image_that_is_being_installed_does_not_serve_before_it_is_let_in() {
        let admission = Admission::default();
        assert!(!admission.is_pending(&plugin("new")));
        let turn = admission.turn().await;
        let install = admission.begin(turn, BTreeSet::from(["old".into()]));
        assert!(admission.is_pending(&plugin("new")) && !admission.is_pending(&plugin("old")));
        install.let_in("new", &["old".into()]);
        assert!(!admission.is_pending(&plugin("new")) && admission.is_pending(&plugin("other")));
        assert!(
            admission.is_pending(&plugin("old")),
            "its place is the new one's"
        );
        drop(install);
        for image in ["other", "old"] {
            assert!(!admission.is_pending(&plugin(image)), "{image}");
        }
        drop(admission.turn().await);
    }
}
