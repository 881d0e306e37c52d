//! Containers that do one thing and end: looking for storage, building kernel modules.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
};
use futures_util::StreamExt;

use super::spec::{ContainerSpec, bind};
use super::{ONE_SHOT_LABEL, SystemEngine};
use crate::error::{Error, ErrorKind, Result};

/// For what the engine does work for.
const WORK: Duration = Duration::from_secs(90);
/// So much of what it writes is kept.
const MOST_OUTPUT: usize = 1 << 20;
/// So many of its last lines are told when it fails.
const TOLD_LINES: usize = 12;

/// A container that does one thing.
pub struct OneShot {
    /// Its name: of two with one name, the older is removed.
    pub name: String,
    body: ContainerCreateBody,
}

/// What it has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: i64,
    /// What it wrote to standard output.
    pub output: String,
    /// The last lines that it wrote to standard error.
    pub last_lines: String,
}

impl OneShot {
    /// Looks for storage with the rights that a context of the kind would have.
    pub fn scan(kind: &str, spec: &ContainerSpec) -> Self {
        let body = ContainerCreateBody {
            cmd: Some(vec!["scan".into()]),
            ..spec.body()
        };
        Self::labelled(format!("laz-scan-{kind}"), body)
    }

    /// Builds kernel modules for `kernel` into `output`, from the headers that the host has.
    pub fn module_builder(image: &str, kernel: &str, output: &Path) -> Self {
        let mut mounts: Vec<_> = header_places(Path::new("/"))
            .into_iter()
            .map(|path| bind(path.clone(), &path.to_string_lossy(), true))
            .collect();
        mounts.push(bind(output.to_owned(), "/output", false));
        let host = HostConfig {
            mounts: Some(mounts),
            cap_drop: Some(vec!["ALL".into()]),
            // What dpkg needs, should it have to fetch the headers.
            cap_add: Some(
                ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
                    .map(String::from)
                    .into(),
            ),
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            network_mode: Some("host".into()),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.into()),
            env: Some(vec![format!("KERNEL={kernel}")]),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        Self::labelled("laz-module-builder".into(), body)
    }

    fn labelled(name: String, mut body: ContainerCreateBody) -> Self {
        body.labels = Some(HashMap::from([(ONE_SHOT_LABEL.into(), name.clone())]));
        Self { name, body }
    }
}

impl SystemEngine {
    /// Makes the container, runs it to its end, and removes it however that is.
    ///
    /// # Errors
    /// The engine's; `NotFound` if the image is not there; `Timeout`.
    pub async fn run_once(&self, one_shot: OneShot, limit: Duration) -> Result<Ended> {
        // What a core that was killed has left.
        self.remove_one_shot(&one_shot.name).await?;
        let name = one_shot.name.clone();
        let work = self.run_to_its_end(one_shot);
        let ended = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let what = format!("{name} did not end within {} s", limit.as_secs());
            Err(Error::new(ErrorKind::Timeout, what))
        });
        let removed = self.remove_one_shot(&name).await;
        let ended = ended?;
        removed.map(|()| ended)
    }

    async fn run_to_its_end(&self, one_shot: OneShot) -> Result<Ended> {
        let OneShot { name, body } = one_shot;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = self
            .client
            .call(
                &format!("create container {name}"),
                WORK,
                |docker| async move { docker.create_container(Some(options), body).await },
            )
            .await?;
        let id = created.id.as_str();
        self.client
            .call(
                &format!("start container {name}"),
                WORK,
                |docker| async move { docker.start_container(id, None).await },
            )
            .await?;
        let docker = self.client.docker().await?;
        let mut waiting = docker.wait_container(id, None);
        let status = match waiting.next().await {
            Some(Ok(ended)) => ended.status_code,
            // An exit status other than 0 comes as an error.
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(self.client.error("wait for a container", &error)),
            None => -1,
        };
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut log = docker.logs(id, Some(options));
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        while let Some(chunk) = log.next().await {
            let chunk = chunk.map_err(|e| self.client.error("read a container's log", &e))?;
            let kept = match &chunk {
                bollard::container::LogOutput::StdOut { .. } => &mut output,
                _ => &mut errors,
            };
            kept.extend_from_slice(chunk.as_ref());
            if output.len() > MOST_OUTPUT {
                return Err(Error::new(
                    ErrorKind::Plugin,
                    format!("{name} writes too much"),
                ));
            }
            let excess = errors.len().saturating_sub(MOST_OUTPUT);
            errors.drain(..excess);
        }
        Ok(Ended {
            status,
            output: String::from_utf8_lossy(&output).into_owned(),
            last_lines: last_lines(&String::from_utf8_lossy(&errors)),
        })
    }

    async fn remove_one_shot(&self, name: &str) -> Result<()> {
        let label = format!("{ONE_SHOT_LABEL}={name}");
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let found = self
            .client
            .call("list its containers", WORK, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        for container in found {
            let id = container.id.unwrap_or_default();
            self.remove(&id, Duration::ZERO).await?;
        }
        Ok(())
    }
}

/// Where distributions put the parts of a kernel's headers, as far as they are below `root`. Debian's
/// lead to programs in a directory for each version.
fn header_places(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("usr/lib")).into_iter().flatten();
    let programs = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("linux-kbuild-")
    });
    let mut places: Vec<PathBuf> = ["lib/modules", "usr/src"]
        .map(|path| root.join(path))
        .into_iter()
        .chain(programs.map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    places.sort();
    places
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_gets_the_headers_to_read_and_one_place_to_write() {
        let builder = OneShot::module_builder("zfs-module", "6.12.1", Path::new("/var/lib/x"));
        let host = builder.body.host_config.unwrap();
        let mounts = host.mounts.unwrap();
        let writable: Vec<_> = mounts
            .iter()
            .filter(|m| m.read_only != Some(true))
            .map(|m| m.target.as_deref())
            .collect();
        assert_eq!(writable, [Some("/output")]);
        assert_eq!(builder.body.env.unwrap(), ["KERNEL=6.12.1"]);
        assert_eq!(host.privileged, None);
    }

    #[test]
    fn all_places_of_headers_that_are_there_are_bound() {
        let root = tempfile::tempdir().unwrap();
        let kbuild = ["usr/lib/linux-kbuild-6.12", "usr/lib/linux-kbuild-6.1"];
        for there in ["usr/src", "usr/lib/other"].into_iter().chain(kbuild) {
            fs::create_dir_all(root.path().join(there)).unwrap();
        }
        let places = header_places(root.path());
        let names: Vec<_> = places
            .iter()
            .map(|place| place.strip_prefix(root.path()).unwrap())
            .collect();
        assert_eq!(names, [kbuild[1], kbuild[0], "usr/src"].map(Path::new));
    }

    #[test]
    fn the_last_lines_are_told() {
        let text = (0..40).map(|n| format!("line {n}\n\n")).collect::<String>();
        let told = last_lines(&text);
        assert_eq!(told.lines().count(), TOLD_LINES);
        assert!(told.ends_with("line 39"));
        assert_eq!(last_lines(""), "");
    }
}
