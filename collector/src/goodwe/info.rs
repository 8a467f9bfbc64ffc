//! Who the device is: serial number, model, rated power, firmware.

use super::decode::text;
use super::registers::info_layout;
use crate::config::Family;
use serde::Serialize;
use std::sync::Arc;

/// What the identity block tells; none where the device keeps silent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DeviceInfo {
    /// Serial number.
    pub serial: Option<Arc<str>>,
    /// Name of the model.
    pub model: Option<Arc<str>>,
    /// Rated power in W.
    pub rated_power_w: Option<u32>,
    /// Version of the register map.
    pub modbus_version: Option<u16>,
    /// Kind of AC connection: 0 one phase, 1 three phases 4 wires, 2 three phases 3 wires.
    pub ac_output_type: Option<u16>,
    /// Firmware of the inverter.
    pub firmware: Option<Arc<str>>,
    /// Firmware of its ARM processor.
    pub arm_firmware: Option<Arc<str>>,
    /// Version of the first signal processor.
    pub dsp1_version: Option<u16>,
    /// Version of the second signal processor.
    pub dsp2_version: Option<u16>,
    /// Build of the signal processors' program.
    pub dsp_build: Option<u16>,
    /// Version of the ARM processor's program.
    pub arm_version: Option<u16>,
    /// Build of the ARM processor's program.
    pub arm_build: Option<u16>,
}

impl DeviceInfo {
    /// Decodes the identity block; what lies beyond the end of `words` is missing.
    pub fn decode(family: Family, words: &[u16]) -> Self {
        let layout = info_layout(family);
        let number = |offset: usize| words.get(offset).copied().filter(|word| *word != 0xFFFF);
        let head = |offset: usize| layout.head.and_then(|head| number(head + offset));
        let string = |offset: usize, len: usize| words.get(offset..offset + len).and_then(text);
        let versions = layout.versions;
        let mut info = Self {
            serial: string(layout.serial, 8),
            model: string(layout.model, 5),
            rated_power_w: head(1).map(u32::from).filter(|watts| *watts > 0),
            modbus_version: head(0),
            ac_output_type: head(2),
            firmware: layout.texts.and_then(|at| string(at, 6)),
            arm_firmware: layout.texts.and_then(|at| string(at + 6, 6)),
            dsp1_version: number(versions.dsp1),
            dsp2_version: number(versions.dsp2),
            dsp_build: number(versions.dsp_build),
            arm_version: number(versions.arm),
            arm_build: number(versions.arm_build),
        };
        if let (None, Some(dsp1), Some(dsp2), Some(arm)) =
            (&info.firmware, info.dsp1_version, info.dsp2_version, info.arm_version)
        {
            info.firmware = Some(format!("{dsp1}.{dsp2}.{arm:02x}").into());
        }
        info
    }

    /// True for hybrids of the newer platform, which have long meter blocks and trackers at any size.
    pub fn is_platform_745(&self) -> bool {
        let tags = || PLATFORM_745_HIGH_VOLTAGE.iter().chain(&PLATFORM_745_LOW_VOLTAGE);
        self.serial.as_deref().is_some_and(|serial| tags().any(|tag| serial.contains(tag)))
    }

    /// True if the rated power is told and at least `watts`.
    pub fn is_rated_at_least(&self, watts: u32) -> bool {
        self.rated_power_w.is_some_and(|rated| rated >= watts)
    }
}

/// Parts of the serial numbers of platform 745, by the voltage of the battery.
const PLATFORM_745_HIGH_VOLTAGE: [&str; 14] =
    ["ETT", "HTA", "HUB", "AEB", "SPB", "CUB", "EUB", "HEB", "ERB", "BTT", "ETF", "ARB", "URB", "EBR"];
const PLATFORM_745_LOW_VOLTAGE: [&str; 10] =
    ["ESN", "EBN", "EMN", "SPN", "ERN", "ESC", "HLB", "HMB", "HBB", "EOA"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_identity_is_all_missing() {
        assert_eq!(DeviceInfo::decode(Family::Et, &[]), DeviceInfo::default());
        assert_eq!(DeviceInfo::decode(Family::Dt, &[0xFFFF; 40]), DeviceInfo::default());
    }

    #[test]
    fn the_platform_is_told_by_the_serial_number() {
        let is_745 = |serial: &str| {
            DeviceInfo { serial: Some(serial.into()), ..DeviceInfo::default() }.is_platform_745()
        };
        assert!(is_745("9010KETT000W0000") && is_745("95000ESN000W0000"));
        assert!(!is_745("9010KETU000W0000") && !DeviceInfo::default().is_platform_745());
    }

    #[test]
    fn a_grid_only_inverter_tells_its_firmware_in_numbers() {
        let mut words = [0xFFFF_u16; 40];
        words[33..38].copy_from_slice(&[4, 4, 16, 300, 12]);
        let info = DeviceInfo::decode(Family::Dt, &words);
        assert_eq!(info.firmware.as_deref(), Some("4.4.10"));
        assert_eq!((info.serial, info.arm_build), (None, Some(12)));
    }
}
