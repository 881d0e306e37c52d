//! An example plugin: volumes on a small file system of its own.
