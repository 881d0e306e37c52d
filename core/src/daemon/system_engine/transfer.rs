//! Images that come to the system Docker, and go.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::pin;
use std::time::Duration;

use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{StreamExt, stream};
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::SystemEngine;
use super::images::{PluginImage, read};
use crate::built_in::BuiltIn;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::KIND_LABEL;
use crate::name::Kind;

/// For a look.
const LOOK: Duration = Duration::from_secs(30);
/// For an image that comes over a network.
const TRANSFER: Duration = Duration::from_secs(290);

/// An archive, as it comes.
pub type Chunks = mpsc::Receiver<io::Result<Bytes>>;

impl SystemEngine {
    /// Loads an archive as `docker save` makes it; the names or identities of its images.
    ///
    /// # Errors
    /// The engine's; `InvalidArgument` if there is no image in it.
    pub async fn load(&self, chunks: Chunks) -> Result<Vec<String>> {
        let body = stream::unfold(chunks, |mut chunks| async {
            chunks.recv().await.map(|chunk| (chunk, chunks))
        });
        let options = ImportImageOptionsBuilder::new().build();
        let load = self
            .client
            .call("load the image", TRANSFER, |docker| async move {
                let mut answers = pin!(docker.import_image_stream(options, body, None));
                let mut names = Vec::new();
                while let Some(answer) = answers.next().await {
                    names.extend(answer?.stream.as_deref().and_then(loaded));
                }
                Ok(names)
            });
        let names = load.await?;
        if names.is_empty() {
            return Err(Error::invalid("the archive")
                .cause("it has no image")
                .remedy("give a file that docker save or laz plugin pack has written"));
        }
        Ok(names)
    }

    /// Has the engine fetch the image `name` from its registry.
    ///
    /// # Errors
    /// The engine's.
    pub async fn pull(&self, name: &str) -> Result<()> {
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = if last.contains([':', '@']) {
            ""
        } else {
            "latest"
        };
        let options = CreateImageOptionsBuilder::new()
            .from_image(name)
            .tag(tag)
            .build();
        let what = format!("fetch image {name}");
        self.client
            .call(&what, TRANSFER, |docker| async move {
                let mut answers = pin!(docker.create_image(Some(options), None, None));
                while let Some(answer) = answers.next().await {
                    answer?;
                }
                Ok(())
            })
            .await
    }

    /// The plugin that the image `name` serves.
    ///
    /// # Errors
    /// `InvalidArgument` if it serves none; the engine's.
    pub async fn plugin(&self, name: &str) -> Result<PluginImage> {
        let what = format!("find image {name}");
        let found = self
            .client
            .call(&what, LOOK, |docker| async move {
                docker.inspect_image(name).await
            })
            .await?;
        let labels = found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        let image = found.id.unwrap_or_default();
        read(&image, &labels).map_err(|why| {
            Error::invalid(format!("image {name} is no plugin"))
                .cause(why)
                .remedy("make one with laz plugin pack")
        })
    }

    /// The identities of all images.
    ///
    /// # Errors
    /// The engine's.
    pub async fn all_images(&self) -> Result<BTreeSet<String>> {
        Ok(self.image_ids(None).await?.into_iter().collect())
    }

    /// The images that say they serve `kind`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn images_of(&self, kind: &Kind) -> Result<Vec<String>> {
        self.image_ids(Some(format!("{KIND_LABEL}={kind}"))).await
    }

    async fn image_ids(&self, label: Option<String>) -> Result<Vec<String>> {
        let filters: HashMap<_, _> = label
            .map(|label| ("label", vec![label]))
            .into_iter()
            .collect();
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self
            .client
            .call("list its images", LOOK, |docker| async move {
                docker.list_images(Some(options)).await
            })
            .await?;
        Ok(images.into_iter().map(|image| image.id).collect())
    }

    /// The names of the images `of`, each with its image's identity.
    ///
    /// # Errors
    /// The engine's.
    pub async fn names(&self, of: &BuiltIn) -> Result<Vec<(String, String)>> {
        let options = ListImagesOptionsBuilder::new().build();
        let images = self
            .client
            .call("list its images", LOOK, |docker| async move {
                docker.list_images(Some(options)).await
            })
            .await?;
        let ours = images.into_iter().filter(|image| of.contains(&image.id));
        let names = ours.flat_map(|image| {
            let id = image.id;
            image
                .repo_tags
                .into_iter()
                .map(move |name| (name, id.clone()))
        });
        Ok(names.collect())
    }

    /// Gives `names` back to the images that had them: a name goes to the image that was loaded last.
    ///
    /// # Errors
    /// The engine's.
    pub async fn name_again(&self, names: &[(String, String)]) -> Result<()> {
        for (name, image) in names {
            if self.image_id(name).await.is_ok_and(|found| found == *image) {
                continue;
            }
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
            let options = TagImageOptionsBuilder::new()
                .repo(repository)
                .tag(tag)
                .build();
            self.client
                .call(&format!("name image {name}"), LOOK, |docker| async move {
                    docker.tag_image(image, Some(options)).await
                })
                .await?;
        }
        Ok(())
    }

    /// Removes an image with all its names; one that is gone already is fine.
    ///
    /// # Errors
    /// `Busy` if a container is made of it; the engine's.
    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let what = format!("remove image {image}");
        let removed = self
            .client
            .call(&what, LOOK, |docker| async move {
                docker.remove_image(image, Some(options), None).await
            })
            .await;
        match removed {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The image in `Loaded image: NAME` or `Loaded image ID: ID`.
fn loaded(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("Loaded image")?;
    let name = rest
        .strip_prefix(" ID: ")
        .or_else(|| rest.strip_prefix(": "))?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_says_what_it_has_loaded() {
        assert_eq!(loaded("Loaded image: a/b:1\n").as_deref(), Some("a/b:1"));
        assert_eq!(
            loaded("Loaded image ID: sha256:0\n").as_deref(),
            Some("sha256:0")
        );
        assert_eq!(loaded("Loading layer"), None);
    }
}
