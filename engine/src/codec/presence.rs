//! Presence: which rows of a group have a value of a column (format-spec.md 6.12).
//!
//! The cheapest of four forms; a field with a value in no row has no block at all and no presence either.

use super::bools::has_padding_bits;
use super::cursor::{Cursor, put_varint, varint_len};
use super::{DecodeError, MAX_BLOCK_LEN};

/// First byte.
const ALL: u8 = 0;
const BITMAP: u8 = 1;
const RUNS: u8 = 2;
const POSITIONS: u8 = 3;

/// Appends the presence of the strictly rising `rows`, each below `row_count` (at most [`MAX_BLOCK_LEN`]).
pub fn encode_positions(rows: &[u32], row_count: u32, out: &mut Vec<u8>) {
    assert!(row_count as usize <= MAX_BLOCK_LEN, "a group of {row_count} rows");
    assert!(
        rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|row| *row < row_count),
        "rows out of order"
    );
    if rows.len() == row_count as usize {
        out.push(ALL);
        return;
    }
    let runs: Vec<&[u32]> = rows.chunk_by(|a, b| a + 1 == *b).collect();
    let gaps = || (0..rows.len()).map(|i| if i == 0 { rows[0] } else { rows[i] - rows[i - 1] - 1 });
    let mut run_fields = Vec::with_capacity(2 * runs.len());
    let mut next = 0;
    for run in &runs {
        run_fields.extend([run[0] - next, run.len() as u32 - 1]);
        next = run[0] + run.len() as u32;
    }
    let list_len =
        |fields: &mut dyn Iterator<Item = u32>| fields.map(|f| varint_len(u64::from(f))).sum::<usize>();
    let bitmap_len = row_count.div_ceil(8) as usize;
    let runs_len = varint_len(runs.len() as u64) + list_len(&mut run_fields.iter().copied());
    let positions_len = varint_len(rows.len() as u64) + list_len(&mut gaps());
    if bitmap_len <= runs_len.min(positions_len) {
        out.push(BITMAP);
        let start = out.len();
        out.resize(start + bitmap_len, 0);
        for row in rows {
            out[start + *row as usize / 8] |= 1 << (row % 8);
        }
    } else if runs_len < positions_len {
        out.push(RUNS);
        put_varint(runs.len() as u64, out);
        for field in run_fields {
            put_varint(u64::from(field), out);
        }
    } else {
        out.push(POSITIONS);
        put_varint(rows.len() as u64, out);
        for gap in gaps() {
            put_varint(u64::from(gap), out);
        }
    }
}

/// Appends the present rows of `row_count` to `out`, which after an error is as before.
pub fn decode_positions(bytes: &[u8], row_count: u32, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let start = out.len();
    let result = decode_into(bytes, row_count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_into(bytes: &[u8], row_count: u32, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let rows = row_count as usize;
    if rows > MAX_BLOCK_LEN {
        return Err(cursor.error("more rows than a block may have"));
    }
    match cursor.byte()? {
        ALL => out.extend(0..row_count),
        BITMAP => {
            let bits = cursor.take(rows.div_ceil(8))?;
            if has_padding_bits(bits, rows) {
                return Err(cursor.error("padding bits are not zero"));
            }
            out.extend((0..row_count).filter(|row| bits[*row as usize / 8] >> (row % 8) & 1 == 1));
        }
        RUNS => {
            let mut next = 0;
            for _ in 0..cursor.varint_in(0..=rows, "number of runs")? {
                let first = next + cursor.varint_in(0..=rows, "start of a run")?;
                let end = first + cursor.varint_in(0..=rows, "length of a run")? + 1;
                if end > rows {
                    return Err(cursor.error("run beyond the last row"));
                }
                out.extend(first as u32..end as u32);
                next = end;
            }
        }
        POSITIONS => {
            let mut next = 0;
            for _ in 0..cursor.varint_in(0..=rows, "number of positions")? {
                let row = next + cursor.varint_in(0..=rows, "position")?;
                if row >= rows {
                    return Err(cursor.error("position beyond the last row"));
                }
                out.push(row as u32);
                next = row + 1;
            }
        }
        _ => return Err(DecodeError { offset: 0, what: "unknown form of presence" }),
    }
    cursor.end()
}
