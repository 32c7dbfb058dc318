//! What the ledger is told about a run, and the refusals that are nothing but a record.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{EngineError, Surroundings};
use crate::egress::LeaseSeen;
use crate::launch::LaunchError;
use crate::launch::watched::Undone;
use crate::ledger::{
    Answer, Decision, DenialSeen, ExecEnd, ExecStart, Lease, LeaseEvent, Ledger, Quarantine,
    Record, Redactor,
};
use crate::model::{Arg, Denial, Digest, Outcome, Request, Status, Usage, printable};
use crate::plan::SandboxPlan;
use crate::plan::egress::CredentialPlan;
use crate::profile::Profile;

/// The facts that every decision record has, whatever was decided.
pub(super) fn decision(request: &Request, profile: &Profile) -> Result<Decision, EngineError> {
    Ok(Decision {
        ids: request.ids.clone(),
        decision: Answer::Deny,
        rule: String::new(),
        reason: String::new(),
        origin: None,
        level: request.level,
        profile: profile.name.clone(),
        profile_digest: profile.digest,
        plan_digest: None,
        argv: request.argv.clone(),
        cwd: word(&request.cwd)?,
        workspace: word(&request.workspace)?,
        gaps: Vec::new(),
        learning: false,
    })
}

pub(super) fn refuse(
    request: Request,
    profile: &Profile,
    mut denial: Denial,
    answer: Answer,
    status: Status,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Outcome, EngineError> {
    redact(&mut denial, &request.argv);
    let record = Decision {
        decision: answer,
        rule: denial.rule.clone(),
        reason: denial.reason.clone(),
        origin: denial.origin.clone(),
        ..decision(&request, profile)?
    };
    let seen = DenialSeen { run: request.ids.run.clone(), denial: denial.clone() };
    ledger.append(
        around.now,
        &[Record::Decision(Box::new(record)), Record::Denial(Box::new(seen))],
    )?;
    ledger.sync()?;
    Ok(Outcome {
        level: request.level,
        ids: request.ids,
        status,
        denials: vec![denial],
        gaps: Vec::new(),
        notes: Vec::new(),
        changes: Vec::new(),
        usage: Usage::default(),
        layer: None,
        network: Vec::new(),
    })
}

/// Takes what looks like a secret out of what is shown, as the ledger does with what it records, and
/// what would act on the terminal that shows it: names of programs and files can hold anything.
/// A word of the command that is quoted alone has lost what said that it is a secret, so the words
/// are looked at together first.
pub(super) fn redact(denial: &mut Denial, argv: &[Arg]) {
    let redactor = Redactor::of_argv(argv);
    let mut clean = argv.to_vec();
    Redactor::default().argv(&mut clean);
    let quoted = |word: &Arg| format!("`{word}`");
    let changed = argv.iter().zip(&clean).filter(|(word, clean)| word != clean);
    let changed: Vec<_> = changed.map(|(word, clean)| (quoted(word), quoted(clean))).collect();
    let texts = [&mut denial.object, &mut denial.reason, &mut denial.next];
    for text in texts.into_iter().chain(&mut denial.allow_with) {
        for (word, clean) in &changed {
            *text = text.replace(word, clean);
        }
        redactor.text(text);
        *text = printable(text);
    }
}

pub(super) fn start_record(
    run: &str,
    plan: &SandboxPlan,
    digest: Digest,
) -> Result<Record, EngineError> {
    Ok(Record::ExecStart(ExecStart {
        run: run.to_owned(),
        program: word(&plan.command.program)?,
        plan_digest: digest,
        pid: None,
        environment: BTreeMap::new(),
    }))
}

pub(super) fn conclude(
    mut records: Vec<Record>,
    end: ExecEnd,
    denials: &[Denial],
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<(), EngineError> {
    records.extend(denials.iter().map(|denial| {
        let seen = DenialSeen { run: end.run.clone(), denial: denial.clone() };
        Record::Denial(Box::new(seen))
    }));
    let elapsed = i64::try_from(end.usage.wall_ms).unwrap_or(0);
    records.push(Record::ExecEnd(end));
    let elapsed = jiff::SignedDuration::from_millis(elapsed);
    let now = around.now.checked_add(elapsed).unwrap_or(around.now);
    ledger.append(now, &records)?;
    if ledger.checkpoint_due(now)? {
        ledger.checkpoint(now)?;
    }
    Ok(())
}

pub(super) fn quarantined(run: &str, undone: &[Undone]) -> Result<Vec<Record>, EngineError> {
    undone
        .iter()
        .map(|it| {
            Ok(Record::Quarantine(Quarantine {
                run: run.to_owned(),
                path: word(&it.path)?,
                moved_to: Some(word(&it.quarantine)?),
                reason: "the name is protected and was not there before the run".to_owned(),
            }))
        })
        .collect()
}

/// That credentials were lent, before anything can use them.
pub(super) fn issued(run: &str, plans: &[CredentialPlan]) -> Vec<Record> {
    plans.iter().map(|it| lease(run, it, LeaseEvent::Issued, 1)).collect()
}

/// What became of them. Every lease ends with its run.
pub(super) fn ended_leases(run: &str, plans: &[CredentialPlan], seen: &[LeaseSeen]) -> Vec<Record> {
    let mut records = Vec::new();
    for plan in plans {
        let counts = seen.iter().find(|it| it.name == plan.name);
        let (used, refused) = counts.map_or((0, 0), |it| (it.used, it.refused));
        if used > 0 {
            records.push(lease(run, plan, LeaseEvent::Used, used));
        }
        if refused > 0 {
            records.push(lease(run, plan, LeaseEvent::Refused, refused));
        }
        records.push(lease(run, plan, LeaseEvent::Expired, 1));
    }
    records
}

fn lease(run: &str, plan: &CredentialPlan, event: LeaseEvent, count: u64) -> Record {
    Record::Credential(Lease {
        run: run.to_owned(),
        credential: plan.name.clone(),
        host: plan.host.to_string(),
        event,
        count,
    })
}

pub(super) fn word(path: &Path) -> Result<Arg, EngineError> {
    Ok(Arg::new(path.as_os_str().as_bytes()).map_err(|_| LaunchError::NulByte)?)
}
