//! Appending to the chain: one lock, one look at the tail, one write.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::checkpoint;
use super::directory::{Directory, Use, segment_name};
use super::line::{self, Link, Place};
use super::{Control, LedgerError, RECORD_BYTES_MAX, Record, Redactor};
use crate::model::Digest;

const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Holds most last records; a longer one costs a second read.
const TAIL_BYTES: usize = 4096;
/// A checkpoint is due when this many records, or this much time, lie behind the last one.
const CHECKPOINT_RECORDS: u64 = 1000;
const CHECKPOINT_SECONDS: i64 = 60;

/// The open ledger of one process. Any number of processes may have it open.
#[derive(Debug)]
pub struct Ledger {
    directory: Directory,
    segment: File,
    tail: Tail,
    redactor: Redactor,
    segment_bytes_max: u64,
}

/// That records are in the chain. Only appending makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    // INVARIANT: made by `Ledger` after the write succeeded, and only there.
    seq: u64,
    fp: Digest,
}

impl Receipt {
    /// The sequence number of the last record appended.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The fingerprint of the last record appended.
    pub fn fp(&self) -> Digest {
        self.fp
    }
}

/// Where the chain ended when this process last looked.
#[derive(Debug, Clone, Copy)]
struct Tail {
    number: u32,
    /// Length of the segment; `UNKNOWN` before the first look.
    end: u64,
    seq: u64,
    fp: Digest,
}

/// A length no segment has.
const UNKNOWN: u64 = u64::MAX;

impl Tail {
    fn unknown(number: u32) -> Self {
        Self { number, end: UNKNOWN, seq: 0, fp: Digest::ZERO }
    }
}

/// Lines that go into the chain together.
struct Batch {
    bytes: Vec<u8>,
    seq: u64,
    fp: Digest,
    now: Timestamp,
}

impl Batch {
    fn control(&mut self, control: &Control) -> Result<(), LedgerError> {
        self.fp = line::write(self.next(), control.kind(), control, 0, &mut self.bytes)?;
        self.seq += 1;
        Ok(())
    }

    fn record(&mut self, record: &Record, redacted: usize) -> Result<(), LedgerError> {
        self.fp = line::write(self.next(), record.kind(), record, redacted, &mut self.bytes)?;
        self.seq += 1;
        Ok(())
    }

    fn next(&self) -> Place {
        Place { seq: self.seq + 1, prev: self.fp, now: self.now }
    }
}

impl Ledger {
    /// Opens the ledger in `directory`, making it if it is missing, and recovers from a write that
    /// was cut short. Cheap: one listing, one short read.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, LedgerError> {
        let directory = Directory::create(directory)?;
        let lock = directory.lock()?;
        let last = directory.segments()?.last().copied();
        let number = last.unwrap_or(1);
        let how = if last.is_some() { Use::Append } else { Use::Create };
        let name = segment_name(number);
        let segment = directory
            .file(&name, how)?
            .ok_or_else(|| LedgerError::Removed { path: directory.path_of(&name) })?;
        if last.is_none() {
            directory.sync()?;
        }
        let mut ledger = Self {
            directory,
            segment,
            tail: Tail::unknown(number),
            redactor: Redactor::default(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
        };
        let batch = ledger.catch_up(now)?;
        if !batch.bytes.is_empty() {
            ledger.commit(&batch)?;
        }
        drop(lock);
        Ok(ledger)
    }

    /// Takes these values out of every record from now on, in plain text and in their usual
    /// encodings, besides everything that has the shape of a secret.
    pub fn hide(&mut self, secrets: &[&[u8]]) {
        self.redactor = Redactor::new(secrets);
    }

    /// Appends the records, in this order and next to one another, in one write. They are in the
    /// chain when this returns and on the disk after [`Ledger::sync`].
    pub fn append(&mut self, now: Timestamp, records: &[Record]) -> Result<Receipt, LedgerError> {
        let clean: Vec<(Record, usize)> = records
            .iter()
            .map(|record| {
                let mut record = record.clone();
                let found = record.redact(&self.redactor);
                (record, found)
            })
            .collect();
        let lock = self.directory.lock()?;
        let mut batch = self.catch_up(now)?;
        for (record, redacted) in &clean {
            batch.record(record, *redacted)?;
        }
        let receipt = self.commit(&batch)?;
        drop(lock);
        Ok(receipt)
    }

    /// Waits until everything this process appended is on the disk. May run beside the command.
    pub fn sync(&self) -> Result<(), LedgerError> {
        self.segment
            .sync_data()
            .map_err(|source| LedgerError::io("synchronise", &self.segment_path(), source))
    }

    /// Whether a checkpoint should be made: 1,000 records or a minute since the last one. Reads
    /// one small file; not for the launch path.
    pub fn checkpoint_due(&self, now: Timestamp) -> Result<bool, LedgerError> {
        if self.tail.seq == 0 {
            return Ok(false);
        }
        let Some(last) = checkpoint::last(&self.directory)? else { return Ok(true) };
        let records = self.tail.seq.saturating_sub(last.seq);
        let seconds = now.as_second() - last.time.as_second();
        let old = !(0..CHECKPOINT_SECONDS).contains(&seconds);
        Ok(records >= CHECKPOINT_RECORDS || (records > 0 && old))
    }

    /// Signs the head of the chain, makes it durable and returns the record's receipt, which is
    /// worth keeping elsewhere as an [`Anchor`](super::Anchor). Makes the key on first use.
    pub fn checkpoint(&mut self, now: Timestamp) -> Result<Receipt, LedgerError> {
        let lock = self.directory.lock()?;
        let key = checkpoint::signing_key(&self.directory)?;
        let before = checkpoint::last(&self.directory)?.map_or(0, |it| it.seq);
        let mut batch = self.catch_up(now)?;
        let segment = segment_name(self.tail.number);
        let count = batch.seq.saturating_sub(before);
        batch.control(&checkpoint::signed(&key, segment, batch.seq, batch.fp, count))?;
        let receipt = self.commit(&batch)?;
        drop(lock);
        self.sync()?;
        let lock = self.directory.lock()?;
        checkpoint::remember(&self.directory, receipt.seq, last_line(&batch.bytes))?;
        drop(lock);
        Ok(receipt)
    }

    fn segment_path(&self) -> PathBuf {
        self.directory.path_of(&segment_name(self.tail.number))
    }

    /// Under the lock: finds the end of the chain, cuts off what is no whole record, goes on to
    /// the next segment when this one is full. What the ledger has to say about that is the
    /// beginning of the batch.
    fn catch_up(&mut self, now: Timestamp) -> Result<Batch, LedgerError> {
        let mut torn = None;
        let mut previous = None;
        loop {
            let name = segment_name(self.tail.number);
            let length = self.directory.length(&name, &self.segment)?;
            if length != self.tail.end {
                let found = find_end(&self.segment, length, &self.directory.path_of(&name))?;
                if let Some(cut) = found.torn {
                    self.cut(found.whole)?;
                    torn = Some(Control::Recover {
                        segment: name,
                        bytes: cut.bytes,
                        digest: cut.digest,
                    });
                }
                previous = self.move_tail(found.whole, found.last)?;
            }
            if self.tail.end < self.segment_bytes_max {
                break;
            }
            self.next_segment()?;
        }
        let Tail { seq, fp, .. } = self.tail;
        let mut batch = Batch { bytes: Vec::new(), seq, fp, now };
        for control in previous.iter().chain(&torn) {
            batch.control(control)?;
        }
        Ok(batch)
    }

    /// Takes over what was found at the end of the segment. An empty segment continues the one
    /// before it, and must begin by saying so.
    fn move_tail(&mut self, end: u64, last: Option<Link>) -> Result<Option<Control>, LedgerError> {
        let number = self.tail.number;
        let Some(before) = number.checked_sub(1).filter(|it| last.is_none() && *it > 0) else {
            let (seq, fp) = last.map_or((0, Digest::ZERO), |link| (link.seq, link.fp));
            self.tail = Tail { number, end, seq, fp };
            return Ok(None);
        };
        let previous = segment_name(before);
        let path = self.directory.path_of(&previous);
        let damaged = |what: &str| LedgerError::Damaged { path: path.clone(), what: what.into() };
        let file =
            self.directory.file(&previous, Use::Read)?.ok_or_else(|| damaged("it is missing"))?;
        let length = self.directory.length(&previous, &file)?;
        let found = find_end(&file, length, &path)?;
        let Link { seq, fp, .. } = found
            .last
            .filter(|_| found.torn.is_none())
            .ok_or_else(|| damaged("it does not end with a whole record"))?;
        self.tail = Tail { number, end, seq, fp };
        Ok(Some(Control::Rotate { previous, last: seq, head: fp }))
    }

    fn next_segment(&mut self) -> Result<(), LedgerError> {
        let number = self.tail.number + 1;
        let name = segment_name(number);
        let next = if let Some(file) = self.directory.file(&name, Use::Append)? {
            file
        } else {
            self.sync()?; // so that no record is lost before one that is kept
            let made = self.directory.file(&name, Use::Create)?;
            self.directory.sync()?;
            made.ok_or_else(|| LedgerError::Removed { path: self.directory.path_of(&name) })?
        };
        self.segment = next;
        self.tail = Tail::unknown(number);
        Ok(())
    }

    /// One write; what was only half written is taken back.
    fn commit(&mut self, batch: &Batch) -> Result<Receipt, LedgerError> {
        let written = (&self.segment).write(&batch.bytes);
        match written {
            Ok(count) if count == batch.bytes.len() => {}
            Ok(_) => {
                self.cut(self.tail.end)?;
                let source = io::Error::from(io::ErrorKind::StorageFull);
                return Err(LedgerError::Full { path: self.segment_path(), source });
            }
            Err(source) => {
                self.cut(self.tail.end)?;
                return Err(LedgerError::io("append to", &self.segment_path(), source));
            }
        }
        let bytes = u64::try_from(batch.bytes.len()).unwrap_or(UNKNOWN);
        let end = self.tail.end.saturating_add(bytes);
        self.tail = Tail { number: self.tail.number, end, seq: batch.seq, fp: batch.fp };
        Ok(Receipt { seq: batch.seq, fp: batch.fp })
    }

    fn cut(&self, end: u64) -> Result<(), LedgerError> {
        self.segment
            .set_len(end)
            .map_err(|source| LedgerError::io("shorten", &self.segment_path(), source))
    }
}

fn last_line(lines: &[u8]) -> &[u8] {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    lines.rsplit(|byte| *byte == b'\n').next().unwrap_or(lines)
}

/// What lies at the end of a segment.
#[derive(Debug)]
struct End {
    /// The last whole line.
    last: Option<Link>,
    /// How long the whole lines are.
    whole: u64,
    torn: Option<Torn>,
}

/// Bytes after the last newline.
#[derive(Debug)]
struct Torn {
    bytes: u64,
    digest: Digest,
}

/// Reads backwards until there is one whole line. A torn end may be longer than any record, since
/// a crash can leave any length of zeros behind; the segment's own length bounds the search.
fn find_end(segment: &File, length: u64, path: &Path) -> Result<End, LedgerError> {
    let mut want = TAIL_BYTES;
    loop {
        let (start, bytes) = read_tail(segment, length, want)
            .map_err(|source| LedgerError::io("read", path, source))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let (lines, torn) = bytes.split_at_checked(whole.unwrap_or(0)).unwrap_or((&[], &bytes));
        let last = last_line(lines);
        let complete = start == 0 || last.len() + 1 < lines.len();
        if !complete {
            want = want.max(RECORD_BYTES_MAX / 4).saturating_mul(4);
            continue;
        }
        let torn_bytes = u64::try_from(torn.len()).unwrap_or(0);
        let torn =
            (!torn.is_empty()).then(|| Torn { bytes: torn_bytes, digest: Digest::plain(torn) });
        let link = (!lines.is_empty()).then(|| line::link(last)).transpose();
        let link = link
            .map_err(|bad| LedgerError::Damaged { path: path.to_owned(), what: bad.to_string() })?;
        return Ok(End { last: link, whole: length - torn_bytes, torn });
    }
}

/// The last `want` bytes and where they start.
fn read_tail(segment: &File, length: u64, want: usize) -> io::Result<(u64, Vec<u8>)> {
    let size = usize::try_from(length).unwrap_or(want).min(want);
    let start = length.saturating_sub(u64::try_from(size).unwrap_or(0));
    let mut bytes = vec![0; size];
    segment.read_exact_at(&mut bytes, start)?;
    Ok((start, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::{ExecEnd, verify};
    use crate::model::{Status, Usage};

    fn end(run: &str) -> Record {
        Record::ExecEnd(ExecEnd {
            run: run.to_owned(),
            status: Status::Exited { code: 0 },
            exit_code: 0,
            usage: Usage::default(),
            network: Vec::new(),
            denials: 0,
        })
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// Segments of a few records each.
    fn small(directory: &Path) -> Ledger {
        let mut ledger = Ledger::open(directory, now()).unwrap();
        ledger.segment_bytes_max = 1000;
        ledger
    }

    #[test]
    fn a_full_segment_is_followed_by_the_next_for_every_writer() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("ledger");
        let mut writers = [small(&directory), small(&directory), small(&directory)];
        for round in 0..20 {
            for writer in &mut writers {
                writer.append(now(), &[end(&format!("run-{round}"))]).unwrap();
            }
        }
        let report = verify(&directory, &[]).unwrap();
        assert_eq!(report.problem, None);
        assert!(report.segments > 10, "{report:?}");
        assert_eq!(report.records, 60 + u64::from(report.segments) - 1);
        let mut late = small(&directory);
        let receipt = late.append(now(), &[end("late")]).unwrap();
        assert!(receipt.seq() > report.records);
    }

    #[test]
    fn a_crash_at_any_point_of_a_rotation_is_recovered_from() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("ledger");
        let mut ledger = small(&directory);
        while ledger.tail.number == 1 {
            ledger.append(now(), &[end("run")]).unwrap();
        }
        let second = directory.join(segment_name(2));
        let whole = fs::read(&second).unwrap();
        let before = verify(&directory, &[]).unwrap().records - 2;
        for cut in 0..whole.len() {
            fs::write(&second, &whole[..cut]).unwrap();
            small(&directory).append(now(), &[end("again")]).unwrap();
            let report = verify(&directory, &[]).unwrap();
            assert_eq!(report.problem, None, "a cut at {cut}");
            assert!(report.records >= before + 2, "a cut at {cut}");
        }
    }

    #[test]
    fn a_segment_that_is_gone_or_another_ones_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("ledger");
        let mut ledger = small(&directory);
        while ledger.tail.number < 4 {
            ledger.append(now(), &[end("run")]).unwrap();
        }
        let names: Vec<PathBuf> =
            (1..=3).map(|number| directory.join(segment_name(number))).collect();
        let problem = || verify(&directory, &[]).unwrap().problem.unwrap().to_string();
        let second = fs::read(&names[1]).unwrap();
        fs::remove_file(&names[1]).unwrap();
        assert_eq!(problem(), "000002.jsonl: the segment is missing");
        fs::copy(&names[2], &names[1]).unwrap();
        assert!(problem().starts_with("000002.jsonl line 1 (record "), "{}", problem());
        fs::write(&names[1], &second).unwrap();
        fs::remove_file(&names[0]).unwrap();
        assert_eq!(problem(), "000001.jsonl: the segment is missing");
    }
}
