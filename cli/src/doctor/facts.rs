//! What is found on this machine, by asking the kernel.

use std::collections::BTreeMap;

use lazarette_linux::probe::{self, Answer, Feature};

use super::{Finding, State, packages};

/// Modules, or the file systems they bring, that are needed whatever the kinds of storage are.
const MODULES: [(&str, &str, bool); 2] = [
    ("overlay", "the engines' images", true),
    ("fuse", "storage that is served by a program", false),
];

/// Looks at the kernel and at what this process may do.
pub(super) fn kernel() -> Vec<Finding> {
    let mut findings = vec![Finding::new("kernel", State::Ok, probe::kernel_release())];
    let answers = Feature::ALL.map(|feature| (feature, feature.probe()));
    findings.extend(answers.map(|(feature, answer)| describe(feature, answer)));
    findings
}

/// What a feature is for, and since when it is there.
fn purpose(feature: Feature) -> (&'static str, &'static str) {
    match feature {
        Feature::OpenTree => ("mounts as descriptors", "5.2"),
        Feature::MoveMount => ("placing mounts in the view", "5.2"),
        Feature::MountSetattr => ("mounts without setuid programs and devices", "5.12"),
        Feature::Openat2 => ("paths that cannot be led astray", "5.6"),
        Feature::MoveMountBeneath => ("replacing dead mounts under running containers", "6.5"),
        Feature::Statmount => ("hand-offs that stay fast with many mounts", "6.8"),
    }
}

fn describe(feature: Feature, answer: Answer) -> Finding {
    let (purpose, since) = purpose(feature);
    let lacking = if feature.is_needed() {
        State::Missing
    } else {
        State::Optional
    };
    match answer {
        Answer::Works => Finding::new(feature.name(), State::Ok, purpose),
        Answer::Absent => Finding::new(
            feature.name(),
            lacking,
            format!(
                "{purpose}; came with Linux {since}: use a newer kernel (Debian: {}, the newest from \
                 backports)",
                packages::kernel()
            ),
        ),
        Answer::NotAllowed => Finding::new(
            feature.name(),
            State::Unknown,
            format!("{purpose}; only root can try: run `sudo laz doctor`"),
        ),
    }
}

/// A module that a kind of storage needs.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The module.
    pub(super) module: String,
    /// The kind.
    pub(super) kind: String,
    /// Whether there is a context of that kind.
    pub(super) configured: bool,
    /// The image that builds it where the kernel has none.
    pub(super) builder: Option<String>,
}

/// Looks at modules: those of the kinds of storage, and what is needed whatever these are.
pub(super) fn modules(wanted: &[Wanted]) -> Vec<Finding> {
    // A kernel whose list cannot be read has what its modules say.
    let file_systems = probe::file_systems().unwrap_or_default();
    let found = |name: &str| match probe::module(name) {
        probe::Module::Absent if file_systems.iter().any(|known| known == name) => {
            probe::Module::BuiltIn
        }
        found => found,
    };
    needs(wanted)
        .into_iter()
        .map(|(name, need)| describe_module(&name, &need, found(&name)))
        .collect()
}

/// What a module is needed for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Need {
    purpose: String,
    required: bool,
    builder: Option<String>,
}

fn needs(wanted: &[Wanted]) -> BTreeMap<String, Need> {
    let mut needs = BTreeMap::new();
    for (name, purpose, required) in MODULES {
        let need = Need {
            purpose: purpose.into(),
            required,
            builder: None,
        };
        needs.insert(name.to_owned(), need);
    }
    for Wanted {
        module,
        kind,
        configured,
        builder,
    } in wanted
    {
        let need = needs.entry(module.clone()).or_default();
        if !need.purpose.is_empty() {
            need.purpose.push_str(", ");
        }
        need.purpose.push_str(&format!("storage of kind {kind}"));
        need.required |= configured;
        need.builder = need.builder.take().or_else(|| builder.clone());
    }
    needs
}

fn describe_module(name: &str, need: &Need, found: probe::Module) -> Finding {
    let what = format!("module {name}");
    let purpose = &need.purpose;
    match found {
        probe::Module::BuiltIn => Finding::new(what, State::Ok, format!("for {purpose}; built in")),
        probe::Module::Loaded => Finding::new(what, State::Ok, format!("for {purpose}; loaded")),
        probe::Module::Available => Finding::new(
            what,
            State::Ok,
            format!("for {purpose}; loaded when needed"),
        ),
        probe::Module::Absent => absent(what, need),
    }
}

fn absent(what: String, need: &Need) -> Finding {
    let purpose = &need.purpose;
    if let Some(image) = &need.builder {
        return Finding::new(
            what,
            State::Optional,
            format!("for {purpose}; built for this kernel by the image {image} when it is needed"),
        );
    }
    let state = if need.required {
        State::Missing
    } else {
        State::Optional
    };
    Finding::new(
        what,
        state,
        format!(
            "for {purpose}; install the package with the modules of this kernel, or use a kernel that \
             has it (Debian: {})",
            packages::kernel()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_says_how_to_get_it() {
        let needed = describe(Feature::MountSetattr, Answer::Absent);
        assert_eq!(needed.state, State::Missing);
        assert!(needed.remark.contains("Linux 5.12"), "{needed:?}");
        assert_eq!(
            describe(Feature::Statmount, Answer::Absent).state,
            State::Optional
        );
        let unknown = describe(Feature::OpenTree, Answer::NotAllowed);
        assert_eq!(unknown.state, State::Unknown);
        assert!(unknown.remark.contains("sudo"), "{unknown:?}");
        assert_eq!(describe(Feature::OpenTree, Answer::Works).state, State::Ok);
    }

    #[test]
    fn a_module_counts_if_it_can_be_loaded() {
        let need = Need {
            purpose: "x".into(),
            required: true,
            builder: None,
        };
        for (found, state) in [
            (probe::Module::BuiltIn, State::Ok),
            (probe::Module::Loaded, State::Ok),
            (probe::Module::Available, State::Ok),
            (probe::Module::Absent, State::Missing),
        ] {
            assert_eq!(describe_module("m", &need, found).state, state, "{found:?}");
        }
        for need in [
            Need {
                required: false,
                ..Need::default()
            },
            Need {
                builder: Some("builder".into()),
                ..need
            },
        ] {
            let finding = describe_module("m", &need, probe::Module::Absent);
            assert_eq!(finding.state, State::Optional, "{finding:?}");
        }
    }

    #[test]
    fn what_several_kinds_want_is_listed_once_and_required_if_one_is_configured() {
        let wanted = [("m", "a", false), ("m", "b", true), ("fuse", "c", false)];
        let wanted = wanted.map(|(module, kind, configured)| Wanted {
            module: module.into(),
            kind: kind.into(),
            configured,
            builder: None,
        });
        let needs = needs(&wanted);
        assert_eq!(needs["m"].purpose, "storage of kind a, storage of kind b");
        assert_eq!(
            needs["fuse"].purpose,
            "storage that is served by a program, storage of kind c"
        );
        assert!(needs["overlay"].required && needs["m"].required);
        assert!(!needs["fuse"].required);
    }
}
