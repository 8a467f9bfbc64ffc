//! Misbehaviour to order: what real dongles and inverters do, switched on and off while the simulator runs.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong at the moment; the default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each one on the command line")]
pub struct Faults {
    /// Every answer comes so much later.
    pub delay: Duration,
    /// No answer at all, as a dongle after some hours.
    pub silence: bool,
    /// Every request is refused with this code.
    pub exception: Option<u8>,
    /// Every answer is sent twice in one piece.
    pub doubled: bool,
    /// Every answer comes in two pieces.
    pub split: bool,
    /// All registers read all ones, as at night.
    pub sentinel_night: bool,
    /// Modbus TCP: the header tells a wrong length.
    pub wrong_length: bool,
    /// Bytes without meaning follow every answer.
    pub rubbish: bool,
    /// Every answer ends early.
    pub short: bool,
    /// UDP: no answer until the discovery packet comes, as dongles after some hours; it ends by that packet.
    pub asleep: bool,
}

impl Faults {
    /// Names accepted by [`Faults::set`].
    pub const NAMES: [&str; 10] = [
        "delay",
        "silence",
        "exception",
        "doubled",
        "split",
        "sentinel-night",
        "wrong-length",
        "rubbish",
        "short",
        "asleep",
    ];

    /// Switches one fault on by its name; `delay` and `exception` take half a second and "device failure" unless a
    /// value follows as in `delay=2000` (ms) or `exception=6`.
    ///
    /// # Errors
    /// The text, if it names no fault.
    pub fn set(&mut self, text: &str) -> Result<(), UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let number = |default: u64| value.map_or(Ok(default), |text| text.parse().map_err(|_| unknown()));
        match name {
            "delay" => self.delay = Duration::from_millis(number(500)?),
            "exception" => self.exception = Some(u8::try_from(number(4)?).map_err(|_| unknown())?),
            _ if value.is_some() => return Err(unknown()),
            "silence" => self.silence = true,
            "doubled" => self.doubled = true,
            "split" => self.split = true,
            "sentinel-night" => self.sentinel_night = true,
            "wrong-length" => self.wrong_length = true,
            "rubbish" => self.rubbish = true,
            "short" => self.short = true,
            "asleep" => self.asleep = true,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// The pieces in which an answer goes out. `length_at` is where a TCP header has its length.
    pub(super) fn pieces(&self, mut answer: Vec<u8>, length_at: Option<usize>) -> Vec<Vec<u8>> {
        if self.wrong_length
            && let Some(at) = length_at
        {
            let told = u16::from_be_bytes([answer[at], answer[at + 1]]);
            answer[at..at + 2].copy_from_slice(&(told + 3).to_be_bytes());
        }
        if self.short {
            answer.truncate(answer.len() - 2);
        }
        if self.doubled {
            answer.extend_from_within(..);
        }
        if self.rubbish {
            answer.extend((0..512_u32).map(|n| (n * 37 + 11) as u8));
        }
        if self.split {
            let rest = answer.split_off(answer.len() / 2);
            return vec![answer, rest];
        }
        vec![answer]
    }
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fault: choose from {names}", names = Faults::NAMES.join(", "))]
pub struct UnknownFault(pub String);

/// The faults of a running simulator; clone freely.
#[derive(Debug, Clone, Default)]
pub struct FaultSwitch(Arc<Mutex<Faults>>);

impl FaultSwitch {
    pub(super) fn new(faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(faults)))
    }

    /// Replaces all faults from the next request on.
    pub fn set(&self, faults: Faults) {
        *self.0.lock() = faults;
    }

    /// Ends [`Faults::asleep`].
    pub(super) fn wake(&self) {
        self.0.lock().asleep = false;
    }

    /// The faults now.
    pub fn get(&self) -> Faults {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_switches_something() {
        for name in Faults::NAMES {
            let mut faults = Faults::default();
            faults.set(name).unwrap();
            assert_ne!(faults, Faults::default(), "{name}");
        }
        let mut faults = Faults::default();
        faults.set("delay=1500").unwrap();
        faults.set("exception=6").unwrap();
        assert_eq!((faults.delay, faults.exception), (Duration::from_millis(1_500), Some(6)));
        for bad in ["", "delay=x", "exception=256", "silence=1", "noise"] {
            assert!(faults.set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pieces_hold_the_answer() {
        let answer = vec![0, 1, 0, 0, 0, 3, 7, 8, 9];
        let pieces = |faults: Faults| faults.pieces(answer.clone(), Some(4));
        assert_eq!(pieces(Faults::default()), std::slice::from_ref(&answer));
        let split = pieces(Faults { split: true, ..Faults::default() });
        assert_eq!((split.len(), split.concat()), (2, answer.clone()));
        let doubled = Faults { doubled: true, ..Faults::default() };
        assert_eq!(pieces(doubled), [[answer.clone(), answer.clone()].concat()]);
        let wrong = &pieces(Faults { wrong_length: true, ..Faults::default() })[0];
        assert_eq!((wrong[5], wrong.len()), (6, answer.len()));
        assert_eq!(pieces(Faults { rubbish: true, ..Faults::default() })[0].len(), answer.len() + 512);
        assert_eq!(pieces(Faults { short: true, ..Faults::default() })[0].len(), answer.len() - 2);
    }
}
