//! Which images may serve their kind. Nothing asks core before an image comes to system Docker, so
//! each is judged when it would be used.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::system_engine::PluginImage;

/// What decides it.
#[derive(Debug, Default)]
pub(super) struct Admission {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// While a plugin is being installed: the images that may serve. One that has just been loaded
    /// waits for its judgement.
    known: Option<BTreeSet<String>>,
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
    /// Lets an image serve from now on.
    pub(super) fn let_in(&self, image: &str) {
        if let Some(known) = &mut self.admission.lock().known {
            known.insert(image.to_owned());
        }
    }
}

impl Drop for Install<'_> {
    fn drop(&mut self) {
        self.admission.lock().known = None;
    }
}

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
        install.let_in("new");
        assert!(!admission.is_pending(&plugin("new")) && admission.is_pending(&plugin("other")));
        drop(install);
        assert!(!admission.is_pending(&plugin("other")));
        drop(admission.turn().await);
    }
}
