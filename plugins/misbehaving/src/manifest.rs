//! What it says of itself, and lies in it.

use serde_json::{Value, json};

use crate::volumes::DISK;

/// The manifest, wrong in the way that `behaviour` says.
pub(crate) fn manifest(version: &str, behaviour: &str) -> Value {
    let mut manifest = decent(version);
    let context = "context_schema";
    match behaviour {
        "no-manifest" => return json!({}),
        "other-kind" => manifest["kind"] = json!("other"),
        "broken-schema" => manifest[context]["type"] = json!(7),
        "lenient-schema" => manifest[context]["additionalProperties"] = json!(true),
        "undescribed" => {
            manifest["volume_schema"]["properties"]["size"] = json!({"type": "string"});
        }
        "wrong-example" => {
            manifest["volume_schema"]["properties"]["size"]["default"] = json!("large");
        }
        "unknown-capability" => manifest["capabilities"] = json!(["create", "size", "snapshots"]),
        "no-size-option" => manifest["volume_schema"]["properties"] = json!({}),
        "exclusive-of-nothing" => manifest["exclusive"] = json!("pool"),
        "url-of-nothing" => manifest["url"] = json!({"scheme": "misbehaving", "path": "where"}),
        "same-actions" => {
            let action = json!({"name": "go", "summary": "go", "on": "context", "parameters": {}});
            manifest["actions"] = json!([action.clone(), action]);
        }
        "wrong-capability" => {
            manifest["privileges"]["capabilities"] = json!(["CAP_SYS_ADMIN"]);
        }
        "engine-socket" => manifest["privileges"]["host_files"] = json!(["/run/docker.sock"]),
        "fuse" => manifest["privileges"]["devices"] = json!(["/dev/fuse"]),
        "no-version" => manifest["version"] = json!(""),
        "any-size" => {
            manifest["volume_schema"]["properties"]["size"] =
                json!({"type": "string", "description": "Anything goes."});
        }
        DISK => {
            manifest["privileges"]["all_devices"] = json!(true);
            manifest["capabilities"] = json!(["create", "size"]);
        }
        "untold-snapshots" | "internal-snapshots" | "silent-errors" => {
            manifest["capabilities"] = json!(["create", "size"]);
        }
        _ => {}
    }
    manifest
}

fn decent(version: &str) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "kind": "misbehaving",
        "version": version,
        "context_schema": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "behaviour": text("How it misbehaves."),
                "label": text("Any text."),
                "fault_file": text("While this file exists, the storage is away."),
            },
        },
        "volume_schema": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "size": {
                    "type": "string",
                    "pattern": "^[1-9][0-9]{0,5}[kM]$",
                    "default": "8M",
                    "description": "Its size.",
                },
            },
        },
        "capabilities": ["create", "size", "snapshot", "rollback", "clone", "resize"],
        "privileges": {"capabilities": ["SYS_ADMIN"], "writable": ["/mnt"]},
    })
}
