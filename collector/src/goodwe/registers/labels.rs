//! Words for codes and bits. Codes are stored as numbers; words are for people who read them.

use crate::config::Family;

/// What a code says, if it is known: `label(Family::Et, "work_mode", 1)` is "Normal (On-Grid)".
pub fn label(family: Family, field: &str, code: i64) -> Option<&'static str> {
    let table: &[(i64, &str)] = match (family, field) {
        (_, "pv1_mode" | "pv2_mode" | "pv3_mode" | "pv4_mode") => &[
            (0, "PV panels not connected"),
            (1, "PV panels connected, no power"),
            (2, "PV panels connected, producing power"),
        ],
        (_, "grid_mode") => &[(0, "Not connected to grid"), (1, "Connected to grid"), (2, "Fault")],
        (_, "battery_mode" | "battery2_mode") => &[
            (0, "No battery"),
            (1, "Standby"),
            (2, "Discharge"),
            (3, "Charge"),
            (4, "To be charged"),
            (5, "To be discharged"),
        ],
        (Family::Et, "work_mode") => &[
            (0, "Wait Mode"),
            (1, "Normal (On-Grid)"),
            (2, "Normal (Off-Grid)"),
            (3, "Fault Mode"),
            (4, "Flash Mode"),
            (5, "Check Mode"),
        ],
        (Family::Dt, "work_mode") => &[(0, "Wait Mode"), (1, "Normal"), (2, "Error"), (4, "Check Mode")],
        (_, "safety_country") => &[(13, "PL LV"), (32, "50Hz 230Vac Default")],
        _ => return None,
    };
    table.iter().find(|(number, _)| *number == code).map(|(_, word)| *word)
}

/// What the set bits say, lowest first; a bit without a known meaning is left out.
pub fn bit_labels(field: &str, bits: u32) -> Vec<&'static str> {
    let table: &[(u32, &str)] = match field {
        "error_bits" => ERRORS,
        "diagnosis_bits" => DIAGNOSIS,
        "derating_bits" => DERATING,
        "battery_error_bits" | "battery2_error_bits" => BATTERY_ERRORS,
        "battery_warning_bits" | "battery2_warning_bits" => BATTERY_WARNINGS,
        _ => &[],
    };
    table.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, word)| *word).collect()
}

const ERRORS: &[(u32, &str)] = &[
    (0, "GFCI device check"),
    (1, "AC HCT check"),
    (3, "DCI consistency"),
    (4, "GFCI consistency"),
    (6, "GFCI device"),
    (7, "Relay device"),
    (8, "AC HCT"),
    (9, "Utility loss"),
    (10, "Ground current"),
    (11, "DC bus high"),
    (12, "Internal fan"),
    (13, "Over temperature"),
    (14, "Utility phase"),
    (15, "PV over-voltage"),
    (16, "External fan"),
    (17, "Vac"),
    (18, "Isolation"),
    (19, "DC injection"),
    (20, "Back-up overload"),
    (22, "Fac consistency"),
    (23, "Vac consistency"),
    (25, "Relay check"),
    (27, "Phase angle"),
    (28, "DSP communication"),
    (29, "Fac"),
    (30, "EEPROM"),
    (31, "Internal communication"),
];

const DIAGNOSIS: &[(u32, &str)] = &[
    (0, "Battery voltage low"),
    (1, "Battery SOC low"),
    (2, "Battery SOC in back"),
    (3, "BMS: Discharge disabled"),
    (4, "Discharge time on"),
    (5, "Charge time on"),
    (6, "Discharge Driver On"),
    (7, "BMS: Discharge current low"),
    (8, "APP: Discharge current too low"),
    (9, "Meter communication failure"),
    (10, "Meter connection reversed"),
    (11, "Self-use load light"),
    (12, "EMS: discharge current is zero"),
    (13, "Discharge BUS high PV voltage"),
    (14, "Battery Disconnected"),
    (15, "Battery Overcharged"),
    (16, "BMS: Temperature too high"),
    (17, "BMS: Charge too high"),
    (18, "BMS: Charge disabled"),
    (19, "Self-use off"),
    (20, "SOC delta too volatile"),
    (21, "Battery self discharge too high"),
    (22, "Battery SOC low (off-grid)"),
    (23, "Grid wave unstable"),
    (24, "Export power limit set"),
    (25, "PF value set"),
    (26, "Real power limit set"),
    (27, "DC output on"),
    (28, "SOC protect off"),
];

const DERATING: &[(u32, &str)] = &[
    (0, "Over temperature"),
    (1, "Active power"),
    (2, "Reactive power"),
    (3, "Power over frequency"),
    (4, "Power over voltage"),
    (5, "Export power"),
    (6, "DRED"),
    (7, "Limited power at start"),
    (8, "Maximum current"),
    (9, "Over-voltage"),
    (10, "Power calibration"),
];

const BATTERY_ERRORS: &[(u32, &str)] = &[
    (0, "Charging over-voltage 2"),
    (1, "Discharging under-voltage 2"),
    (2, "Cell temperature high 2"),
    (3, "Cell temperature low 2"),
    (4, "Charging over-current 2"),
    (5, "Discharging over-current 2"),
    (6, "Precharge fault"),
    (7, "DC bus fault"),
    (8, "Battery break"),
    (9, "Battery lock"),
    (10, "Discharging circuit failure"),
    (11, "Charging circuit failure"),
    (12, "Communication failure 2"),
    (13, "Cell temperature high 3"),
    (14, "Discharging under-voltage 3"),
    (15, "Charging over-voltage 3"),
];

const BATTERY_WARNINGS: &[(u32, &str)] = &[
    (0, "Charging over-voltage 1"),
    (1, "Discharging under-voltage 1"),
    (2, "Cell temperature high 1"),
    (3, "Cell temperature low 1"),
    (4, "Charging over-current 1"),
    (5, "Discharging over-current 1"),
    (6, "Communication failure 1"),
    (7, "System reboot"),
    (8, "Cell imbalance"),
    (9, "System temperature low 1"),
    (10, "System temperature low 2"),
    (11, "System temperature high"),
];
