//! Which signal means what, to PID 1 and to the manager alike.
//!
//! The meanings are those of busybox init, so that its `poweroff`, `reboot` and `halt` work here.
//! (sysvinit and systemd use other signals, or a socket, for the same; only SIGINT for
//! ctrl-alt-del and SIGPWR for a failing power supply are common to all.)

use rustix::process::Signal;
use rustix::system::RebootCommand;
use serde::{Deserialize, Serialize};

/// A way of stopping the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// Switch it off.
    Poweroff,
    /// Start it again.
    Reboot,
    /// Stop and leave it switched on.
    Halt,
}

impl Stop {
    /// Every signal that stops the machine.
    pub const SIGNALS: [Signal; 5] = [
        Signal::TERM,
        Signal::INT,
        Signal::USR1,
        Signal::USR2,
        Signal::POWER,
    ];

    /// What a signal asks for, if it asks for a stop.
    pub fn from_signal(number: i32) -> Option<Self> {
        match Signal::from_named_raw(number)? {
            Signal::TERM | Signal::INT => Some(Self::Reboot),
            Signal::USR1 => Some(Self::Halt),
            Signal::USR2 | Signal::POWER => Some(Self::Poweroff),
            _ => None,
        }
    }

    /// What a word on the command line asks for.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "poweroff" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            "halt" => Some(Self::Halt),
            _ => None,
        }
    }

    /// The signal that asks for it.
    pub fn signal(self) -> Signal {
        match self {
            Self::Poweroff => Signal::USR2,
            Self::Reboot => Signal::TERM,
            Self::Halt => Signal::USR1,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        }
    }

    /// What the kernel is told at the very end.
    pub fn command(self) -> RebootCommand {
        match self {
            Self::Poweroff => RebootCommand::PowerOff,
            Self::Reboot => RebootCommand::Restart,
            Self::Halt => RebootCommand::Halt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_and_its_signal_mean_the_same() {
        for word in ["poweroff", "reboot", "halt"] {
            let stop = Stop::from_word(word).unwrap();
            assert_eq!(stop.word(), word);
            assert_eq!(Stop::from_signal(stop.signal().as_raw()), Some(stop));
        }
    }

    #[test]
    fn every_listed_signal_stops_and_others_do_not() {
        for signal in Stop::SIGNALS {
            assert!(Stop::from_signal(signal.as_raw()).is_some(), "{signal:?}");
        }
        for signal in [Signal::CHILD, Signal::HUP, Signal::PIPE] {
            assert_eq!(Stop::from_signal(signal.as_raw()), None, "{signal:?}");
        }
    }
}
