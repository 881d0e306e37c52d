//! Options of NFS, as text of `docker volume create -o` and as JSON of a cloud-config: typed or
//! refused, and nothing that would add an option of its own gets through.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use lazarette_core::StorageContext;
use lazarette_core::cloud_config::typed_options;
use lazarette_nfs::Nfs;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

type VolumeOptions = <Nfs as StorageContext>::VolumeOptions;
type Config = <Nfs as StorageContext>::Config;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| Nfs::manifest("0").volume_schema);

fuzz_target!(|text: &str| {
    let options: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if let Ok(typed) = typed_options(&options, &SCHEMA) {
        let _ = serde_json::from_value::<VolumeOptions>(typed);
    }
    let _ = serde_json::from_str::<Config>(text);
    if let Ok(options) = serde_json::from_str::<VolumeOptions>(text) {
        let again = serde_json::to_value(&options).expect("options are JSON");
        let read = serde_json::from_value::<VolumeOptions>(again).expect("what was written");
        assert!(read == options);
    }
});
