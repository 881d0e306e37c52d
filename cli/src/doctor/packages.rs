//! The Debian packages that bring what is missing.

/// The engines.
pub(super) const DOCKER: &str = "docker.io";

/// The kernel with all its modules, for this machine's processor.
pub(super) fn kernel() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "linux-image-amd64".to_owned(),
        "aarch64" => "linux-image-arm64".to_owned(),
        "arm" => "linux-image-armmp".to_owned(),
        other => format!("linux-image-{other}"),
    }
}
