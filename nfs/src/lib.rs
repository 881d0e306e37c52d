//! NFS storage contexts.
