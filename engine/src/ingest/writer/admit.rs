//! Taking requests into a group: ids for what is new, sequences, records.

use super::request::bytes_of;
use super::{Answer, Group, Pending, Request, Writer};
use crate::catalog::{Definition, encode_definitions};
use crate::error::WriteError;
use crate::ingest::names::Room;
use crate::ingest::prepare::Prepared;
use crate::options::Durability;
use crate::wal::{MAX_PAYLOAD_LEN, RecordKind};
use crossbeam_channel::Sender;

/// Most bytes of definitions in one record.
const DEFINE_RECORD_BYTES: usize = 1 << 20;

impl Writer {
    /// Gives a request its place in the commit order and adds its records to the log's group.
    pub(super) fn admit(&mut self, request: Request, group: &mut Group) {
        let refused = match self.refusal().or_else(|| self.no_room(bytes_of(&request))) {
            Some(error) => Some(error),
            None => self.ensure_log().err(),
        };
        self.shared.status.set_refusing(refused.as_ref().map(ToString::to_string));
        match request {
            Request::Write { prepared, durability, reply } => {
                let result = match refused {
                    Some(error) => Err(error),
                    None => self.admit_body(prepared, durability, &reply, group),
                };
                if let Err(error) = result {
                    self.count_failure(&error, 1);
                    let _ = reply.send(Answer::Failed(error));
                }
            }
            Request::Namespace { database, policy, reply } => match refused {
                Some(error) => drop(reply.send(Err(error))),
                None => {
                    let id =
                        group.names.namespace(&self.shared.catalog, &mut self.next_ids, &database, &policy);
                    let new = std::mem::take(&mut group.names.definitions);
                    self.define(new, group);
                    group.must_sync = true;
                    group.namespaces.push((id, reply));
                }
            },
            Request::Measurement { namespace, name, reply } => match refused {
                Some(error) => drop(reply.send(Err(error))),
                None => {
                    let (catalog, next) = (&self.shared.catalog, &mut self.next_ids);
                    let id = group.names.measurement(catalog, next, namespace, &name);
                    let new = std::mem::take(&mut group.names.definitions);
                    self.define(new, group);
                    group.must_sync = true;
                    group.measurements.push((id, reply));
                }
            },
            Request::Meanings { meanings, reply } => match refused {
                Some(error) => drop(reply.send(Err(error))),
                None => {
                    let fields = meanings.iter().map(|(field, ..)| *field).collect();
                    let told = meanings.into_iter().map(|(field, unit, kind)| Definition::Meaning {
                        field,
                        unit,
                        kind,
                    });
                    self.define(told.collect(), group);
                    group.must_sync = true;
                    group.meant.extend(group.last.map(|seq| (seq, fields)));
                    group.meanings.push(reply);
                }
            },
            Request::Seal(reply) => self.seal_now(reply),
            Request::Delete { tombstones, reply } => self.delete((tombstones, reply)),
            Request::Close(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn admit_body(
        &mut self,
        mut prepared: Box<Prepared>,
        durability: Durability,
        reply: &Sender<Answer>,
        group: &mut Group,
    ) -> Result<(), WriteError> {
        let shared = self.shared.clone();
        let catalog_failed = |error: crate::catalog::CatalogError| WriteError::Disk(error.to_string());
        if !prepared.new.is_empty() {
            let room = Room { series: shared.options.max_series, fields: shared.options.max_fields };
            let given = group
                .names
                .give(&shared.catalog, &mut self.next_ids, prepared.namespace, &prepared.new, room)
                .map_err(catalog_failed)?;
            prepared.complete(&given);
        }
        let len = prepared.payload.as_ref().map_or(0, |(bytes, _)| bytes.len());
        if len > MAX_PAYLOAD_LEN {
            return Err(WriteError::TooLarge { len, limit: MAX_PAYLOAD_LEN });
        }
        // New names are kept even if every row of the body was refused: ids are cheap, order is not.
        let new = std::mem::take(&mut group.names.definitions);
        self.define(new, group);
        let Some((payload, crc)) = prepared.payload.take() else {
            let seq = group.last.unwrap_or(self.last);
            group.writes.push(Pending { prepared, seq, reply: reply.clone() });
            return Ok(());
        };
        let missing = self.defined.missing(&shared.catalog, &prepared).map_err(catalog_failed)?;
        self.append_definitions(&missing, group);
        let seq = self.append(RecordKind::Points, &payload, crc, group);
        match durability {
            Durability::Always => group.must_sync = true,
            Durability::Interval(within) => {
                group.sync_within = Some(group.sync_within.map_or(within, |before| before.min(within)));
            }
        }
        group.writes.push(Pending { prepared, seq, reply: reply.clone() });
        Ok(())
    }

    /// Adds new definitions to the log and to what the catalog learns with this group.
    pub(super) fn define(&mut self, definitions: Vec<Definition>, group: &mut Group) {
        self.append_definitions(&definitions, group);
        group.definitions.extend(definitions);
    }

    pub(super) fn append_definitions(&mut self, definitions: &[Definition], group: &mut Group) {
        // Long lists are parted so that no record comes near the limit of its length: a name or a tag set is far
        // shorter than a record.
        let mut rest = definitions;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|definition| {
                bytes += definition.encoded_len_bound();
                bytes <= DEFINE_RECORD_BYTES
            });
            let (part, later) = rest.split_at(fitting.count().max(1));
            rest = later;
            self.defined.note(part);
            let mut payload = Vec::new();
            encode_definitions(part, &mut payload);
            let crc = crc32fast::hash(&payload);
            self.append(RecordKind::Define, &payload, crc, group);
        }
    }
}
