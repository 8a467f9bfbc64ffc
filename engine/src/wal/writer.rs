//! One log file being written: records are gathered into a group, written by one call, made durable by one sync.
//!
//! Invariants
//! 1. Sequences rise by one from the log's first.
//! 2. Bytes below [`LogWriter::good_offset`] are whole records; only bytes at or above it are ever written.
//! 3. After a failed write the log takes nothing more (its good part can still be synced). After a failed sync it is
//!    dead: no call on its file is made again, for the system may then say "synced" of bytes it has dropped.
//!
//! A log's first sequence attests everything before it: it may be created only once all records below `first_seq` are
//! durable (in an older log, or sealed), and whatever older logs hold at or above it is void from then on. That is how
//! the rest of an abandoned group can never come back.

use crate::file_header::FileHeader;
use crate::ids::{LogId, Seq, StoreId};
use crate::io::{Access, Disk, File, in_context};
use crate::wal::record::{
    EndPayload, FIRST_RECORD_OFFSET, LOG_MAGIC, MAX_PAYLOAD_LEN, RECORD_HEADER_LEN, RecordHead, RecordHeader,
    RecordKind, log_path,
};
use std::io;
use std::sync::Arc;

/// A log that takes records.
#[derive(Debug)]
pub struct LogWriter {
    file: Arc<dyn File>,
    path: String,
    store: StoreId,
    id: LogId,
    first_seq: Seq,
    /// Encoded, not yet written.
    group: Vec<u8>,
    /// Last sequence appended, written, synced. Each is `first_seq - 1` while there is none.
    appended: Seq,
    written: Seq,
    synced: Seq,
    good_offset: u64,
    health: LogHealth,
}

/// What may still be done with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogHealth {
    /// It takes records.
    Open,
    /// A write failed: no more records, but what was written may be synced.
    Abandoned,
    /// A sync failed: nothing more.
    Dead,
    /// It ended with its sealing record.
    Ended,
}

/// Room of the group buffer that is kept between groups; beyond it a large group gives its memory back.
const KEPT_GROUP_BYTES: usize = 1 << 20;

impl LogWriter {
    /// Makes the log `id`, whose records begin with `first_seq`; its header and its name are durable on return.
    ///
    /// `reuse` is the path of a spare (see [`crate::wal::Recycler`]) whose blocks are taken over. On an error the spare is
    /// removed, as is what was begun; where even that fails, a log without records stays behind, which replay passes over.
    pub fn create(
        disk: &Arc<dyn Disk>,
        store: StoreId,
        id: LogId,
        reuse: Option<&str>,
        first_seq: Seq,
    ) -> io::Result<Self> {
        assert!(first_seq.0 > 0, "sequences begin with 1");
        let path = log_path(id);
        let header = FileHeader { magic: LOG_MAGIC, store, file_id: id.0, param: first_seq.0 }.encode();
        let file = match reuse {
            Some(spare) => Self::file_of_spare(disk, spare, &path, &header),
            None => Self::new_file(disk, &path, &header),
        };
        let file = file.and_then(|file| disk.sync_dir("wal").map(|()| file)).inspect_err(|_| {
            // Nothing counts on it; a full disk must not fill up with what could not be begun.
            for path in reuse.into_iter().chain([path.as_str()]) {
                let _ = disk.remove(path);
            }
        })?;
        let before = Seq(first_seq.0 - 1);
        Ok(Self {
            file,
            path,
            store,
            id,
            first_seq,
            group: Vec::new(),
            appended: before,
            written: before,
            synced: before,
            good_offset: FIRST_RECORD_OFFSET,
            health: LogHealth::Open,
        })
    }

    /// The header is durable in the spare before it has the name of a log: whatever a power cut leaves, the records
    /// behind the header are of another log id and never pass.
    fn file_of_spare(
        disk: &Arc<dyn Disk>,
        spare: &str,
        path: &str,
        header: &[u8],
    ) -> io::Result<Arc<dyn File>> {
        let file = disk.open(spare, Access::ReadWrite)?;
        write_header(file.as_ref(), spare, header)?;
        disk.rename(spare, path)?;
        Ok(file)
    }

    fn new_file(disk: &Arc<dyn Disk>, path: &str, header: &[u8]) -> io::Result<Arc<dyn File>> {
        let file = disk.create(path)?;
        write_header(file.as_ref(), path, header)?;
        Ok(file)
    }

    /// Adds a record to the group; nothing is written yet. `payload_crc` is the crc32 of `payload`.
    ///
    /// # Panics
    /// If the sequence is not the next one, or the payload is longer than [`MAX_PAYLOAD_LEN`]: the caller's mistakes.
    pub fn append(&mut self, record: RecordHead, payload: &[u8], payload_crc: u32) {
        assert_eq!(record.seq.0, self.appended.0 + 1, "sequences of a log rise by one");
        assert!(record.kind != RecordKind::End, "a log is ended by LogWriter::end");
        self.push(record, payload, payload_crc);
        self.appended = record.seq;
    }

    /// Writes the group with one call. An empty group costs nothing.
    ///
    /// # Errors
    /// The disk's. The group is dropped and the log abandoned: none of the group's records may be acknowledged. Their
    /// sequences are given again in the log that follows, which makes void whatever part of them reached the disk.
    pub fn write(&mut self) -> io::Result<()> {
        self.check(LogHealth::Open)?;
        if self.group.is_empty() {
            return Ok(());
        }
        let result = self.file.write_at(self.good_offset, &self.group);
        let len = self.group.len() as u64;
        self.group.clear();
        self.group.shrink_to(KEPT_GROUP_BYTES);
        if let Err(error) = result {
            self.health = LogHealth::Abandoned;
            self.appended = self.written;
            return Err(in_context("write", &self.path, &error));
        }
        self.good_offset += len;
        self.written = self.appended;
        Ok(())
    }

    /// After a failed write: cuts the file where its whole records end, so that nothing of the failed group is left in it.
    /// Durable with the next [`LogWriter::sync`].
    ///
    /// # Errors
    /// The disk's: records of the failed group may still be in the file.
    pub fn cut_to_good(&mut self) -> io::Result<()> {
        self.check(LogHealth::Abandoned)?;
        self.file.set_len(self.good_offset).map_err(|error| in_context("cut", &self.path, &error))
    }

    /// Makes all that was written durable. Allowed on an abandoned log, once its good part is still wanted.
    ///
    /// # Errors
    /// The disk's. The log is dead from then on: whether records above [`LogWriter::synced_seq`] are durable is unknown.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.health != LogHealth::Abandoned {
            self.check(LogHealth::Open)?;
        }
        if self.synced == self.written && self.health == LogHealth::Open {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            self.health = LogHealth::Dead;
            return Err(in_context("sync", &self.path, &error));
        }
        self.synced = self.written;
        Ok(())
    }

    /// Makes all that is left durable, then writes the sealing record and makes that durable too: nothing follows in this
    /// log. So the sealing record attests every record before it, also those of the last group.
    ///
    /// `record.seq`, `record.kind` and `record.durable_seq` are set here: the sealing record repeats the last sequence.
    pub fn end(&mut self, record: RecordHead) -> io::Result<()> {
        self.write()?;
        self.sync()?;
        let count = self.appended.0 + 1 - self.first_seq.0;
        let payload = EndPayload { last_seq: self.appended, count }.encode();
        let (seq, durable_seq) = (self.appended, self.appended);
        let head = RecordHead { kind: RecordKind::End, seq, durable_seq, ..record };
        self.push(head, &payload, crc32fast::hash(&payload));
        self.write()?;
        if let Err(error) = self.file.sync_data() {
            self.health = LogHealth::Dead;
            return Err(in_context("sync", &self.path, &error));
        }
        self.health = LogHealth::Ended;
        Ok(())
    }

    fn push(&mut self, head: RecordHead, payload: &[u8], payload_crc: u32) {
        assert!(payload.len() <= MAX_PAYLOAD_LEN, "a payload of {} bytes", payload.len());
        let offset = self.good_offset + self.group.len() as u64;
        let header = RecordHeader { head, payload_len: payload.len() as u32, payload_crc };
        self.group.reserve(RECORD_HEADER_LEN + payload.len());
        self.group.extend_from_slice(&header.encode(self.store, self.id, offset));
        self.group.extend_from_slice(payload);
    }

    fn check(&self, wanted: LogHealth) -> io::Result<()> {
        if self.health == wanted {
            return Ok(());
        }
        let state = match self.health {
            LogHealth::Open => "still open",
            LogHealth::Abandoned => "abandoned after a failed write",
            LogHealth::Dead => "dead after a failed sync",
            LogHealth::Ended => "ended",
        };
        Err(io::Error::other(format!("{} is {state}", self.path)))
    }

    /// The log's id.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Path within the store.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// First sequence of the log, whether it is used or not.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// Last sequence that was written; one less than the first if none.
    pub fn written_seq(&self) -> Seq {
        self.written
    }

    /// Last sequence known durable; one less than the first if none.
    pub fn synced_seq(&self) -> Seq {
        self.synced
    }

    /// Bytes of the file that are in use, the group included.
    pub fn bytes(&self) -> u64 {
        self.good_offset + self.group.len() as u64
    }

    /// Bytes of the group that waits to be written.
    pub fn group_bytes(&self) -> usize {
        self.group.len()
    }

    /// End of the last record that was written whole.
    pub fn good_offset(&self) -> u64 {
        self.good_offset
    }

    /// What may still be done with this log.
    pub fn health(&self) -> LogHealth {
        self.health
    }
}

fn write_header(file: &dyn File, path: &str, header: &[u8]) -> io::Result<()> {
    file.write_at(0, header).map_err(|error| in_context("write", path, &error))?;
    file.sync_data().map_err(|error| in_context("sync", path, &error))
}
