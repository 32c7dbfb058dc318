//! Records, launches and concludes: the half of the pipeline that has effects.

use std::cell::RefCell;
use std::path::Path;

use super::gate::Keeper;
use super::inside::Inside;
use super::learn::Lessons;
use super::quota::Quotas;
use super::record::{conclude, decision, ended_leases, issued, quarantined, redact, start_record};
use super::repository::Beside;
use super::way_out::{Seen, WayOut};
use super::{EngineError, Ready, Surroundings};
use crate::launch::gate::Judge;
use crate::launch::watched::{self, Guarded, Left, List, Settled, Undone, WatchError};
use crate::launch::{self, Ended, Launch};
use crate::ledger::{Answer, Decision, ExecEnd, Ledger, Record};
use crate::model::{
    Attempts, Denial, Digest, Layer, Level, Outcome, Request, Status, Usage, lies_in,
};
use crate::plan::{Receipt, RecordedPlan, SandboxPlan, ViewEntry, Watched, What};
use crate::profile::Durable;

/// Records, launches and concludes.
pub(super) fn launch(
    ready: Ready,
    (inside, beside): (Option<&Inside>, Option<&Beside>),
    quotas: &mut Quotas<'_>,
    lessons: Option<&mut Lessons>,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Outcome, EngineError> {
    let digest = ready.plan.digest()?;
    let gaps: Vec<String> = ready.plan.gaps.iter().map(ToString::to_string).collect();
    let receipt = recorded(&ready, (digest, &gaps), lessons.is_some(), ledger, around)?;
    let start = start_record(&ready.request.ids.run, &ready.plan, digest)?;
    let watched = ready.plan.watched.clone();
    let over = carry_out(ready, receipt, (inside, beside), quotas, lessons, ledger, around)?;
    let Over { request, ended, settled, seen, leases, judged, counted } = over;
    let (run, level) = (request.ids.run.clone(), request.level);
    let Ended { status, started, usage, mut denials, mut notes, .. } = ended;
    if started {
        denials.extend(seen.denials);
        notes.extend(seen.notes);
    }
    let (status, mut records) = match judged {
        Ok((records, refused)) => {
            denials.extend(refused);
            (status, records)
        }
        Err(reason) => (Status::Failed { reason }, Vec::new()),
    };
    let (over, layer) = match counted.and_then(|()| quotas.finish()) {
        Ok(()) => quotas.told(),
        Err(error) => {
            notes.push(format!("what the session holds could not be counted: {error}"));
            (None, None)
        }
    };
    denials.extend(over);
    let kept = beside.map_or(Ok(Vec::new()), |it| it.settle(level, ledger, around));
    let status = match kept {
        Ok(not_kept) => {
            denials.extend(not_kept);
            status
        }
        Err(error) => {
            let reason = format!(
                "the command ran, but its commits could not be kept, which the next run here tries again: {error}"
            );
            Status::Failed { reason }
        }
    };
    let Settled { undone, changed, left } = settled;
    denials.extend(undone.iter().map(|it| protected(level, &watched, it)));
    denials.extend(changed.iter().chain(&left).map(|it| not_as_before(level, &watched, it)));
    if started {
        records.insert(0, start);
        records.extend(seen.records);
    }
    records.extend(quarantined(&run, &undone)?);
    records.extend(leases);
    for denial in &mut denials {
        redact(denial, &request.argv);
    }
    let network = seen.traffic;
    let end = ExecEnd {
        run,
        status: status.clone(),
        exit_code: status.exit_code(),
        usage,
        network: network.clone(),
        denials: u32::try_from(denials.len()).unwrap_or(u32::MAX),
    };
    let status = match conclude(records, end, &denials, ledger, around) {
        Ok(()) => status,
        Err(error) => {
            let reason = format!("the command ran, but its end could not be recorded: {error}");
            Status::Failed { reason }
        }
    };
    Ok(Outcome {
        ids: request.ids,
        level,
        status,
        denials,
        gaps,
        notes,
        changes: Vec::new(),
        usage,
        layer,
        network,
    })
}

/// Writes down what is permitted, before anything of it happens.
fn recorded(
    ready: &Ready,
    (digest, gaps): (Digest, &[String]),
    learning: bool,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Receipt, EngineError> {
    let Ready { request, permit, profile, .. } = ready;
    let record = Decision {
        decision: Answer::Allow,
        rule: permit.rule().to_owned(),
        reason: permit.origin().because.to_string(),
        origin: Some(permit.origin().clone()),
        plan_digest: Some(digest),
        gaps: gaps.to_vec(),
        learning,
        ..decision(request, profile)?
    };
    let receipt = ledger.append(around.now, &[Record::Decision(Box::new(record))])?;
    if profile.audit.durable == Durable::BeforeExec {
        ledger.sync()?;
    }
    Ok(Receipt { sequence: receipt.seq(), fingerprint: receipt.fp() })
}

/// What is known of a run when nothing of it is left.
struct Over {
    request: Request,
    ended: Ended,
    settled: Settled,
    seen: Seen,
    /// The ends of what was lent to it.
    leases: Vec<Record>,
    /// The programs it started and those refused to it, or why they could not be recorded.
    judged: Result<(Vec<Record>, Vec<Denial>), String>,
    /// Whether what its session holds could be counted.
    counted: Result<(), EngineError>,
}

/// Launches what is recorded, with the gateway, the gate and the watch over protected names.
fn carry_out(
    ready: Ready,
    receipt: Receipt,
    (inside, beside): (Option<&Inside>, Option<&Beside>),
    quotas: &mut Quotas<'_>,
    lessons: Option<&mut Lessons>,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Over, EngineError> {
    let Ready { request, permit, profile, plan, filter, repositories, caches: _ } = ready;
    let run = &request.ids.run;
    let guarded = guarded(&plan, &request.workspace);
    let keeper = RefCell::new(Keeper::new(&request, (&plan, &profile), lessons, around)?);
    let ledger = RefCell::new(ledger);
    let (root, in_place, held) = match inside {
        None => (request.workspace.clone(), plan.watched.clone(), guarded),
        Some(it) => (it.watched_root(), it.watched(&plan.watched), it.guarded(guarded)),
    };
    drop((permit, profile));
    let way_out = RefCell::new(WayOut::start(&plan, around)?);
    let credentials =
        plan.network.egress.iter().flat_map(|it| it.credentials.clone()).collect::<Vec<_>>();
    if !credentials.is_empty() {
        ledger.borrow_mut().append(around.now, &issued(run, &credentials))?;
    }
    let gateway = way_out.borrow().channel()?;
    let filling = way_out.borrow_mut().filling(&plan)?;
    keeper.borrow_mut().fill(&credentials, &filling);
    let watch = RefCell::new(None);
    let arm = |init| -> Result<(), WatchError> {
        let state = &around.directories.state;
        let list = List {
            init,
            watched: &in_place,
            guarded: &held,
            repositories: &repositories,
            index: beside.map(Beside::own),
        };
        watch.replace(watched::arm(state, run, &root, list)?);
        Ok(())
    };
    let mut settled = None;
    let quotas = RefCell::new(quotas);
    let mut counted = Ok(());
    let ended = launch::run(Launch {
        recorded: RecordedPlan::new(plan, receipt),
        filter: filter.instructions(),
        gateway,
        filling,
        file_mask: around.file_mask,
        before_start: &mut |init| {
            let locks = inside.and_then(|it| it.lock.as_ref());
            for lock in locks.into_iter().chain(beside.and_then(Beside::lock)) {
                lock.used_by(init).map_err(|error| error.to_string())?;
            }
            arm(init).map_err(|error| error.to_string())?;
            way_out.borrow_mut().ready()
        },
        judge: Judge {
            decide: &mut |fact, look| keeper.borrow_mut().decide(fact, look),
            told: &mut |fact, answer, became| {
                keeper.borrow_mut().told(fact, answer, became, &mut ledger.borrow_mut());
            },
        },
        overlapped: &mut || ledger.borrow().sync().map_err(|error| error.to_string()),
        look: &mut || quotas.borrow_mut().look(),
        over: &mut || {
            settled = watch.take().map(watched::Watch::settle);
            counted = quotas.borrow_mut().finish();
        },
    });
    let settled = settled.or_else(|| watch.take().map(watched::Watch::settle)).unwrap_or_default();
    let settled = match inside {
        Some(inside) => inside.renamed(settled),
        None => settled,
    };
    let mut ended = ended.unwrap_or_else(|error| Ended {
        status: Status::Failed { reason: error.to_string() },
        started: false,
        usage: Usage::default(),
        denials: Vec::new(),
        notes: Vec::new(),
        attempts: Attempts::default(),
    });
    let seen = way_out.into_inner().finish(run, std::mem::take(&mut ended.attempts));
    let leases = ended_leases(run, &credentials, &seen.leases);
    let judged = keeper.into_inner().finish();
    Ok(Over { request, ended, settled, seen, leases, judged, counted })
}

/// The protected objects that the run finds in place.
fn guarded(plan: &SandboxPlan, workspace: &Path) -> Vec<Guarded> {
    let one = |entry: &ViewEntry| match entry.what {
        What::Protected { device, inode, .. } if lies_in(&entry.path, workspace) => {
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
