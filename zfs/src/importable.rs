//! What `zpool import` says of pools that could be imported.
//!
//! It has no other form than the one for people: fields with a colon, texts that go on in lines
//! that begin with a tab, and the tree of devices after `config:`.

/// A pool that could be imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Importable {
    /// Its name.
    pub name: String,
    /// Its GUID in decimal digits.
    pub guid: String,
    /// `ONLINE`, `DEGRADED`, `UNAVAIL`, …
    pub state: String,
    /// What is odd about it, if anything.
    pub status: String,
    /// What zpool(8) would have one do.
    pub action: String,
    /// Its devices and what is wrong with them, in the order of the tree.
    pub devices: Vec<Leaf>,
}

/// A line of the tree of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// The device's name, without its directory.
    pub name: String,
    /// Its state.
    pub state: String,
    /// What is said behind it.
    pub note: String,
}

impl Leaf {
    /// Whether something is wrong with it. Of caches and spares nothing is said.
    pub fn is_bad(&self) -> bool {
        !matches!(self.state.as_str(), "" | "ONLINE")
    }
}

impl Importable {
    /// Whether another machine has it or had it last.
    pub fn is_foreign(&self) -> bool {
        self.status.contains("another system")
    }

    /// Whether it can be imported as it is.
    pub fn can_be_imported(&self) -> bool {
        self.action.starts_with("The pool can be imported") && !self.is_foreign()
    }
}

/// Where a continued line belongs.
#[derive(Clone, Copy)]
enum Field {
    None,
    Status,
    Action,
    Config,
}

/// Reads what `zpool import` without a pool's name prints.
pub fn parse(text: &str) -> Vec<Importable> {
    let mut pools: Vec<Importable> = Vec::new();
    let mut field = Field::None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('\t')
            && let Some(pool) = pools.last_mut()
        {
            match field {
                Field::Status => append(&mut pool.status, rest),
                Field::Action => append(&mut pool.action, rest),
                Field::Config => pool.devices.extend(leaf(rest)),
                Field::None => {}
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().to_owned();
        if name.trim() == "pool" {
            pools.push(Importable {
                name: value,
                ..Importable::default()
            });
            field = Field::None;
            continue;
        }
        let Some(pool) = pools.last_mut() else {
            continue;
        };
        field = Field::None;
        match name.trim() {
            "id" => pool.guid = value,
            "state" => pool.state = value,
            "status" => (pool.status, field) = (value, Field::Status),
            "action" => (pool.action, field) = (value, Field::Action),
            "config" => field = Field::Config,
            _ => {}
        }
    }
    pools
}

fn append(text: &mut String, rest: &str) {
    text.push(' ');
    text.push_str(rest.trim());
}

/// `    vdb1  UNAVAIL  corrupted data`; none for groups and the pool itself.
fn leaf(line: &str) -> Option<Leaf> {
    let depth = line.len() - line.trim_start().len();
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let state = words.next().unwrap_or_default().to_owned();
    let note = words.collect::<Vec<_>>().join(" ");
    let group = [
        "mirror-",
        "raidz1-",
        "raidz2-",
        "raidz3-",
        "draid",
        "spare-",
        "replacing-",
    ];
    if depth == 0 || group.iter().any(|g| name.starts_with(g)) {
        return None;
    }
    Some(Leaf { name, state, note })
}

#[cfg(test)]
#[path = "importable_tests.rs"]
mod tests;
