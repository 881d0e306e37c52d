//! Signatures of plugins, and the policy that requires them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::HealthState;
use lazarette_core::control::{
    ContextPhase, ContextStatus, PluginSignature, PluginStatus, Plugins,
};
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually};
use minisign::KeyPair;

use crate::plugins::{images, pack, project, use_a_box};
use crate::{Case, signatures};

pub(crate) const CASES: &[Case] =
    &crate::cases![signatures::a_plugin_serves_only_with_the_signature_that_the_policy_asks_for];

const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: &str = "#cloud-config\n{}\n";

/// A plugin as its author ships it.
struct Shipped {
    archive: PathBuf,
    statement: String,
}

impl Shipped {
    fn new(world: &World, project: &Path, version: &str) -> Result<Self> {
        let archive = world.base.join(format!("boxes-{version}.tar"));
        let output = archive.to_string_lossy().into_owned();
        pack(
            world,
            project,
            version,
            &["--base", "base", "--output", &output],
        )?;
        let statement = fs::read_to_string(format!("{output}.statement"))?;
        Ok(Self { archive, statement })
    }

    fn path(&self) -> String {
        self.archive.to_string_lossy().into_owned()
    }

    /// Its signature by a key, in a file called `name`.
    fn signed(&self, key: &KeyPair, name: &str) -> Result<String> {
        let text = self.statement.as_bytes();
        let signature = minisign::sign(None, &key.sk, text, None, None)?.into_string();
        let path = self.archive.with_file_name(name);
        fs::write(&path, signature)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn a_plugin_serves_only_with_the_signature_that_the_policy_asks_for(
    world: &mut World,
) -> Result<()> {
    world.add_author_base()?;
    let project = project(world, "signed")?;
    let first = Shipped::new(world, &project, "1.0.0")?;
    let second = Shipped::new(world, &project, "2.0.0")?;
    let (author, stranger) = (pair()?, pair()?);

    // Without a policy it serves, and it is told that it is not signed.
    // Another test may have removed a newer one.
    let install = ["plugin", "install", "--yes", "--downgrade", &first.path()];
    let said = world.laz(&install)?;
    ensure!(said.contains("boxes 1.0.0, not signed"), "{said}");
    with_a_volume_in_use(world)?;

    world.set_config(&required(&author))?;
    it_goes_on_but_says_that_it_may_not_start_again(world)?;
    it_is_not_started_again(world)?;
    what_is_wrong_is_refused(world, &first, &second, &author, &stranger)?;

    // Beside the archive the signature is found by itself.
    let beside = "boxes-1.0.0.tar.statement.minisig";
    first.signed(&author, beside)?;
    let said = world.laz(&["plugin", "install", "--yes", &first.path()])?;
    ensure!(
        said.contains(&format!("boxes 1.0.0, signed by {}", id(&author))),
        "{said}"
    );
    serves(world)?;

    let before = images(world)?;
    let said = world.laz_fails(&["plugin", "upgrade", "--yes", &second.path()])?;
    ensure!(said.contains("is not signed"), "{said}");
    let wrong = second.signed(&stranger, "second-by-a-stranger.minisig")?;
    let said = world.laz_fails(&upgrade(&second.path(), &wrong))?;
    ensure!(said.contains("lazarette.plugins.keys"), "{said}");
    let right = second.signed(&author, "second.minisig")?;
    world.laz(&upgrade(&second.path(), &right))?;
    ensure!(images(world)? == before, "one image took the other's place");
    serves(world)?;

    it_is_kept_through_a_crash_and_judged_by_the_keys_there_are(world, &author, &stranger)?;

    world.set_config(NOTHING)?;
    world.user.ok(&["rm", "-f", "user-box"])?;
    world.user.ok(&["volume", "rm", "box"])?;
    eventually("its context goes", PATIENCE, || Ok(context()?.is_none()))?;
    world.laz(&["plugin", "rm", "boxes"])?;
    world.becomes_clean()
}

fn with_a_volume_in_use(world: &World) -> Result<()> {
    use_a_box(world)?;
    it_has_its_data(world)
}

/// The user's container writes and reads.
fn it_has_its_data(world: &World) -> Result<()> {
    let script = "echo kept > /data/f && cat /data/f";
    let kept = world.user.ok(&["exec", "user-box", "sh", "-c", script])?;
    ensure!(kept.trim() == "kept", "{kept}");
    Ok(())
}

fn it_goes_on_but_says_that_it_may_not_start_again(world: &World) -> Result<()> {
    let degraded = || {
        let context = context()?.context("no context")?;
        let said = context.reason.unwrap_or_default();
        Ok(context.phase == ContextPhase::Ready
            && context.health == HealthState::Degraded
            && said.contains("is not signed")
            && said.contains("laz plugin install"))
    };
    eventually("its context says why", PATIENCE, degraded)?;
    it_has_its_data(world)?;
    let others = status()?.contexts.into_iter();
    let mut others = others.filter(|c| c.kind.as_str() == "hello");
    ensure!(
        others.all(|c| c.phase == ContextPhase::Ready && c.health == HealthState::Healthy),
        "what the OS has come with needs no signature"
    );
    let hello = plugin(world, "hello")?;
    ensure!(hello.signature == PluginSignature::BuiltIn, "{hello:?}");
    let boxes = plugin(world, "boxes")?;
    ensure!(boxes.refused.is_some(), "{boxes:?}");
    let output = world
        .user
        .run(&["volume", "create", "-d", "boxes", "-o", "size=4M", "more"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("is not signed"),
        "{said}"
    );
    Ok(())
}

fn it_is_not_started_again(world: &World) -> Result<()> {
    let context = context()?.context("no context")?;
    let container = format!("laz-context-{}", context.name);
    world.system.ok(&["kill", &container])?;
    let failed = || {
        let context = self::context()?.context("no context")?;
        Ok(context.phase == ContextPhase::Failed
            && context
                .reason
                .is_some_and(|why| why.contains("is not signed")))
    };
    eventually("its context fails", PATIENCE, failed)?;
    it_has_its_data(world)
}

fn what_is_wrong_is_refused(
    world: &World,
    first: &Shipped,
    second: &Shipped,
    author: &KeyPair,
    stranger: &KeyPair,
) -> Result<()> {
    let before = images(world)?;
    let strange = first.signed(stranger, "strange.minisig")?;
    let others = second.signed(author, "others.minisig")?;
    let good = fs::read_to_string(first.signed(author, "good.minisig")?)?;
    let place = good
        .find("trusted comment: timestamp")
        .context("no comment")?;
    let mut changed = good;
    changed.replace_range(place + 17..place + 18, "T");
    let tampered = world.base.join("tampered.minisig");
    fs::write(&tampered, changed)?;
    let tampered = tampered.to_string_lossy().into_owned();
    let archive = first.path();
    for (file, words) in [
        (
            &strange,
            format!(
                "key {}, which is not in lazarette.plugins.keys",
                id(stranger)
            ),
        ),
        (&others, "is of something else, or was changed".to_owned()),
        (&tampered, "is of something else, or was changed".to_owned()),
        (&archive, "laz: cannot read".to_owned()),
    ] {
        let said = world.laz_fails(&install(&archive, file))?;
        ensure!(said.contains(&words), "{file}: {said}");
        ensure!(said.trim().lines().count() == 1, "{said}");
    }
    let said = world.laz_fails(&["plugin", "install", "--yes", &archive])?;
    ensure!(
        said.contains("is not signed") && said.contains("--signature"),
        "{said}"
    );
    ensure!(
        images(world)? == before,
        "a refused image stays, or another went"
    );
    Ok(())
}

fn it_is_kept_through_a_crash_and_judged_by_the_keys_there_are(
    world: &mut World,
    author: &KeyPair,
    stranger: &KeyPair,
) -> Result<()> {
    world.core.kill()?;
    world.core.start_answering()?;
    serves(world)?;
    let verified = PluginSignature::Verified { key: id(author) };
    let boxes = plugin(world, "boxes")?;
    ensure!(
        boxes.signature == verified && boxes.version == "2.0.0",
        "{boxes:?}"
    );

    world.set_config(&required(stranger))?;
    let refused = || Ok(plugin(world, "boxes")?.refused.is_some());
    eventually("the key counts no more", PATIENCE, refused)?;
    it_has_its_data(world)?;
    world.set_config(NOTHING)?;
    let unchecked = PluginSignature::Unchecked { key: id(author) };
    let shown = || Ok(plugin(world, "boxes")?.signature == unchecked);
    eventually("without keys it is only told", PATIENCE, shown)?;
    serves(world)
}

/// Waits until the context serves and is well; its user has its data.
fn serves(world: &World) -> Result<()> {
    let well = || {
        let context = context()?.context("no context")?;
        Ok(context.phase == ContextPhase::Ready && context.health == HealthState::Healthy)
    };
    eventually("it serves", PATIENCE, well)?;
    it_has_its_data(world)
}

fn context() -> Result<Option<ContextStatus>> {
    let mut contexts = status()?.contexts.into_iter();
    Ok(contexts.find(|c| c.kind.as_str() == "boxes"))
}

fn plugin(world: &World, kind: &str) -> Result<PluginStatus> {
    let all: Plugins = serde_json::from_str(&world.laz(&["plugin", "ls", "--json"])?)?;
    let mut found = all.plugins.into_iter();
    let found = found.find(|plugin| plugin.kind.as_str() == kind);
    found.with_context(|| format!("no plugin {kind}"))
}

fn install<'a>(source: &'a str, signature: &'a str) -> [&'a str; 6] {
    [
        "plugin",
        "install",
        "--yes",
        "--signature",
        signature,
        source,
    ]
}

fn upgrade<'a>(source: &'a str, signature: &'a str) -> [&'a str; 6] {
    [
        "plugin",
        "upgrade",
        "--yes",
        "--signature",
        signature,
        source,
    ]
}

fn pair() -> Result<KeyPair> {
    Ok(KeyPair::generate_unencrypted_keypair()?)
}

/// A key's identity, as minisign prints it.
fn id(pair: &KeyPair) -> String {
    let digits = pair.pk.keynum().iter().rev();
    digits.map(|byte| format!("{byte:02X}")).collect()
}

fn required(pair: &KeyPair) -> String {
    format!(
        "#cloud-config\nlazarette:\n  plugins:\n    require_signature: true\n    keys: [\"{}\"]\n",
        pair.pk.to_base64()
    )
}
