//! Where the sun stands and what it sends: the short formulas of NOAA's solar calculator, good to a fraction of a
//! degree, and a clear-sky model (Meinel 1976 for the beam).

use super::Place;
use std::f64::consts::{PI, TAU};
use wattlog_model::Timestamp;

/// The sun's path of one UTC day; declination and equation of time change too little within it to matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SunDay {
    sin_latitude: f64,
    cos_latitude: f64,
    sin_declination: f64,
    cos_declination: f64,
    /// Hour angle at 00:00 UTC, in radians; noon is 0.
    hour_angle_at_midnight: f64,
}

/// Direction of the sun as a unit vector, and what arrives without clouds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sun {
    pub(super) east: f64,
    pub(super) north: f64,
    /// Sine of the elevation.
    pub(super) up: f64,
    /// Beam on a surface facing it, in W/m2.
    pub(super) beam: f64,
    /// Diffuse light on the horizontal, in W/m2.
    pub(super) diffuse: f64,
}

impl SunDay {
    pub(super) fn new(place: Place, utc_day: i32) -> Self {
        // Days from 2000-01-01, whole years of 365.25 days: the error of a day moves the sun by 0.4 degrees at most.
        let day_of_year = (f64::from(utc_day) - 10_957.0).rem_euclid(365.25);
        let gamma = TAU / 365.25 * (day_of_year + 0.5);
        let equation_of_time_min = 229.18
            * (0.000_075 + 0.001_868 * gamma.cos()
                - 0.032_077 * gamma.sin()
                - 0.014_615 * (2.0 * gamma).cos()
                - 0.040_849 * (2.0 * gamma).sin());
        let declination = 0.006_918 - 0.399_912 * gamma.cos() + 0.070_257 * gamma.sin()
            - 0.006_758 * (2.0 * gamma).cos()
            + 0.000_907 * (2.0 * gamma).sin()
            - 0.002_697 * (3.0 * gamma).cos()
            + 0.001_48 * (3.0 * gamma).sin();
        let latitude = place.latitude.to_radians();
        let solar_minutes = equation_of_time_min + 4.0 * place.longitude;
        Self {
            sin_latitude: latitude.sin(),
            cos_latitude: latitude.cos(),
            sin_declination: declination.sin(),
            cos_declination: declination.cos(),
            hour_angle_at_midnight: solar_minutes / 1_440.0 * TAU - PI,
        }
    }

    /// The sun `day_share` (0.0..1.0) into the UTC day.
    pub(super) fn at(&self, day_share: f64) -> Sun {
        let (sin_hour, cos_hour) = (self.hour_angle_at_midnight + day_share * TAU).sin_cos();
        let up =
            self.sin_latitude * self.sin_declination + self.cos_latitude * self.cos_declination * cos_hour;
        if up <= 0.0 {
            return Sun { up, ..Sun::default() };
        }
        let air_mass = 1.0 / (up + 0.05 * (-14.0 * up).exp());
        let beam = 1_353.0 * 0.7_f64.powf(air_mass.powf(0.678));
        Sun {
            east: -self.cos_declination * sin_hour,
            north: self.cos_latitude * self.sin_declination
                - self.sin_latitude * self.cos_declination * cos_hour,
            up,
            beam,
            diffuse: 0.12 * beam * up + 45.0 * up.sqrt(),
        }
    }
}

/// A flat roof surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Surface {
    east: f64,
    north: f64,
    up: f64,
}

impl Surface {
    /// `azimuth` clockwise from north, `tilt` from the horizontal, both in degrees.
    pub(super) fn new(azimuth: f64, tilt: f64) -> Self {
        let (sin_tilt, cos_tilt) = tilt.to_radians().sin_cos();
        let (sin_azimuth, cos_azimuth) = azimuth.to_radians().sin_cos();
        Self { east: sin_tilt * sin_azimuth, north: sin_tilt * cos_azimuth, up: cos_tilt }
    }

    /// Irradiance in W/m2; `beam_share` and `diffuse_share` are what the clouds leave of each.
    pub(super) fn irradiance(self, sun: Sun, beam_share: f64, diffuse_share: f64) -> f64 {
        let facing = (self.east * sun.east + self.north * sun.north + self.up * sun.up).max(0.0);
        let sky = f64::midpoint(1.0, self.up);
        sun.beam * beam_share * facing + sun.diffuse * diffuse_share * sky
    }
}

/// Share of the UTC day that has passed.
pub(super) fn day_share(time: Timestamp) -> f64 {
    time.0.rem_euclid(Timestamp::DAY_NS) as f64 / Timestamp::DAY_NS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Highest elevation in degrees, its UTC hour and the hours of daylight.
    fn noon(place: Place, date: &str) -> (f64, f64, f64) {
        let midnight: jiff::Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
        let day = SunDay::new(place, Timestamp(midnight.as_second() * 1_000_000_000).utc_day());
        let minutes =
            (0..1_440).map(|minute| (f64::from(minute) / 60.0, day.at(f64::from(minute) / 1_440.0).up));
        let (hour, up) = minutes.clone().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        (up.asin().to_degrees(), hour, minutes.filter(|(_, up)| *up > 0.0).count() as f64 / 60.0)
    }

    #[test]
    fn the_sun_stands_where_the_almanac_says() {
        let krakow = Place::default();
        let sydney = Place { latitude: -33.87, longitude: 151.21 };
        for (place, date, elevation, utc_hour, daylight) in [
            (krakow, "2026-06-21", 63.4, 10.71, 16.2),
            (krakow, "2026-12-21", 16.5, 10.64, 7.9),
            (krakow, "2026-03-20", 39.9, 10.80, 12.0),
            (sydney, "2026-12-21", 79.5, 1.88, 14.3),
        ] {
            let (found_elevation, found_hour, found_daylight) = noon(place, date);
            assert!((found_elevation - elevation).abs() < 0.6, "{date}: {found_elevation}");
            assert!((found_hour - utc_hour).abs() < 0.1, "{date}: {found_hour}");
            assert!((found_daylight - daylight).abs() < 0.3, "{date}: {found_daylight}");
        }
    }

    #[test]
    fn a_clear_noon_in_june_gives_about_a_kilowatt() {
        let midnight: jiff::Timestamp = "2026-06-21T00:00:00Z".parse().unwrap();
        let day = SunDay::new(Place::default(), Timestamp(midnight.as_second() * 1_000_000_000).utc_day());
        let sun = day.at(10.7 / 24.0);
        let south = Surface::new(180.0, 35.0).irradiance(sun, 1.0, 1.0);
        assert!((850.0..1_150.0).contains(&south), "{south}");
        assert!(Surface::new(0.0, 90.0).irradiance(sun, 1.0, 1.0) < 150.0);
        assert_eq!(Surface::new(180.0, 35.0).irradiance(day.at(0.95), 1.0, 1.0), 0.0);
    }
}
