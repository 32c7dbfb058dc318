//! Limits that the kernel keeps by refusing: what can be known of them when the run is over.
//!
//! Such a limit does not end the command, which sees an error and goes on as it likes. So that its
//! caller is not left with the command's own guess at what went wrong, what shows that the limit was
//! reached is looked for: a private place that is full when the command ends, a count of the cgroup's,
//! or as many processes or open files as there may be at one of the looks. A command that failed
//! counts as stopped by the limit; one that coped keeps its status, and the denial stands beside it.
//!
//! What cannot be seen: a place that was full and was emptied again, and without a cgroup whatever
//! lasted less than the time between two looks.

use std::path::PathBuf;

use super::cgroup::Fired;
use super::memory::Occupied;
use super::supervise::{Supervised, denial};
use crate::model::{Bytes, Count, Denial, Origin};
use crate::plan::{Layers, Limited, ProcessesBy, SandboxPlan, What};

/// Private places that init can tell about: two bits each.
pub(super) const PLACES_MAX: usize = 32;

/// A file system of the run's own.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    size: Limited<Bytes>,
    files: Count,
}

/// The run's own file systems, in the order in which init looks at them.
pub(super) fn places(plan: &SandboxPlan) -> Vec<Place> {
    let place = |path: PathBuf, size, files, because: &[Origin]| {
        let because = because.first()?.clone();
        Some(Place { path, size: Limited { max: size, because }, files })
    };
    plan.view
        .iter()
        .filter_map(|entry| match &entry.what {
            // Of an overlay, its layer is what is full.
            What::Private { size, files, .. }
            | What::Overlay { layers: Layers::Private { size, files }, .. } => {
                place(entry.path.clone(), *size, *files, &entry.because)
            }
            What::Devices { shm, files } => {
                place(entry.path.join("shm"), *shm, *files, &entry.because)
            }
            What::Directory
            | What::Bind { .. }
            | What::SymbolicLink { .. }
            | What::Proc { .. }
            | What::Text { .. }
            | What::Masked { .. }
            | What::Pinned { .. }
            | What::Overlay { layers: Layers::Kept(_), .. }
            | What::Protected { .. } => None,
        })
        .take(PLACES_MAX)
        .collect()
}

/// The bits of one place in init's last word: no room, and no further file.
pub(super) fn bits(index: usize, no_room: bool, no_files: bool) -> u64 {
    let bits = u64::from(no_room) | u64::from(no_files) << 1;
    bits.checked_shl(u32::try_from(2 * index).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// A denial for each limit that the kernel kept by refusing.
pub(super) fn refused(run: &Supervised, full: u64, peak: Occupied, fired: Fired) -> Vec<Denial> {
    let full = run.places.iter().enumerate().flat_map(|(index, place)| {
        let size = (full & bits(index, true, false) != 0).then(|| no_room(run, place));
        let files = (full & bits(index, false, true) != 0).then(|| no_files(run, place));
        [size, files]
    });
    full.chain([processes(run, peak, fired), open_files(run, peak)]).flatten().collect()
}

fn no_room(run: &Supervised, place: &Place) -> Denial {
    let (path, max) = (place.path.display(), place.size.max);
    denial(
        run,
        "filesystem.tmp.size",
        &place.size.because,
        format!("`{path}` was full when the command ended: {max} of {max} were in use"),
        "leave less there, or write into the workspace",
    )
}

fn no_files(run: &Supervised, place: &Place) -> Denial {
    let (path, max) = (place.path.display(), place.files);
    denial(
        run,
        "filesystem.tmp.files",
        &place.size.because,
        format!("`{path}` was full when the command ended: {max} of {max} files were there"),
        "leave fewer files there, or write into the workspace",
    )
}

/// Threads count, as they do for the kernel.
fn processes(run: &Supervised, peak: Occupied, fired: Fired) -> Option<Denial> {
    let limit = &run.limits.processes;
    let max = limit.max.0;
    let reached = match run.limits.processes_by {
        // Without the peak a limit of a directory above could have been the one that refused.
        ProcessesBy::Cgroup if fired.forks > 0 => fired.processes_peak.unwrap_or(max),
        // Init is one of those whom the kernel counts.
        ProcessesBy::Kernel => peak.tasks.saturating_add(1),
        ProcessesBy::Cgroup | ProcessesBy::Polling => 0,
    };
    (reached >= max).then(|| {
        denial(
            run,
            "limits.processes",
            &limit.because,
            format!("it had {max} processes and threads at once, which is the limit"),
            "start fewer processes, for example fewer parallel jobs",
        )
    })
}

fn open_files(run: &Supervised, peak: Occupied) -> Option<Denial> {
    let limit = &run.limits.open_files;
    (peak.open_files >= limit.max.0).then(|| {
        denial(
            run,
            "limits.open_files",
            &limit.because,
            format!("one process had {} files open, which is the limit", peak.open_files),
            "close files that are not needed any more",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_bits_of_its_own() {
        let all: Vec<u64> =
            (0..PLACES_MAX).flat_map(|it| [bits(it, true, false), bits(it, false, true)]).collect();
        assert_eq!(all.iter().fold(0, |sum, it| sum | it), u64::MAX);
        assert!(all.iter().all(|it| it.is_power_of_two()));
        assert_eq!(bits(PLACES_MAX, true, true), 0);
        assert_eq!(bits(3, false, false), 0);
    }
}
