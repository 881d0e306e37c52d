//! The phases of the boot, in order.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazarette_core::cloud_config::CloudConfig;
use lazarette_linux::namespace::MountNamespace;
use rustix::system::sethostname;

use crate::cmdline::{self, CommandLine};
use crate::console::Console;
use crate::error::{Error, chain};
use crate::layout::Layout;
use crate::network;
use crate::phase::{Outcome, Phase};
use crate::service::{Service, Spec, log, spawn_thread};
use crate::{config_disk, devices, early, emergency, engines, hostid, modules, runcmd, sources};

/// The name of a machine that was given none.
const DEFAULT_HOSTNAME: &str = "lazarette";
/// How long user Docker's start waits for the modules of its bridge.
const BRIDGE_MODULES: Duration = Duration::from_secs(60);

/// The services, as far as they have been started.
#[derive(Clone, Default)]
pub struct Services {
    /// System Docker.
    pub system_docker: Option<Service>,
    /// core.
    pub core: Option<Service>,
    /// User Docker.
    pub user_docker: Option<Service>,
}

/// What the phases work on.
pub struct Boot {
    /// Where everything is.
    pub layout: Layout,
    /// Where it is told.
    pub console: Console,
    /// Set when the machine is to be stopped.
    pub stopping: Arc<AtomicBool>,
    /// Shared with the shutdown.
    pub services: Arc<Mutex<Services>>,
    /// The kernel command line, once read.
    pub line: CommandLine,
    /// The configuration, once read.
    pub config: CloudConfig,
    /// The modules of user Docker's bridge, being loaded in the background.
    bridge: Option<Receiver<Result<(), Error>>>,
}

/// The phases, in order.
pub const PHASES: [Phase<Boot>; 13] = [
    Phase {
        name: "early-mounts",
        run: early_mounts,
    },
    Phase {
        name: "command-line",
        run: command_line,
    },
    Phase {
        name: "modules",
        run: |boot| modules::prepare(&boot.layout),
    },
    Phase {
        name: "cloud-config",
        run: cloud_config,
    },
    Phase {
        name: "configured-modules",
        run: configured_modules,
    },
    Phase {
        name: "hostname",
        run: hostname,
    },
    Phase {
        name: "hostid",
        run: |boot| hostid::ensure(&boot.layout),
    },
    Phase {
        name: "network",
        run: |boot| {
            let hostname = boot.config.hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME);
            let network = &boot.config.network;
            network::start(&boot.layout, &boot.console, Some(hostname), network)
        },
    },
    Phase {
        name: "system-docker",
        run: system_docker,
    },
    Phase {
        name: "devices",
        run: devices,
    },
    Phase {
        name: "core",
        run: core,
    },
    Phase {
        name: "user-docker",
        run: user_docker,
    },
    Phase {
        name: "runcmd",
        run: |boot| runcmd::run(&boot.layout, &boot.console, &boot.config.runcmd),
    },
];

impl Boot {
    /// A boot that has not begun.
    pub fn new(layout: Layout, console: Console) -> Self {
        Self {
            layout,
            console,
            stopping: Arc::default(),
            services: Arc::default(),
            line: CommandLine::default(),
            config: CloudConfig::default(),
            bridge: None,
        }
    }

    /// Whether the machine is to be stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Starts a service where the shutdown finds it. `None` if the machine is being stopped.
    fn start(
        &self,
        spec: Spec,
        place: fn(&mut Services) -> &mut Option<Service>,
    ) -> Result<Option<Service>, Error> {
        // Under the lock: either the shutdown sees the service, or we see the shutdown.
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopping() {
            return Ok(None);
        }
        let service = Service::start(spec, &self.layout, &self.console)?;
        *place(&mut services) = Some(service.clone());
        Ok(Some(service))
    }

    /// A shell on the console, for as long as the machine is up.
    fn shell(&self) -> Result<(), Error> {
        let stopping = Arc::clone(&self.stopping);
        emergency::offer(&self.layout, &self.console, move || {
            stopping.load(Ordering::SeqCst)
        })
    }
}

fn early_mounts(boot: &mut Boot) -> Result<Outcome, Error> {
    let outcome = early::prepare(&boot.layout);
    // Whatever failed: from here on the console is kept, if it can be.
    if let Ok(file) = log::open(&boot.layout.logs().join("init.log")) {
        boot.console.keep_in(file);
    }
    outcome
}

fn command_line(boot: &mut Boot) -> Result<Outcome, Error> {
    let path = boot.layout.at("/proc/cmdline");
    let bytes = fs::read(&path).map_err(|source| Error::file("read", &path, source))?;
    boot.line = cmdline::parse(&String::from_utf8_lossy(&bytes));
    if !boot.line.debug {
        return Ok(Outcome::Done);
    }
    boot.shell()?;
    Ok(Outcome::Noted("debug".into()))
}

fn cloud_config(boot: &mut Boot) -> Result<Outcome, Error> {
    let disks = config_disk::search(&boot.layout);
    let gathered = sources::gather(&boot.layout, &boot.line, &disks);
    let loaded = gathered.merge();
    for problem in &gathered.problems {
        boot.console.line(format!("cloud-config: {problem}"));
    }
    for problem in &loaded.problems {
        boot.console.line(format!("cloud-config: {problem}"));
    }
    boot.config = loaded.config;
    gathered.write(&boot.layout.config())?;
    let problems = gathered.problems.len() + loaded.problems.len();
    let mut note = format!("{} sources", gathered.sources.len());
    if problems > 0 {
        note = format!("{note}; {problems} problems, everything else applies");
    }
    Ok(Outcome::Noted(note))
}

fn configured_modules(boot: &mut Boot) -> Result<Outcome, Error> {
    // Engines are slow to start; meanwhile the modules of user Docker's bridge can be loaded.
    let (sender, receiver) = mpsc::channel();
    let layout = boot.layout.clone();
    spawn_thread("bridge modules".into(), move || {
        // Nobody listens if user Docker is never started.
        let _ = sender.send(modules::load(&layout, modules::BRIDGE));
    })?;
    boot.bridge = Some(receiver);
    if boot.config.modules.is_empty() {
        return Ok(Outcome::Skipped("none configured".into()));
    }
    modules::load(&boot.layout, &boot.config.modules)?;
    Ok(Outcome::Noted(boot.config.modules.join(", ")))
}

fn hostname(boot: &mut Boot) -> Result<Outcome, Error> {
    let name = boot.config.hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME);
    sethostname(name.as_bytes())
        .map_err(|source| Error::file("set the host name to", name, source))?;
    Ok(Outcome::Noted(name.into()))
}

fn system_docker(boot: &mut Boot) -> Result<Outcome, Error> {
    let started = engines::system_docker(&boot.layout)
        .and_then(|spec| boot.start(spec, |services| &mut services.system_docker));
    let service = match started {
        Ok(service) => service,
        Err(error) => {
            if let Err(shell) = boot.shell() {
                boot.console.line(format!("emergency: {}", chain(&shell)));
            }
            return Err(error);
        }
    };
    ready(service, engines::ENGINE_LIMIT)
}

fn devices(boot: &mut Boot) -> Result<Outcome, Error> {
    devices::start(&boot.layout, devices::LIMIT, &|| boot.is_stopping())
}

fn core(boot: &mut Boot) -> Result<Outcome, Error> {
    let spec = engines::core(&boot.layout)?;
    let service = boot.start(spec, |services| &mut services.core)?;
    ready(service, engines::core_limit(&boot.config.lazarette.docker))
}

fn user_docker(boot: &mut Boot) -> Result<Outcome, Error> {
    if let Some(bridge) = boot.bridge.take() {
        let told = match bridge.recv_timeout(BRIDGE_MODULES) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("the modules of its bridge are not loaded yet".into()),
        };
        // dockerd says itself what does not work without them.
        if let Some(told) = told {
            boot.console.line(format!("user-docker: {told}"));
        }
    }
    let spec = engines::user_docker(&boot.layout, &boot.config)?;
    let view = boot.layout.view();
    let has_view = MountNamespace::open_pin(&view);
    let service = boot.start(spec, |services| &mut services.user_docker)?;
    if let Err(error) = has_view {
        // The service itself goes on waiting for it.
        return Err(Error::Late {
            what: format!(
                "core has made no view ({}); user Docker starts as soon as it does; no view",
                chain(&error)
            ),
            seconds: engines::core_limit(&boot.config.lazarette.docker).as_secs(),
        });
    }
    ready(service, engines::ENGINE_LIMIT)
}

fn ready(service: Option<Service>, limit: Duration) -> Result<Outcome, Error> {
    let Some(service) = service else {
        return Ok(Outcome::Skipped("the machine is being stopped".into()));
    };
    service.wait_ready(limit)?;
    let status = service.status().text;
    Ok(if status.is_empty() {
        Outcome::Done
    } else {
        Outcome::Noted(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fake::Screen;

    fn boot() -> (tempfile::TempDir, Boot, Screen) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        fs::create_dir_all(layout.at("/proc")).unwrap();
        fs::create_dir_all(layout.at("/run/lazarette")).unwrap();
        let screen = Screen::default();
        let console = screen.console();
        (root, Boot::new(layout, console), screen)
    }

    #[test]
    fn the_configuration_comes_from_the_command_line_too_and_problems_are_told() {
        let (_root, mut boot, screen) = boot();
        fs::write(
            boot.layout.at("/proc/cmdline"),
            "quiet lazarette.hostname=shed lazarette.docker.wait_second=5\n",
        )
        .unwrap();
        command_line(&mut boot).unwrap();
        let outcome = cloud_config(&mut boot).unwrap();
        assert_eq!(
            outcome,
            Outcome::Noted("1 sources; 1 problems, everything else applies".into())
        );
        assert_eq!(boot.config.hostname.as_deref(), Some("shed"));
        assert!(screen.text().contains("wait_seconds"), "{}", screen.text());
        assert!(boot.layout.config().join("60-kernel-settings.yml").exists());
    }

    #[test]
    fn a_service_is_not_started_once_the_machine_is_being_stopped() {
        let (_root, boot, _screen) = boot();
        boot.stopping.store(true, Ordering::SeqCst);
        let spec = Spec {
            name: "x",
            program: "/bin/true".into(),
            arguments: vec![],
            environment: vec![],
            view: None,
            mounted: None,
            stale: vec![],
            alone: false,
        };
        let started = boot.start(spec, |services| &mut services.core).unwrap();
        assert!(started.is_none());
        assert!(matches!(
            ready(started, Duration::ZERO),
            Ok(Outcome::Skipped(_))
        ));
    }
}
