//! What a step is told as.

use super::*;

#[test]
fn a_zone_is_told_of_a_step_that_it_covers_whole() {
    let zone = |pieces: &[(i64, i64, &str)]| {
        let piece = |(start, end, zone): &(i64, i64, &str)| PartsPiece {
            range: *start..*end,
            energy: None,
            fixed: None,
            distribution: None,
            total: None,
            zone: Some((*zone).to_owned()),
            is_market: false,
        };
        let pieces: Vec<PartsPiece> = pieces.iter().map(piece).collect();
        let mut steps = by_step(std::slice::from_ref(&(0..100)), &pieces);
        steps.remove(0).zone
    };
    assert_eq!(zone(&[(-5, 40, "day"), (40, 120, "day")]).as_deref(), Some("day"));
    for pieces in [
        &[(0, 99, "day")][..],
        &[(1, 100, "day")],
        &[(0, 40, "day"), (41, 100, "day")],
        &[(0, 40, "day"), (40, 100, "night")],
        &[],
    ] {
        assert_eq!(zone(pieces), None, "{pieces:?}");
    }
}

#[test]
fn a_mean_needs_all_of_its_step() {
    let of = |pieces: &[(i64, i64, Option<f64>)]| {
        mean(&(0..100), pieces.iter().map(|(start, end, value)| (*start..*end, *value)))
    };
    assert_eq!(of(&[(-50, 25, Some(1.0)), (25, 200, Some(5.0))]), Some(4.0));
    assert_eq!(of(&[(0, 99, Some(1.0))]), None);
    assert_eq!(of(&[(1, 100, Some(1.0))]), None);
    assert_eq!(of(&[(0, 40, Some(1.0)), (50, 100, Some(1.0))]), None);
    assert_eq!(of(&[(0, 40, Some(1.0)), (40, 100, None)]), None);
    assert_eq!(of(&[(0, 30, Some(0.1)), (30, 100, Some(0.1))]), Some(0.1));
    assert_eq!(of(&[]), None);
}
