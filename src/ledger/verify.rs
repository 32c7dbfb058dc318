//! Checking the whole chain, and saying exactly where it breaks and what is proven.

use std::fmt;
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;

use super::directory::{Directory, segment_name};
use super::line::{self, BadLine, Body, Entry};
use super::read::{Line, Segment};
use super::{Control, LedgerError, RECORD_BYTES_MAX, checkpoint};
use crate::model::Digest;

/// A record as it was known outside the ledger: from a [`Receipt`](super::Receipt), or a
/// checkpoint that was copied elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub seq: u64,
    pub fp: Digest,
}

/// What checking found.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub segments: u32,
    /// Whole records in an unbroken chain, from the first on.
    pub records: u64,
    /// The last of them.
    pub head: Option<Anchor>,
    pub time_first: Option<Timestamp>,
    pub time_last: Option<Timestamp>,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// The last record that a checkpoint covers.
    pub signed_through: Option<u64>,
    /// Of the public key beside the segments.
    pub key: Option<String>,
    /// Anchors found in the chain, the ledger's own copy of its newest checkpoint not counted.
    pub anchors: usize,
    /// How often a write that was cut short has been recovered from.
    pub recoveries: u64,
    /// How often a record carries an earlier time than the one before it. The order is the chain's
    /// and not the clock's, so this is no fault.
    pub clock_steps_back: u64,
    /// The first thing that is wrong; everything above counts what lies before it.
    pub problem: Option<Problem>,
}

/// Where the chain breaks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub segment: String,
    /// Counted from 1; 0 where it is about the segment.
    pub line: u64,
    /// What the record there calls itself, as far as it can be read.
    pub seq: Option<u64>,
    pub what: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("this is not a record")]
    NotARecord,
    #[error("the record was changed: its bytes do not give the fingerprint it carries")]
    Changed,
    #[error(
        "the file ends in the middle of a record, after {bytes} bytes of it: a write was cut short, and the next run recovers from that"
    )]
    Torn { bytes: usize },
    #[error("records {from} to {to} are missing before this one")]
    Missing { from: u64, to: u64 },
    #[error("the records are out of order: {expected} belongs here")]
    OutOfOrder { expected: u64 },
    #[error("the record is a repetition: {expected} belongs here")]
    Repeated { expected: u64 },
    #[error("the record before this one was replaced: it is not the one this was chained to")]
    Replaced,
    #[error("the segment is missing")]
    SegmentMissing,
    #[error("the segment does not begin by naming the one before it")]
    NotContinued,
    #[error("the checkpoint does not carry a valid signature of the ledger's key")]
    BadSignature,
    #[error("the checkpoint cannot be checked, because `key.pub` is missing")]
    NoKey,
    #[error("the checkpoint signs another chain than this one")]
    OtherHead,
    #[error("the ledger was cut off: record {seq} is known to have existed")]
    CutOff { seq: u64 },
    #[error("the ledger was rewritten: record {seq} is known to have been another one")]
    Rewritten { seq: u64 },
    #[error("the ledger's copy of its newest checkpoint is damaged")]
    BadCopy,
}

/// Reads every record of the ledger, and holds it against what is known of it elsewhere. An error
/// is a ledger that cannot be read; a ledger that is wrong is a report with a problem.
pub fn verify(directory: &Path, anchors: &[Anchor]) -> Result<Report, LedgerError> {
    let directory = Directory::open(directory)?;
    let key = checkpoint::public_key(&directory)?;
    let copy = checkpoint::last(&directory);
    let mut check = Check::new(key, anchors);
    match copy {
        Ok(Some(entry)) => check.own_anchor = Some(Anchor { seq: entry.seq, fp: entry.fp }),
        Ok(None) => {}
        Err(LedgerError::Damaged { .. }) => check.bad_copy = true,
        Err(error) => return Err(error),
    }
    let numbers = directory.segments()?;
    let last = numbers.last().copied().unwrap_or(0);
    for number in 1..=last {
        let Some(mut segment) = Segment::open(&directory, number, 0)? else {
            check.stop(&segment_name(number), 0, None, Fault::SegmentMissing);
            break;
        };
        check.segment(number, &mut segment)?;
        if check.report.problem.is_some() {
            break;
        }
    }
    check.end(last);
    Ok(check.report)
}

struct Check<'a> {
    report: Report,
    key: Option<VerifyingKey>,
    anchors: &'a [Anchor],
    own_anchor: Option<Anchor>,
    bad_copy: bool,
    seq: u64,
    fp: Digest,
}

impl<'a> Check<'a> {
    fn new(key: Option<VerifyingKey>, anchors: &'a [Anchor]) -> Self {
        let report = Report {
            segments: 0,
            records: 0,
            head: None,
            time_first: None,
            time_last: None,
            checkpoints: 0,
            signed_through: None,
            key: key.as_ref().map(|key| checkpoint::hex(key.as_bytes())),
            anchors: 0,
            recoveries: 0,
            clock_steps_back: 0,
            problem: None,
        };
        Self { report, key, anchors, own_anchor: None, bad_copy: false, seq: 0, fp: Digest::ZERO }
    }

    fn stop(&mut self, segment: &str, line: u64, seq: Option<u64>, what: Fault) {
        let problem = Problem { segment: segment.to_owned(), line, seq, what };
        self.report.problem.get_or_insert(problem);
    }

    fn segment(&mut self, number: u32, segment: &mut Segment) -> Result<(), LedgerError> {
        self.report.segments += 1;
        while let Some(found) = segment.next()? {
            if let Err(what) = self.line(number, &segment.name, &found) {
                let seq = line::claimed_seq(&found.bytes);
                let what = look_ahead(what, segment)?;
                self.stop(&segment.name, found.number, seq, what);
                return Ok(());
            }
        }
        Ok(())
    }

    fn line(&mut self, number: u32, segment: &str, found: &Line) -> Result<(), Fault> {
        if !found.whole && found.bytes.len() < RECORD_BYTES_MAX {
            return Err(Fault::Torn { bytes: found.bytes.len() });
        }
        let entry = line::read(segment, found.number, &found.bytes).map_err(|bad| match bad {
            BadLine::NotARecord => Fault::NotARecord,
            BadLine::Changed => Fault::Changed,
        })?;
        let expected = self.seq + 1;
        if entry.seq > expected {
            return Err(Fault::Missing { from: expected, to: entry.seq - 1 });
        }
        if entry.seq < expected {
            return Err(Fault::Repeated { expected });
        }
        if entry.prev != self.fp {
            return Err(Fault::Replaced);
        }
        self.control(number, &entry)?;
        self.anchored(&entry)?;
        self.accept(&entry);
        Ok(())
    }

    fn control(&mut self, number: u32, entry: &Entry) -> Result<(), Fault> {
        let before = number.checked_sub(1).map(segment_name).unwrap_or_default();
        let control = match &entry.body {
            Body::Control(control) => Some(control),
            Body::Record(_) | Body::Other(_) => None,
        };
        if entry.line == 1 && number > 1 {
            return match control {
                Some(Control::Rotate { previous, last, head })
                    if *previous == before && *last == self.seq && *head == self.fp =>
                {
                    Ok(())
                }
                _ => Err(Fault::NotContinued),
            };
        }
        match control {
            Some(checkpoint @ Control::Checkpoint { through, head, .. }) => {
                let key = self.key.as_ref().ok_or(Fault::NoKey)?;
                if !checkpoint::holds(checkpoint, key) {
                    return Err(Fault::BadSignature);
                }
                if (*through, *head) != (self.seq, self.fp) {
                    return Err(Fault::OtherHead);
                }
                self.report.checkpoints += 1;
                self.report.signed_through = Some(*through);
                Ok(())
            }
            Some(Control::Recover { .. }) => {
                self.report.recoveries += 1;
                Ok(())
            }
            Some(Control::Rotate { .. }) => Err(Fault::NotContinued),
            None => Ok(()),
        }
    }

    fn anchored(&mut self, entry: &Entry) -> Result<(), Fault> {
        let here = |anchor: &&Anchor| anchor.seq == entry.seq;
        let known = self.anchors.iter().filter(here);
        if known.clone().chain(&self.own_anchor).any(|it| it.seq == entry.seq && it.fp != entry.fp)
        {
            return Err(Fault::Rewritten { seq: entry.seq });
        }
        self.report.anchors += known.count();
        Ok(())
    }

    fn accept(&mut self, entry: &Entry) {
        self.seq = entry.seq;
        self.fp = entry.fp;
        let report = &mut self.report;
        report.records += 1;
        report.head = Some(Anchor { seq: entry.seq, fp: entry.fp });
        report.time_first.get_or_insert(entry.time);
        if report.time_last.is_some_and(|last| entry.time < last) {
            report.clock_steps_back += 1;
        }
        report.time_last = Some(entry.time);
    }

    /// What must be there and was not met.
    fn end(&mut self, last: u32) {
        let name = segment_name(last.max(1));
        let beyond = |anchor: &&Anchor| anchor.seq > self.seq || anchor.seq == 0;
        let known = self.anchors.iter().chain(&self.own_anchor).find(beyond).copied();
        if let Some(anchor) = known {
            self.stop(&name, 0, None, Fault::CutOff { seq: anchor.seq });
        }
        if self.bad_copy {
            self.stop("checkpoint", 1, None, Fault::BadCopy);
        }
    }
}

/// A record that seems to be missing may only lie further down.
fn look_ahead(what: Fault, segment: &mut Segment) -> Result<Fault, LedgerError> {
    let Fault::Missing { from, .. } = what else { return Ok(what) };
    while let Some(later) = segment.next()? {
        if line::link(&later.bytes).is_ok_and(|link| link.seq == from) {
            return Ok(Fault::OutOfOrder { expected: from });
        }
    }
    Ok(what)
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.problem.is_none()
    }
}

/// `000001.jsonl line 12 (record 12): the record was changed: ...`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if self.line > 0 {
            write!(f, " line {}", self.line)?;
        }
        if let Some(seq) = self.seq {
            write!(f, " (record {seq})")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// `1 record`, `2 records`
fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// What was found and what that proves, one sentence a line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) => writeln!(f, "the ledger is not whole: {problem}")?,
            None => writeln!(f, "the ledger is whole")?,
        }
        let scope = if self.is_sound() { "" } else { " before that" };
        let records = counted(self.records, "record");
        writeln!(f, "{records}{scope}, in {}", counted(self.segments.into(), "segment"))?;
        if let (Some(head), Some(first), Some(last)) = (self.head, self.time_first, self.time_last)
        {
            writeln!(f, "from {first:.3} to {last:.3}; record {} is {}", head.seq, head.fp)?;
        }
        if self.recoveries > 0 {
            writeln!(f, "recovered from {} cut short", counted(self.recoveries, "write"))?;
        }
        if self.clock_steps_back > 0 {
            writeln!(f, "the clock went back {}", counted(self.clock_steps_back, "time"))?;
        }
        writeln!(f, "proven: none of these was changed, dropped or moved by accident")?;
        match (self.signed_through, &self.key) {
            (Some(seq), Some(key)) => writeln!(
                f,
                "proven: records 1 to {seq} are as they were when the holder of key {key} signed \
                 them, in {}; whoever can read that key could have signed others",
                counted(self.checkpoints, "checkpoint")
            )?,
            _ => writeln!(f, "not proven: nothing is signed yet")?,
        }
        match self.anchors {
            0 => write!(
                f,
                "not proven: that it was not rewritten or cut off by somebody who can write it; \
                 keep a record's number and fingerprint elsewhere and give it to verify"
            ),
            count => {
                let records = counted(u64::try_from(count).unwrap_or(0), "record");
                write!(f, "proven: it agrees with {records} kept elsewhere")
            }
        }
    }
}
