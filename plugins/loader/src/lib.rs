//! Checks and loads a storage plugin's shared library.
