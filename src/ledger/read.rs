//! Reading the ledger: one run's story, the newest records, and what comes next.
//!
//! Readers take no part in the chain: a line that is no record is left out here and named by
//! `verify`. They see a segment only up to where it ended when they looked, between two writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::directory::{Directory, Use, segment_name};
use super::line;
use super::{Body, Entry, LedgerError, RECORD_BYTES_MAX, Record};

/// One segment as it was at one moment.
pub(super) struct Segment {
    pub(super) name: String,
    path: PathBuf,
    lines: BufReader<std::io::Take<File>>,
    number: u64,
}

/// One line as it lies on the disk.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without the newline.
    pub(super) bytes: Vec<u8>,
    /// The newline was there.
    pub(super) whole: bool,
}

impl Segment {
    /// Opens the segment from `start` to where it ends now.
    pub(super) fn open(
        directory: &Directory,
        number: u32,
        start: u64,
    ) -> Result<Option<Self>, LedgerError> {
        let name = segment_name(number);
        let path = directory.path_of(&name);
        let Some(mut file) = directory.file(&name, Use::Read)? else { return Ok(None) };
        let lock = directory.lock_shared()?;
        let length = directory.length(&name, &file)?;
        drop(lock);
        file.seek(SeekFrom::Start(start))
            .map_err(|source| LedgerError::io("read", &path, source))?;
        let lines = BufReader::new(file.take(length.saturating_sub(start)));
        Ok(Some(Self { name, path, lines, number: 0 }))
    }

    /// The next line, cut where it gets longer than any record.
    pub(super) fn next(&mut self) -> Result<Option<Line>, LedgerError> {
        let mut bytes = Vec::new();
        let max = u64::try_from(RECORD_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.lines).take(max).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| LedgerError::io("read", &self.path, source))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        Ok(Some(Line { number: self.number, bytes, whole }))
    }
}

/// Every record, from the first to where the ledger ends now; `each` sees one at a time. `wanted`
/// is asked first, with the raw line, so that most lines need not be read whole.
pub(super) fn scan(
    path: &Path,
    wanted: &dyn Fn(&[u8]) -> bool,
    each: &mut dyn FnMut(Entry) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let directory = Directory::open(path)?;
    for number in directory.segments()? {
        let Some(mut segment) = Segment::open(&directory, number, 0)? else { continue };
        while let Some(found) = segment.next()? {
            if !wanted(&found.bytes) {
                continue;
            }
            if let Ok(entry) = line::read(&segment.name, found.number, &found.bytes) {
                each(entry)?;
            }
        }
    }
    Ok(())
}

/// The records of one run, in order.
pub fn show(directory: &Path, run: &str) -> Result<Vec<Entry>, LedgerError> {
    let mut found = Vec::new();
    let needle = run.as_bytes();
    let wanted = |line: &[u8]| needle.is_empty() || memory_find(line, needle);
    scan(directory, &wanted, &mut |entry| {
        if entry.body.run() == Some(run) {
            found.push(entry);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The decisions of one run, or all of them, in order; `each` sees one at a time.
pub fn decisions(
    directory: &Path,
    run: Option<&str>,
    each: &mut dyn FnMut(Entry) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let needle = run.unwrap_or("decision").as_bytes();
    let wanted = |line: &[u8]| needle.is_empty() || memory_find(line, needle);
    scan(directory, &wanted, &mut |entry| {
        let of_run = run.is_none_or(|it| entry.body.run() == Some(it));
        if of_run && matches!(entry.body, Body::Record(Record::Decision(_))) {
            each(entry)?;
        }
        Ok(())
    })
}

fn memory_find(line: &[u8], needle: &[u8]) -> bool {
    line.windows(needle.len()).any(|window| window == needle)
}

/// The last `count` records, oldest first.
pub fn tail(directory: &Path, count: usize) -> Result<Vec<Entry>, LedgerError> {
    let directory = Directory::open(directory)?;
    let mut found = VecDeque::new();
    for number in directory.segments()?.into_iter().rev() {
        let missing = count.saturating_sub(found.len());
        if missing == 0 {
            break;
        }
        for entry in segment_tail(&directory, number, missing)?.into_iter().rev() {
            found.push_front(entry);
        }
    }
    Ok(found.into())
}

/// What one record takes, to guess where to start; too small only means a second look.
const RECORD_BYTES_GUESS: u64 = 1024;

fn segment_tail(
    directory: &Directory,
    number: u32,
    count: usize,
) -> Result<Vec<Entry>, LedgerError> {
    let name = segment_name(number);
    let Some(file) = directory.file(&name, Use::Read)? else { return Ok(Vec::new()) };
    let length = directory.length(&name, &file)?;
    let mut want = RECORD_BYTES_GUESS.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
    loop {
        let start = length.saturating_sub(want);
        let mut last = VecDeque::new();
        if let Some(mut segment) = Segment::open(directory, number, start)? {
            while let Some(found) = segment.next()? {
                // The first one may be the rest of a line, which is no record.
                let place = if start == 0 { found.number } else { 0 };
                last.extend(line::read(&name, place, &found.bytes));
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
        if last.len() == count || start == 0 {
            return Ok(last.into());
        }
        want = want.saturating_mul(4);
    }
}

/// Reads on from where it stands, each time it is asked. The caller decides when to ask again.
#[derive(Debug)]
pub struct Follow {
    directory: Directory,
    number: u32,
    /// Where the first line not yet returned begins.
    position: u64,
}

impl Follow {
    /// Starts at the end of the ledger.
    pub fn from_end(directory: &Path) -> Result<Self, LedgerError> {
        let directory = Directory::open(directory)?;
        let number = directory.segments()?.last().copied().unwrap_or(1);
        let name = segment_name(number);
        let position = match directory.file(&name, Use::Read)? {
            Some(file) => {
                let lock = directory.lock_shared()?;
                let length = directory.length(&name, &file)?;
                drop(lock);
                length
            }
            None => 0,
        };
        Ok(Self { directory, number, position })
    }

    /// What was appended since the last call; empty where nothing was.
    pub fn poll(&mut self) -> Result<Vec<Entry>, LedgerError> {
        let mut found = Vec::new();
        while let Some(mut segment) = Segment::open(&self.directory, self.number, self.position)? {
            while let Some(line) = segment.next()? {
                if !line.whole {
                    break;
                }
                let bytes = u64::try_from(line.bytes.len()).unwrap_or(0);
                self.position += bytes + 1;
                found.extend(line::read(&segment.name, 0, &line.bytes));
            }
            let next = segment_name(self.number + 1);
            if self.directory.file(&next, Use::Read)?.is_none() {
                break;
            }
            self.number += 1;
            self.position = 0;
        }
        Ok(found)
    }
}
