//! The C ABI between the plugin host and a storage plugin.
