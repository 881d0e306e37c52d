//! The shapes of requests and replies; no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DockerVolume, Scope};

/// The media type of every reply.
pub(super) const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Activate,
    Create,
    Remove,
    Mount,
    Unmount,
    Path,
    Get,
    List,
    Capabilities,
}

impl Endpoint {
    pub(super) fn from_path(path: &str) -> Option<Self> {
        Some(match path {
            "/Plugin.Activate" => Self::Activate,
            "/VolumeDriver.Create" => Self::Create,
            "/VolumeDriver.Remove" => Self::Remove,
            "/VolumeDriver.Mount" => Self::Mount,
            "/VolumeDriver.Unmount" => Self::Unmount,
            "/VolumeDriver.Path" => Self::Path,
            "/VolumeDriver.Get" => Self::Get,
            "/VolumeDriver.List" => Self::List,
            "/VolumeDriver.Capabilities" => Self::Capabilities,
            _ => return None,
        })
    }

    /// Whether it is about one volume, so that it cannot do without a body.
    pub(super) fn names_a_volume(self) -> bool {
        !matches!(self, Self::Activate | Self::List | Self::Capabilities)
    }

    /// When to answer at the latest: shortly before dockerd hangs up, and much earlier for what
    /// is answered from core's own state.
    pub(super) fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Create | Self::Mount => 115,
            Self::Remove | Self::Unmount => 55,
            _ => 10,
        })
    }
}

/// Every request's fields; each endpoint has some of them. Fields unknown here are dockerd's own
/// business.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    pub(super) name: String,
    #[serde(rename = "ID")]
    pub(super) id: Option<String>,
    pub(super) opts: Option<BTreeMap<String, Option<String>>>,
}

impl Request {
    /// The options; an option that is null is an empty one.
    pub(super) fn options(self) -> BTreeMap<String, String> {
        let options = self.opts.unwrap_or_default().into_iter();
        options
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()
    }
}

/// Every reply's fields; each endpoint has some of them, and all have `Err`.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Reply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implements: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mountpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volumes: Option<Vec<Volume>>,
    pub(super) err: String,
}

impl Reply {
    pub(super) fn error(text: impl std::fmt::Display) -> Self {
        Self {
            err: text.to_string(),
            ..Self::default()
        }
    }
}

/// What the driver can do.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Capabilities {
    scope: &'static str,
}

impl From<Scope> for Capabilities {
    fn from(scope: Scope) -> Self {
        let scope = match scope {
            Scope::Local => "local",
            Scope::Global => "global",
        };
        Self { scope }
    }
}

/// A volume as dockerd reads it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    name: String,
    mountpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    status: Map<String, Value>,
}

impl From<DockerVolume> for Volume {
    fn from(volume: DockerVolume) -> Self {
        let created_at = Some(volume.created_at).filter(|text| {
            let valid = is_rfc3339(text);
            if !valid {
                tracing::error!(volume = %volume.name, "{text:?} is not a time in RFC 3339");
            }
            valid
        });
        Self {
            name: volume.name.into(),
            mountpoint: volume.mountpoint.unwrap_or_default(),
            created_at,
            status: volume.status,
        }
    }
}

/// Whether Go's `time.Time` reads `text`: `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)` with every
/// number in its range.
fn is_rfc3339(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let shape_fits =
        seconds
            .bytes()
            .zip(*b"0000-00-00T00:00:00")
            .all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                _ => byte == shape,
            });
    if !shape_fits {
        return false;
    }
    let number = |from: usize, to: usize| seconds[from..to].parse::<u32>().unwrap_or(u32::MAX);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && number(11, 13) < 24
        && number(14, 16) < 60
        && number(17, 19) < 60
        && is_fraction_and_zone(rest)
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_fraction_and_zone(text: &str) -> bool {
    let zone = match text.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => text,
    };
    match zone.as_bytes() {
        [b'Z'] => true,
        [b'+' | b'-', hour @ .., b':', m1, m2] if hour.len() == 2 => {
            let below = |digits: &[u8], limit: u32| {
                digits.iter().all(u8::is_ascii_digit)
                    && std::str::from_utf8(digits)
                        .ok()
                        .and_then(|d| d.parse().ok())
                        .is_some_and(|n: u32| n < limit)
            };
            below(hour, 24) && below(&[*m1, *m2], 60)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::VolumeName;
    use serde_json::json;

    #[test]
    fn times_that_dockerd_would_refuse_are_recognised() {
        for good in [
            "2026-11-23T13:10:29Z",
            "2026-11-23T13:10:29.123456789Z",
            "2024-02-29T00:00:00+01:00",
            "0001-01-01T00:00:00Z",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23 13:10:29Z",
            "2026-11-23T13:10:29",
            "2026-13-23T13:10:29Z",
            "2025-02-29T13:10:29Z",
            "2026-11-23T24:10:29Z",
            "2026-11-23T13:10:29.Z",
            "2026-11-23T13:10:29+0100",
            "2026-11-23T13:10:29+24:00",
            "2026-11-23T13:10:2äZ",
            "yesterday, not so very long ago",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    #[test]
    fn requests_are_read_as_dockerd_writes_them() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        let create = read("{\"Name\":\"media\",\"Opts\":{\"server\":\"nas\"}}\n").unwrap();
        assert_eq!(
            create.options(),
            BTreeMap::from([("server".into(), "nas".into())])
        );
        let null = read(r#"{"Name":"media","Opts":null}"#).unwrap();
        assert!(null.options().is_empty());
        let odd = read(r#"{"Name":"media","Opts":{"a":null},"Later":{"x":1}}"#).unwrap();
        assert_eq!(odd.options(), BTreeMap::from([("a".into(), String::new())]));
        let mount = read(r#"{"Name":"media","ID":"abc"}"#).unwrap();
        assert_eq!(
            (mount.name.as_str(), mount.id.as_deref()),
            ("media", Some("abc"))
        );
        assert_eq!(read("{}").unwrap(), Request::default());
        assert!(read(r#"{"Name":7}"#).is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn replies_are_what_dockerd_reads() {
        let volume = DockerVolume {
            name: VolumeName::new("media").unwrap(),
            mountpoint: None,
            created_at: "2026-11-23T13:10:29Z".into(),
            status: Map::new(),
        };
        let reply = Reply {
            volume: Some(volume.clone().into()),
            ..Reply::default()
        };
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!({"Volume": {"Name": "media", "Mountpoint": "", "CreatedAt": "2026-11-23T13:10:29Z"}, "Err": ""})
        );
        let undated = Volume::from(DockerVolume {
            created_at: "yesterday".into(),
            ..volume
        });
        assert_eq!(
            serde_json::to_value(&undated).unwrap(),
            json!({"Name": "media", "Mountpoint": ""})
        );
        let capabilities = Reply {
            capabilities: Some(Scope::Global.into()),
            ..Reply::default()
        };
        assert_eq!(
            serde_json::to_value(&capabilities).unwrap(),
            json!({"Capabilities": {"Scope": "global"}, "Err": ""})
        );
        assert_eq!(
            serde_json::to_value(Reply::error("no")).unwrap(),
            json!({"Err": "no"})
        );
    }
}
