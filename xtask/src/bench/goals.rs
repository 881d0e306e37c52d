//! The goals of the design, and whether a figure meets them.

/// The hand-off beside a bind mount, at most.
pub(super) const HANDOFF: f64 = 1.2;
/// The hand-off with the most mounts there beside that with none, at most.
pub(super) const FLAT: f64 = 1.2;
/// Throughput through the handed-off mount beside one made directly, at least.
pub(super) const THROUGHPUT: f64 = 0.98;
/// A volume made, a snapshot taken, either removed, beside the bare tool, at most.
pub(super) const LIFE: f64 = 1.15;
/// Any answer beside dead storage, in ms, at most.
pub(super) const STATUS: f64 = 100.0;
/// Core at rest, in MiB, at most.
pub(super) const CORE: f64 = 8.0;
/// The plugin host at rest, in MiB, at most.
pub(super) const PLUGIN_HOST: f64 = 3.0;
/// From core's start after a kill -9 to its first answer, in ms, at most.
pub(super) const CORE_BACK: f64 = 500.0;
/// From a plugin host's kill -9 until its plugin serves again, in ms, at most.
pub(super) const PLUGIN_BACK: f64 = 1000.0;

/// Whether a goal is met that is a highest value.
pub(super) fn at_most(figure: f64, goal: f64) -> &'static str {
    verdict(figure <= goal)
}

/// Whether a goal is met that is a lowest value.
pub(super) fn at_least(figure: f64, goal: f64) -> &'static str {
    verdict(figure >= goal)
}

/// A figure that is not a number meets nothing.
fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(at_most(1.0, 1.0), "met");
        assert_eq!(at_least(0.97, THROUGHPUT), "**not met**");
        assert_eq!(at_most(f64::NAN, STATUS), "**not met**");
        assert_eq!(at_least(f64::NAN, THROUGHPUT), "**not met**");
    }
}
