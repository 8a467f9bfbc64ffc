//! Field tables, series keys and dictionaries: the parts of the meta region of variable length.
//!
//! Bytes: format-spec.md sections 5.7, 5.12, 5.13. Parsing knows no files and is total.

use super::entry::FieldDef;
use super::layout::{
    KEY_CHUNK_BYTES, KEY_CHUNK_SERIES, MAX_DICTIONARY_BYTES, MAX_DICTIONARY_TEXTS, MAX_KEY_EXPANSION,
};
use crate::bytes::{Reader, put_sized, put_varint};
use crate::ids::FieldId;
use hashbrown::HashMap;
use std::sync::Arc;
use wattlog_model::{FieldKind, FieldType, TagSet, Unit};

/// Appends the name of a measurement and its fields.
pub(crate) fn put_fields(name: &str, fields: &[FieldDef], out: &mut Vec<u8>) {
    put_sized(out, name.as_bytes());
    for field in fields {
        put_varint(out, u64::from(field.id.0));
        out.push(field.field_type as u8);
        out.push(field.kind as u8);
        put_sized(out, field.unit.as_ref().map_or("", Unit::as_str).as_bytes());
        put_sized(out, field.name.as_bytes());
    }
}

/// Reads what [`put_fields`] wrote: `count` fields by rising id. None if the bytes are something else.
pub(crate) fn take_fields(bytes: &[u8], count: usize) -> Option<(Arc<str>, Vec<FieldDef>)> {
    let mut reader = Reader::new(bytes);
    let name = reader.text()?.into();
    // Each field takes five bytes at least.
    let mut fields: Vec<FieldDef> = Vec::with_capacity(count.min(bytes.len() / 5));
    for _ in 0..count {
        let id = FieldId(reader.varint32()?);
        if fields.last().is_some_and(|before| before.id >= id) {
            return None;
        }
        let field_type = FieldType::from_number(reader.u8()?)?;
        let kind = FieldKind::from_number(reader.u8()?)?;
        let unit = match reader.text()? {
            "" => None,
            text => Some(Unit::new(text)?),
        };
        fields.push(FieldDef { id, name: reader.text()?.into(), field_type, unit, kind });
    }
    reader.is_empty().then_some((name, fields))
}

/// Collects series keys and closes chunks of them.
#[derive(Debug, Default)]
pub(crate) struct KeyWriter {
    open: Vec<u8>,
    open_series: usize,
    /// Stored bytes of the closed chunks.
    pub(crate) stored: Vec<u8>,
    /// (start in `stored`, stored length, plain length) of each.
    pub(crate) chunks: Vec<(usize, usize, usize)>,
}

impl KeyWriter {
    pub(crate) fn put(&mut self, tags: &TagSet) -> std::io::Result<()> {
        put_varint(&mut self.open, tags.len() as u64);
        for (key, value) in tags.iter() {
            put_sized(&mut self.open, key.as_bytes());
            put_sized(&mut self.open, value.as_bytes());
        }
        self.open_series += 1;
        if self.open_series == KEY_CHUNK_SERIES { self.close() } else { Ok(()) }
    }

    /// Closes the last chunk. Every chunk but the last holds exactly [`KEY_CHUNK_SERIES`] keys.
    pub(crate) fn close(&mut self) -> std::io::Result<()> {
        if self.open_series == 0 {
            return Ok(());
        }
        let start = self.stored.len();
        let packed = zstd::bulk::compress(&self.open, 3)?;
        let pays = packed.len() < self.open.len() && self.open.len() <= packed.len() * MAX_KEY_EXPANSION;
        self.stored.extend_from_slice(if pays { &packed } else { &self.open });
        self.chunks.push((start, self.stored.len() - start, self.open.len()));
        self.open.clear();
        self.open.shrink_to(KEY_CHUNK_BYTES);
        self.open_series = 0;
        Ok(())
    }
}

/// Reads a chunk of `count` series keys. None if the bytes are no such chunk.
pub(crate) fn take_keys(stored: &[u8], raw_len: usize, count: usize) -> Option<Vec<TagSet>> {
    let unpacked;
    let raw = if raw_len == stored.len() {
        stored
    } else {
        if raw_len > stored.len().checked_mul(MAX_KEY_EXPANSION)? {
            return None;
        }
        unpacked = zstd::bulk::decompress(stored, raw_len).ok().filter(|raw| raw.len() == raw_len)?;
        &unpacked
    };
    let mut reader = Reader::new(raw);
    let mut keys = Vec::with_capacity(count.min(raw.len()));
    for _ in 0..count {
        let tag_count = reader.count(2)?;
        let mut tags = Vec::with_capacity(tag_count);
        for _ in 0..tag_count {
            tags.push((reader.text()?, reader.text()?));
        }
        if tags.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return None;
        }
        keys.push(TagSet::new(tags).ok()?);
    }
    reader.is_empty().then_some(keys)
}

/// Texts of one field, numbered by first use.
#[derive(Debug, Default)]
pub(crate) struct DictionaryWriter {
    ids: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    bytes: usize,
}

impl DictionaryWriter {
    /// Gives the numbers of `texts`, taking in new ones; none, and nothing changed, if there are too many.
    /// Also gives what the new ones cost in bytes.
    pub(crate) fn take_in(&mut self, texts: &[Arc<str>]) -> Option<(Vec<u32>, usize)> {
        let before = self.mark();
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            if let Some(id) = self.ids.get(text) {
                ids.push(*id);
                continue;
            }
            if self.texts.len() == MAX_DICTIONARY_TEXTS || self.bytes + text.len() > MAX_DICTIONARY_BYTES {
                self.back_to(before);
                return None;
            }
            let id = self.texts.len() as u32;
            self.ids.insert(Arc::clone(text), id);
            self.texts.push(Arc::clone(text));
            self.bytes += text.len() + 2;
            ids.push(id);
        }
        Some((ids, self.bytes - before.1))
    }

    /// State to go back to.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.texts.len(), self.bytes)
    }

    /// Forgets what was taken in since `mark`.
    pub(crate) fn back_to(&mut self, mark: (usize, usize)) {
        for text in self.texts.drain(mark.0..) {
            self.ids.remove(&text);
        }
        self.bytes = mark.1;
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.texts.iter().for_each(|text| put_sized(out, text.as_bytes()));
    }
}

/// Reads a dictionary of `count` texts. None if the bytes are something else.
pub(crate) fn take_dictionary(bytes: &[u8], count: usize) -> Option<Arc<[Arc<str>]>> {
    if count > MAX_DICTIONARY_TEXTS || count > bytes.len() {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let texts = (0..count).map(|_| reader.text().map(Arc::from)).collect::<Option<Vec<_>>>()?;
    reader.is_empty().then(|| texts.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        let fields = vec![
            FieldDef {
                id: FieldId(3),
                name: "pv".into(),
                field_type: FieldType::Float,
                unit: Unit::new("W"),
                kind: FieldKind::Linear,
            },
            FieldDef {
                id: FieldId(900),
                name: "work mode".into(),
                field_type: FieldType::String,
                unit: None,
                kind: FieldKind::Step,
            },
        ];
        let mut bytes = Vec::new();
        put_fields("energy", &fields, &mut bytes);
        assert_eq!(take_fields(&bytes, 2), Some(("energy".into(), fields)));
        assert_eq!(take_fields(&bytes, 1), None);
        for len in 0..bytes.len() {
            assert_eq!(take_fields(&bytes[..len], 2), None, "{len}");
        }
    }

    #[test]
    fn keys_come_back_from_both_forms() {
        for same in [false, true] {
            let key = |i: usize| {
                let value = if same { "x".repeat(400) } else { format!("{:x}", i * 0x9e37_79b9) };
                TagSet::new([("device_id", value.as_str()), ("location", "home")]).unwrap()
            };
            let mut writer = KeyWriter::default();
            (0..KEY_CHUNK_SERIES + 5).for_each(|i| writer.put(&key(i)).unwrap());
            writer.close().unwrap();
            let mut found = Vec::new();
            for ((start, stored, raw), count) in writer.chunks.iter().zip([KEY_CHUNK_SERIES, 5]) {
                found.extend(take_keys(&writer.stored[*start..start + stored], *raw, count).unwrap());
            }
            assert_eq!(found, (0..KEY_CHUNK_SERIES + 5).map(key).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_dictionary_forgets_what_did_not_pay() {
        let mut dictionary = DictionaryWriter::default();
        let texts: Vec<Arc<str>> = ["a", "b", "a"].map(Arc::from).to_vec();
        let mark = dictionary.mark();
        assert_eq!(dictionary.take_in(&texts).unwrap().0, [0, 1, 0]);
        dictionary.back_to(mark);
        assert_eq!((dictionary.len(), dictionary.id("a")), (0, None));
        let many: Vec<Arc<str>> = (0..=MAX_DICTIONARY_TEXTS).map(|i| i.to_string().into()).collect();
        assert!(dictionary.take_in(&many).is_none());
        assert_eq!(dictionary.len(), 0);
    }
}
