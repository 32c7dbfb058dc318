//! Records, launches and concludes: the half of the pipeline that has effects.

use std::cell::RefCell;

use super::record::{conclude, decision, quarantined, redact, start_record};
use super::way_out::WayOut;
use super::{EngineError, Ready, Surroundings};
use crate::launch::watched::{self, Guarded, Left, Settled, Undone, WatchError};
use crate::launch::{self, Ended, Launch};
use crate::ledger::{Answer, Decision, Ledger, Record};
use crate::model::{Denial, Layer, Level, Outcome, Request, Status, Usage};
use crate::plan::{Receipt, RecordedPlan, SandboxPlan, ViewEntry, Watched, What};
use crate::profile::Durable;

/// Records, launches and concludes.
pub(super) fn launch(
    ready: Ready,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Outcome, EngineError> {
    let Ready { request, permit, profile, plan, filter } = ready;
    let run = request.ids.run.clone();
    let digest = plan.digest()?;
    let gaps: Vec<String> = plan.gaps.iter().map(ToString::to_string).collect();
    let record = Decision {
        decision: Answer::Allow,
        rule: permit.rule().to_owned(),
        reason: permit.origin().because.to_string(),
        origin: Some(permit.origin().clone()),
        plan_digest: Some(digest),
        gaps: gaps.clone(),
        ..decision(&request, &profile)?
    };
    let receipt = ledger.append(around.now, &[Record::Decision(Box::new(record))])?;
    let receipt = Receipt { sequence: receipt.seq(), fingerprint: receipt.fp() };
    if profile.audit.durable == Durable::BeforeExec {
        ledger.sync()?;
    }
    let start = start_record(&run, &plan, digest)?;
    let Request { ids, level, workspace, .. } = request;
    let watched = plan.watched.clone();
    let guarded = guarded(&plan);
    drop((permit, profile));
    let way_out = RefCell::new(WayOut::start(&plan)?);
    let gateway = way_out.borrow().channel()?;
    let mut watch = None;
    let mut arm = || -> Result<(), WatchError> {
        watch = watched::arm(&around.directories.state, &run, &workspace, &watched, &guarded)?;
        Ok(())
    };
    let ended = launch::run(Launch {
        recorded: RecordedPlan::new(plan, receipt),
        filter: filter.instructions(),
        gateway,
        file_mask: around.file_mask,
        before_start: &mut || {
            arm().map_err(|error| error.to_string())?;
            way_out.borrow_mut().ready()
        },
        overlapped: &mut || ledger.sync().map_err(|error| error.to_string()),
    });
    let seen = way_out.into_inner().finish();
    let Settled { undone, changed, left } = watch.map(watched::Watch::settle).unwrap_or_default();
    let Ended { status, started, usage, mut denials, mut notes } =
        ended.unwrap_or_else(|error| Ended {
            status: Status::Failed { reason: error.to_string() },
            started: false,
            usage: Usage::default(),
            denials: Vec::new(),
            notes: Vec::new(),
        });
    if started {
        denials.extend(seen.denials);
        notes.extend(seen.notes);
    }
    let network = seen.traffic;
    denials.extend(undone.iter().map(|it| protected(level, &watched, it)));
    denials.extend(changed.iter().chain(&left).map(|it| not_as_before(level, &watched, it)));
    let mut records = quarantined(&run, &undone)?;
    if started {
        records.insert(0, start);
    }
    denials.iter_mut().for_each(redact);
    let concluded = conclude(records, &run, &status, usage, &network, &denials, ledger, around);
    let status = match concluded {
        Ok(()) => status,
        Err(error) => {
            let reason = format!("the command ran, but its end could not be recorded: {error}");
            Status::Failed { reason }
        }
    };
    Ok(Outcome { ids, level, status, denials, gaps, notes, usage, network })
}

/// The protected objects that the run finds in place.
fn guarded(plan: &SandboxPlan) -> Vec<Guarded> {
    let one = |entry: &ViewEntry| match entry.what {
        What::Protected { device, inode, .. } => {
            Some(Guarded { path: entry.path.clone(), device, inode })
        }
        _ => None,
    };
    plan.view.iter().filter_map(one).collect()
}

fn protected(level: Level, watched: &[Watched], undone: &Undone) -> Denial {
    let moved = undone.quarantine.display();
    let was = "the name is protected and what is there was not there before";
    Denial {
        reason: format!("{was}, so it was moved to {moved}"),
        ..not_as_before(level, watched, &Left { path: undone.path.clone(), why: String::new() })
    }
}

fn not_as_before(level: Level, watched: &[Watched], left: &Left) -> Denial {
    let watched = watched.iter().find(|it| it.path.starts_with(&left.path));
    Denial {
        layer: Layer::File,
        rule: "filesystem.protected".to_owned(),
        level,
        object: left.path.display().to_string(),
        reason: format!(
            "the name is protected, is not as it was before the run, and was not put right: {}",
            left.why
        ),
        origin: watched.map(|it| it.because.clone()),
        allow_with: None,
        next: "leave protected names alone; a person can take it from there".to_owned(),
        count: 1,
    }
}
