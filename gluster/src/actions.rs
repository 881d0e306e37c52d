//! What else can be done to a Gluster volume and its bricks.

use lazarette_plugin::schemars::{self, JsonSchema};
use lazarette_plugin::serde_json::{self, Value, json};
use lazarette_plugin::values::{Number, without_null};
use lazarette_plugin::{Action, ActionOn, Call, Error, ErrorKind, NoParameters, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::BrickPlace;
use crate::context::Gluster;
use crate::heals::{self, Unhealed};
use crate::xml::{self, Element};

/// So many files are listed.
const LISTED: usize = 1000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Where its bricks are made: SERVER:/DIRECTORY, one on each server of the pool.
    bricks: Vec<BrickPlace>,
    /// So many bricks hold each file; as many as there are unless told.
    #[serde(default)]
    replica: Option<Number<1, 16>>,
    /// The last brick of three holds names only, to tell which copies are good.
    #[serde(default)]
    arbiter: bool,
    /// So many bricks hold parts of each file, instead of whole copies.
    #[serde(default)]
    disperse: Option<Number<3, 128>>,
    /// So many of those bricks may be away.
    #[serde(default)]
    redundancy: Option<Number<1, 64>>,
    /// Also on a root file system, with several copies on one server, or where a volume was before.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Start {
    /// Also starts the bricks of a volume that is started already.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expand {
    /// Bricks to add: SERVER:/DIRECTORY, as many as hold each file, or a multiple of that.
    bricks: Vec<BrickPlace>,
    /// So many bricks hold each file from now on.
    #[serde(default)]
    replica: Option<Number<2, 16>>,
    /// Also on a root file system, with several copies on one server, or where a volume was before.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplaceBrick {
    /// The brick that goes, as `status` shows it.
    old: BrickPlace,
    /// The brick that takes its place: SERVER:/DIRECTORY.
    new: BrickPlace,
    /// Also if files are still to be healed, whose only good copy the old brick may have.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Heal {
    /// Compare all files, not only those that a brick is known to have missed.
    #[serde(default)]
    full: bool,
}

/// All actions, as the manifest shows them.
pub(crate) fn all() -> Vec<Action> {
    let on = ActionOn::Context;
    let mut all = vec![
        Action::new::<NoParameters>(on, "status", "Show the Gluster volume and its bricks"),
        Action::new::<NoParameters>(
            on,
            "unhealed",
            "List the files that are still to be healed, or are in split brain",
        ),
        Action::new::<Create>(on, "create", "Make the Gluster volume of new bricks")
            .losing("with force=true, what an earlier volume had on these bricks"),
        Action::new::<Start>(on, "start", "Start the Gluster volume, or its missing bricks"),
        Action::new::<Expand>(on, "expand", "Add bricks to the Gluster volume")
            .losing("the way back: files lie on the new bricks from now on; with force=true also what an earlier volume had there"),
        Action::new::<ReplaceBrick>(on, "replace-brick", "Put a new brick in another one's place")
            .losing("the old brick's copy of every file; the new one is filled from the others"),
        Action::new::<Heal>(on, "heal", "Bring copies up to date that a brick has missed"),
        Action::new::<NoParameters>(on, "quota", "Let volumes have sizes, by Gluster's quotas"),
    ];
    for action in &mut all {
        if let Ok(mut schema) = schemars::Schema::try_from(action.parameters.clone()) {
            without_null(&mut schema);
            action.parameters = schema.to_value();
        }
    }
    all
}

fn parameters<P: DeserializeOwned>(action: &str, given: Value) -> Result<P> {
    // None at all are the same as none of them.
    let given = if given.is_null() { json!({}) } else { given };
    serde_json::from_value(given).map_err(|e| {
        Error::invalid(format!("parameters of {action}"))
            .cause(e)
            .remedy(format!("laz pool {action} --help shows what it takes"))
    })
}

impl Gluster {
    /// Does an action on the context.
    pub(crate) fn do_action(&self, call: &Call, action: &str, given: Value) -> Result<Value> {
        match action {
            "status" => {
                parameters::<NoParameters>(action, given)?;
                self.show(call)
            }
            "unhealed" => {
                parameters::<NoParameters>(action, given)?;
                self.unhealed(call).map(|found| listed(&found))
            }
            "create" => self.make_volume(call, &parameters(action, given)?),
            "start" => self.start(call, &parameters(action, given)?),
            "expand" => self.expand(call, &parameters(action, given)?),
            "replace-brick" => self.replace_brick(call, &parameters(action, given)?),
            "heal" => {
                let wanted: Heal = parameters(action, given)?;
                let words: &[&str] = if wanted.full { &["full"] } else { &[] };
                self.order(call, "heal", "heal", words)
            }
            "quota" => {
                parameters::<NoParameters>(action, given)?;
                let enabled = self.order(call, "give volumes sizes in", "quota", &["enable"]);
                or_done(enabled, "already enabled", "volumes may have sizes")
            }
            _ => Err(Error::unsupported(action, "gluster")
                .remedy("laz kinds gluster shows what can be done")),
        }
    }

    /// `gluster volume VERB VOLUME WORDS…`; what Gluster says.
    fn order(&self, call: &Call, doing: &str, verb: &str, words: &[&str]) -> Result<Value> {
        let what = format!("cannot {doing} {}", self.management.volume());
        let said = self.management.tell(call, &what, verb, words)?;
        self.host.changed();
        Ok(json!(said))
    }

    fn make_volume(&self, call: &Call, wanted: &Create) -> Result<Value> {
        let words = layout(wanted)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.order(call, "make", "create", &words)?;
        let volume = self.management.volume();
        Ok(json!(format!(
            "{volume} was made; start it: laz pool start"
        )))
    }

    fn start(&self, call: &Call, wanted: &Start) -> Result<Value> {
        let words: &[&str] = if wanted.force { &["force"] } else { &[] };
        let started = self.order(call, "start", "start", words);
        let done = format!("{} is started", self.management.volume());
        or_done(started, "already started", &done)
    }

    fn expand(&self, call: &Call, wanted: &Expand) -> Result<Value> {
        some(&wanted.bricks)?;
        let mut words = Vec::new();
        if let Some(replica) = wanted.replica {
            words.extend(["replica".to_owned(), replica.0.to_string()]);
        }
        words.extend(wanted.bricks.iter().map(ToString::to_string));
        words.extend(wanted.force.then(|| "force".to_owned()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.order(call, "expand", "add-brick", &words)
    }

    fn replace_brick(&self, call: &Call, wanted: &ReplaceBrick) -> Result<Value> {
        let what = format!("cannot replace {}", wanted.old);
        self.management.may(&what)?;
        if !wanted.force {
            let found = self.unhealed(call)?;
            if !found.is_empty() {
                let files = found.split.len() + found.pending.len();
                return Err(Error::new(ErrorKind::Busy, what)
                    .cause(format!("{files} files are still to be healed or in split brain: the old brick may have their only good copy"))
                    .remedy("wait until they are healed (laz pool unhealed), or give them up: force=true"));
            }
        }
        let (old, new) = (wanted.old.as_str(), wanted.new.as_str());
        // There is no other way to do it: what it has to copy, the heal does.
        let words = [old, new, "commit", "force"];
        self.order(call, "replace a brick of", "replace-brick", &words)
    }

    /// The files that are not healed, as the bricks know.
    fn unhealed(&self, call: &Call) -> Result<Unhealed> {
        let (config, mounts) = (&self.config, &self.mounts);
        mounts.with(call, config, &self.source, |ready| {
            heals::ask(
                mounts.programs(),
                config,
                &ready.key,
                &ready.path,
                call.remaining(),
            )
            .map_err(|why| {
                Error::new(
                    ErrorKind::Unreachable,
                    "cannot ask the bricks what they lack",
                )
                .cause(why)
                .remedy("ask on a server: gluster volume heal VOLUME info")
            })
        })
    }

    fn show(&self, call: &Call) -> Result<Value> {
        let what = format!("cannot look at {}", self.management.volume());
        let info = self.management.ask(call, &what, "info", &[])?;
        // A volume that is not started has none.
        let status = self.management.ask(call, &what, "status", &[]).ok();
        describe(&info, status.as_ref(), self.management.volume())
            .ok_or_else(|| Error::not_found(what).cause("the server does not know the volume"))
    }
}

/// An order whose failure says that it was carried out before.
fn or_done(result: Result<Value>, says: &str, done: &str) -> Result<Value> {
    match result {
        Err(e) if e.cause.as_ref().is_some_and(|c| c.contains(says)) => Ok(json!(done)),
        other => other,
    }
}

fn some(bricks: &[BrickPlace]) -> Result<()> {
    if bricks.is_empty() {
        return Err(Error::invalid("bricks: none").remedy("give bricks=SERVER:/DIRECTORY,…"));
    }
    Ok(())
}

/// What follows the volume's name.
fn layout(wanted: &Create) -> Result<Vec<String>> {
    some(&wanted.bricks)?;
    let mut words = Vec::new();
    if let Some(disperse) = wanted.disperse {
        if wanted.replica.is_some() || wanted.arbiter {
            return Err(
                Error::invalid("disperse does not go with replica and arbiter")
                    .remedy("say disperse=N for parts of files, or replica=N for whole copies"),
            );
        }
        words.extend(["disperse".to_owned(), disperse.0.to_string()]);
        if let Some(redundancy) = wanted.redundancy {
            words.extend(["redundancy".to_owned(), redundancy.0.to_string()]);
        }
    } else {
        if wanted.redundancy.is_some() {
            return Err(
                Error::invalid("redundancy goes with disperse only").remedy("say disperse=N, too")
            );
        }
        let all = wanted.bricks.len().to_string();
        let copies = wanted.replica.map_or(all, |n| n.0.to_string());
        if wanted.arbiter && copies != "3" {
            return Err(
                Error::invalid("an arbiter is the third of three bricks").remedy("say replica=3")
            );
        }
        if copies != "1" {
            words.extend(["replica".to_owned(), copies]);
        }
        if wanted.arbiter {
            words.extend(["arbiter".to_owned(), "1".to_owned()]);
        }
    }
    words.extend(wanted.bricks.iter().map(ToString::to_string));
    words.extend(wanted.force.then(|| "force".to_owned()));
    Ok(words)
}

fn listed(found: &Unhealed) -> Value {
    let row = |file: &String, state: &str| json!({ "file": file, "state": state });
    let split = found.split.iter().map(|f| row(f, "split brain"));
    let pending = found.pending.iter().map(|f| row(f, "to be healed"));
    split.chain(pending).take(LISTED).collect()
}

/// What `gluster --xml` writes, read as both: for fuzz targets.
pub(crate) fn read_described(text: &str) -> Option<Value> {
    let document = xml::parse(text)?;
    describe(&document, Some(&document), "gv0")
}

/// What `gluster volume info` and `gluster volume status` tell of `name`.
fn describe(info: &Element, status: Option<&Element>, name: &str) -> Option<Value> {
    let volumes = info.all("volume");
    let volume = volumes.iter().find(|v| v.text_of("name") == name)?;
    let nodes = status.map(|s| s.all("node")).unwrap_or_default();
    let state = |place: &str| -> &str {
        let of =
            |n: &&&Element| format!("{}:{}", n.text_of("hostname"), n.text_of("path")) == place;
        match nodes.iter().find(of).map(|n| n.text_of("status")) {
            Some("1") => "online",
            Some(_) => "away",
            None => "unknown",
        }
    };
    let brick = |b: &&Element| {
        let place = b.text_of("name");
        let arbiter = b.text_of("isArbiter") == "1";
        json!({
            "brick": place,
            "state": state(place),
            "holds": if arbiter { "names" } else { "files" },
        })
    };
    let bricks: Vec<Value> = volume
        .child("bricks")?
        .inner
        .iter()
        .map(|b| brick(&b))
        .collect();
    let options = volume.child("options").map(|o| o.all("option"));
    let options: serde_json::Map<String, Value> = options
        .into_iter()
        .flatten()
        .map(|o| (o.text_of("name").to_owned(), json!(o.text_of("value"))))
        .collect();
    Some(json!({
        "volume": name,
        "type": volume.text_of("typeStr"),
        "state": volume.text_of("statusStr"),
        "bricks": bricks,
        "options": options,
    }))
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
