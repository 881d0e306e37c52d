//! The storage containers: one per context, made, replaced and removed.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt, stream};

use super::spec::container_name;
use super::{CONTEXT_LABEL, ContainerSpec, SPEC_LABEL, SystemEngine};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ContextName;
use crate::volume::Removed;

/// For what the engine answers from memory.
const LOOK: Duration = Duration::from_secs(20);
/// For what it does work for.
const WORK: Duration = Duration::from_secs(90);

/// A storage container as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The context it serves.
    pub context: ContextName,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// What it ended with, if it has run and ended.
    pub exit_code: Option<i64>,
    /// How it was made: to be compared with [`ContainerSpec::hash`].
    pub spec_hash: String,
}

/// A container that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Its identity.
    pub id: String,
    /// Its first process, as the engine's PID namespace counts.
    pub pid: i32,
    /// What had to be done.
    pub how: How,
}

/// What had to be done to have a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// There was none.
    Created,
    /// There was one made another way.
    Replaced,
    /// It was there, but did not run.
    Started,
    /// Nothing.
    AlreadyRunning,
}

impl SystemEngine {
    /// Sees to it that the context's container runs and is as `spec` says. One made another way
    /// is stopped (with its own grace), removed and made anew.
    ///
    /// # Errors
    /// The engine's; `NotFound` if the image is gone; `AlreadyExists` if a container that is not
    /// ours has the name.
    pub async fn ensure_container(&self, spec: &ContainerSpec) -> Result<Ensured> {
        let hash = spec.hash();
        let mut how = How::Created;
        let mut keep = None;
        for found in self.summaries(Some(&spec.context)).await? {
            let fits = label(&found, SPEC_LABEL) == hash && is_usable(&found);
            if fits && keep.is_none() {
                keep = Some(found);
            } else {
                how = How::Replaced;
                self.remove(&found.id.unwrap_or_default(), spec.grace)
                    .await?;
            }
        }
        let id = match keep {
            Some(found) => {
                let running = found.state == Some(ContainerSummaryStateEnum::RUNNING);
                how = if running {
                    How::AlreadyRunning
                } else {
                    How::Started
                };
                found.id.unwrap_or_default()
            }
            None => self.create(spec).await?,
        };
        if how != How::AlreadyRunning {
            self.start(&spec.context, &id).await?;
        }
        let pid = self.first_process(&id).await?;
        Ok(Ensured { id, pid, how })
    }

    /// All storage containers, running or not.
    ///
    /// # Errors
    /// The engine's.
    pub async fn containers(&self) -> Result<Vec<Container>> {
        let mut containers = Vec::new();
        for found in self.summaries(None).await? {
            let context = label(&found, CONTEXT_LABEL);
            let Ok(context) = ContextName::new(context) else {
                tracing::warn!(
                    "a container's label {CONTEXT_LABEL} is no context name: {context:?}"
                );
                continue;
            };
            let id = found.id.clone().unwrap_or_default();
            let running = found.state == Some(ContainerSummaryStateEnum::RUNNING);
            let exit_code = match running {
                true => None,
                false => self.exit_code(&id).await?,
            };
            containers.push(Container {
                context,
                name: name(&found),
                running,
                exit_code,
                spec_hash: label(&found, SPEC_LABEL).to_owned(),
                id,
            });
        }
        containers.sort_by(|a, b| (&a.context, &a.id).cmp(&(&b.context, &b.id)));
        Ok(containers)
    }

    /// Stops the context's container, giving it `grace` to close the context, and removes it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn stop_and_remove(&self, context: &ContextName, grace: Duration) -> Result<Removed> {
        let mut removed = Removed::AlreadyAbsent;
        for found in self.summaries(Some(context)).await? {
            self.remove(&found.id.unwrap_or_default(), grace).await?;
            removed = Removed::Removed;
        }
        Ok(removed)
    }

    /// The lines the context's container has written: the last `tail` of them or all that is
    /// kept, and with `follow` also those to come, until the container ends.
    ///
    /// # Errors
    /// `NotFound` if the context has no container; the engine's.
    pub async fn logs(
        &self,
        context: &ContextName,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<String>> + Send + use<>> {
        let found = self.summaries(Some(context)).await?.into_iter().next();
        let id = found.and_then(|container| container.id).ok_or_else(|| {
            Error::not_found(format!("context \"{context}\" has no container, so no log"))
                .remedy("see `laz status` for why it has not been started")
        })?;
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(follow)
            .tail(&tail)
            .build();
        let docker = self.client.docker().await?;
        let chunks = docker.logs(&id, Some(options));
        let client = self.client.clone();
        Ok(chunks.flat_map(move |chunk| match chunk {
            Ok(chunk) => stream::iter(lines(&chunk)),
            Err(error) => stream::iter(vec![Err(client.error("read a container's log", &error))]),
        }))
    }

    /// Our containers, by label: all, or those of one context. The running one first.
    async fn summaries(&self, context: Option<&ContextName>) -> Result<Vec<ContainerSummary>> {
        let wanted = match context {
            Some(context) => format!("{CONTEXT_LABEL}={context}"),
            None => CONTEXT_LABEL.to_owned(),
        };
        let filters = HashMap::from([("label", vec![wanted])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let mut found = self
            .client
            .call("list its containers", LOOK, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        found.sort_by_key(|c| c.state != Some(ContainerSummaryStateEnum::RUNNING));
        Ok(found)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let name = spec.container_name();
        spec.make_host_directories()?;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = spec.body();
        let created = self
            .client
            .call(
                &format!("create container {name}"),
                WORK,
                |docker| async move { docker.create_container(Some(options), body).await },
            )
            .await;
        match created {
            Ok(created) => {
                for warning in &created.warnings {
                    tracing::warn!(context = %spec.context, "system Docker warns: {warning}");
                }
                Ok(created.id)
            }
            Err(error) if error.kind == ErrorKind::Busy => Err(Error {
                kind: ErrorKind::AlreadyExists,
                ..error
            }
            .remedy(format!(
                "rename or remove the container {name} of system Docker"
            ))),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Err(error.remedy("load the plugin's image into system Docker again"))
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, context: &ContextName, id: &str) -> Result<()> {
        let what = format!("start container {}", container_name(context));
        self.client
            .call(&what, WORK, |docker| async move {
                docker.start_container(id, None).await
            })
            .await
    }

    /// Stops and removes a container; one that is gone already is fine.
    pub(super) async fn remove(&self, id: &str, grace: Duration) -> Result<()> {
        let short = id.get(..12).unwrap_or(id);
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stopped = self
            .client
            .call(
                &format!("stop container {short}"),
                WORK + grace,
                |docker| async move { docker.stop_container(id, Some(options)).await },
            )
            .await;
        match stopped {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            // It is killed by the removal.
            Err(error) => tracing::warn!("{error}"),
        }
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let removed = self
            .client
            .call(
                &format!("remove container {short}"),
                WORK,
                |docker| async move { docker.remove_container(id, Some(options)).await },
            )
            .await;
        match removed {
            Ok(()) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            // Somebody else is removing it.
            Err(error) if error.kind == ErrorKind::Busy => self.gone(id, error).await,
            Err(error) => Err(error),
        }
    }

    /// Waits until a container that is being removed is gone; else the error is `why`.
    async fn gone(&self, id: &str, why: Error) -> Result<()> {
        for _ in 0..50 {
            match self.inspect(id).await {
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        Err(why)
    }

    async fn first_process(&self, id: &str) -> Result<i32> {
        let state = self.inspect(id).await?.state.unwrap_or_default();
        match state.pid.and_then(|pid| i32::try_from(pid).ok()) {
            Some(pid) if pid > 0 => Ok(pid),
            _ => {
                let code = state.exit_code.unwrap_or_default();
                let short = id.get(..12).unwrap_or(id);
                Err(Error::new(
                    ErrorKind::Plugin,
                    format!("storage container {short} ended at once with exit code {code}"),
                )
                .remedy("see `laz logs` of its context"))
            }
        }
    }

    async fn exit_code(&self, id: &str) -> Result<Option<i64>> {
        match self.inspect(id).await {
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                let never_ran = state
                    .status
                    .is_none_or(|status| status.as_ref() == "created");
                Ok(state.exit_code.filter(|_| !never_ran))
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse> {
        self.client
            .call("inspect a container", LOOK, |docker| async move {
                docker.inspect_container(id, None).await
            })
            .await
    }
}

/// Whether it can be started or runs: not paused, dead or on its way out.
fn is_usable(container: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum::{CREATED, EXITED, RUNNING};
    matches!(container.state, Some(CREATED | EXITED | RUNNING))
}

fn label<'a>(container: &'a ContainerSummary, name: &str) -> &'a str {
    let labels = container.labels.as_ref();
    labels
        .and_then(|labels| labels.get(name))
        .map_or("", String::as_str)
}

fn name(container: &ContainerSummary) -> String {
    let names = container.names.as_deref().unwrap_or_default();
    let name = names.first().map_or("", String::as_str);
    name.trim_start_matches('/').to_owned()
}

/// The lines in one chunk of a log.
fn lines(chunk: &LogOutput) -> Vec<Result<String>> {
    let text = String::from_utf8_lossy(chunk.as_ref());
    text.lines().map(|line| Ok(line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_cut_into_lines_whatever_its_bytes() {
        let chunk = |bytes: &'static [u8]| LogOutput::StdErr {
            message: bytes.into(),
        };
        let cut = |bytes| -> Vec<String> {
            lines(&chunk(bytes))
                .into_iter()
                .map(Result::unwrap)
                .collect()
        };
        assert_eq!(cut(b"one\n"), ["one"]);
        assert_eq!(cut(b"one\r\ntwo"), ["one", "two"]);
        assert_eq!(cut(b"\xff\n"), ["\u{fffd}"]);
        assert!(cut(b"").is_empty());
    }
}
