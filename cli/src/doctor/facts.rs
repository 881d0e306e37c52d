//! What is found on this machine, by asking the kernel.

use std::collections::BTreeMap;

use lazarette_linux::probe::{self, Answer, Feature};

use super::{Finding, State};

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
            format!("{purpose}; came with Linux {since}: use a newer kernel"),
        ),
        Answer::NotAllowed => Finding::new(
            feature.name(),
            State::Unknown,
            format!("{purpose}; only root can try: run `sudo laz doctor`"),
        ),
    }
}

/// Looks at modules. `wanted` are those of the kinds of storage: module and kind.
pub(super) fn modules(wanted: &[(String, String)]) -> Vec<Finding> {
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
}

fn needs(wanted: &[(String, String)]) -> BTreeMap<String, Need> {
    let mut needs: BTreeMap<String, Need> = MODULES
        .iter()
        .map(|(name, purpose, required)| {
            let (purpose, required) = ((*purpose).into(), *required);
            ((*name).into(), Need { purpose, required })
        })
        .collect();
    for (module, kind) in wanted {
        let need = needs.entry(module.clone()).or_default();
        if !need.purpose.is_empty() {
            need.purpose.push_str(", ");
        }
        need.purpose.push_str(&format!("storage of kind {kind}"));
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
        probe::Module::Absent => Finding::new(
            what,
            if need.required {
                State::Missing
            } else {
                State::Optional
            },
            format!(
                "for {purpose}; install the package with the modules of this kernel, or use a kernel that has it"
            ),
        ),
    }
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
        };
        for (found, state) in [
            (probe::Module::BuiltIn, State::Ok),
            (probe::Module::Loaded, State::Ok),
            (probe::Module::Available, State::Ok),
            (probe::Module::Absent, State::Missing),
        ] {
            assert_eq!(describe_module("m", &need, found).state, state, "{found:?}");
        }
        let optional = Need {
            required: false,
            ..need
        };
        assert_eq!(
            describe_module("m", &optional, probe::Module::Absent).state,
            State::Optional
        );
    }

    #[test]
    fn what_several_kinds_want_is_listed_once() {
        let wanted = [("m", "a"), ("m", "b"), ("fuse", "b")]
            .map(|(module, kind)| (module.to_owned(), kind.to_owned()));
        let needs = needs(&wanted);
        assert_eq!(needs["m"].purpose, "storage of kind a, storage of kind b");
        assert_eq!(
            needs["fuse"].purpose,
            "storage that is served by a program, storage of kind b"
        );
        assert!(needs["overlay"].required && !needs["m"].required);
    }
}
