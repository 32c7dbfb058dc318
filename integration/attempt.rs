//! An attempt to get out, as data, and the three arms that prove something about it.
//!
//! *Control*: outside the sandbox the very same attempt works, so that the denial inside is the
//! sandbox's doing and not a typing error. *Denied*: inside, at each level, it does not, and the
//! host shows no trace of it. *Recorded*: the ledger has the run's decision and its end, as the
//! report says them.
//!
//! The tests may be run by root, and a wall may be missing: every attempt is one that does no harm
//! to the host where it works. It opens for writing and does not write, it mounts where nothing
//! lies, it signals what ignores it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rung::model::Status;

use crate::harness::{LEVELS, Place, Run, Sibling, tree};

/// One thing to try.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    /// As the list of known attacks numbers it.
    pub(crate) id: &'static str,
    /// What the probe is told, with the names of the place in braces.
    words: &'static str,
    control: Control,
    /// How the probe may end inside: errno, or a code of its own.
    ends: &'static [i32],
    proof: Proof,
    levels: &'static [u8],
    setup: fn(&Place),
    /// Why it works inside today, where it does.
    residual: Option<&'static str>,
}

/// What happens without the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    /// It works for an ordinary user.
    Works,
    /// It works with the capabilities that a user namespace of one's own gives.
    WorksAsRoot,
    /// It fails too, but the kernel gives another answer: the call was let through and judged.
    Answers(&'static [i32]),
    /// Nothing to compare with.
    None,
}

/// Where it shows that an attempt has worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The probe's own exit code.
    Exit,
    /// Something beside the workspace is not what it was.
    Outside,
    /// A process of the host got a signal.
    Sibling,
    /// A listener of the host was called.
    Contact,
}

/// Killed by the filter for a call of another architecture: 128 + SIGSYS.
pub(crate) const KILLED_BY_FILTER: i32 = 128 + libc::SIGSYS;
pub(crate) const EPERM: i32 = libc::EPERM;
pub(crate) const ENOENT: i32 = libc::ENOENT;
pub(crate) const EACCES: i32 = libc::EACCES;
pub(crate) const EBUSY: i32 = libc::EBUSY;
pub(crate) const EXDEV: i32 = libc::EXDEV;
pub(crate) const EROFS: i32 = libc::EROFS;
pub(crate) const ENOSYS: i32 = libc::ENOSYS;
/// The probe's own: nothing was refused and nothing came of it.
pub(crate) const NO_EFFECT: i32 = 201;

impl Attempt {
    /// An attempt that works outside and must end with one of these codes inside.
    pub(crate) const fn new(id: &'static str, words: &'static str, ends: &'static [i32]) -> Self {
        Self {
            id,
            words,
            control: Control::Works,
            ends,
            proof: Proof::Exit,
            levels: &LEVELS,
            setup: |_| {},
            residual: None,
        }
    }

    /// Outside it takes the capabilities of a user namespace.
    pub(crate) const fn as_root(mut self) -> Self {
        self.control = Control::WorksAsRoot;
        self
    }

    /// Outside it fails as well, but otherwise than inside.
    pub(crate) const fn outside_answers(mut self, answers: &'static [i32]) -> Self {
        self.control = Control::Answers(answers);
        self
    }

    /// There is nothing to compare with; `because` says why the attempt is worth making all the
    /// same, and has to say something.
    pub(crate) const fn without_control(mut self, because: &'static str) -> Self {
        assert!(!because.is_empty());
        self.control = Control::None;
        self
    }

    /// It has worked if something beside the workspace has changed.
    pub(crate) const fn changes_outside(mut self) -> Self {
        self.proof = Proof::Outside;
        self
    }

    /// It has worked if another process of the host got a signal.
    pub(crate) const fn signals_sibling(mut self) -> Self {
        self.proof = Proof::Sibling;
        self
    }

    /// It has worked if a listener of the host was called.
    pub(crate) const fn calls_host(mut self) -> Self {
        self.proof = Proof::Contact;
        self
    }

    pub(crate) const fn at(mut self, levels: &'static [u8]) -> Self {
        self.levels = levels;
        self
    }

    pub(crate) const fn after(mut self, setup: fn(&Place)) -> Self {
        self.setup = setup;
        self
    }

    /// It works inside today, and this is why that is known and accepted.
    pub(crate) const fn residual(mut self, because: &'static str) -> Self {
        self.residual = Some(because);
        self
    }

    fn told(&self, place: &Place, sibling: &Sibling) -> Vec<String> {
        let pid = sibling.0.id().to_string();
        let words = self.words.split_ascii_whitespace();
        words.map(|word| place.fill_in(word).replace("{sibling}", &pid)).collect()
    }
}

/// How an attempt went at every level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Residual(&'static str),
    Failed(String),
}

/// Makes the attempt, once, whoever asks.
pub(crate) fn verdict(attempt: &Attempt) -> Verdict {
    type Memory = Mutex<BTreeMap<&'static str, Arc<OnceLock<Verdict>>>>;
    static MEMORY: Memory = Mutex::new(BTreeMap::new());
    let cell = {
        let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memory.entry(attempt.id).or_default())
    };
    cell.get_or_init(|| match arms(attempt) {
        Err(failure) => Verdict::Failed(failure),
        Ok(()) => attempt.residual.map_or(Verdict::Held, Verdict::Residual),
    })
    .clone()
}

/// The test of one attempt.
#[track_caller]
pub(crate) fn check(attempt: &Attempt) {
    if let Verdict::Failed(failure) = verdict(attempt) {
        panic!("{}: `{}`: {failure}", attempt.id, attempt.words);
    }
}

fn arms(attempt: &Attempt) -> Result<(), String> {
    control(attempt).map_err(|failure| format!("outside: {failure}"))?;
    for level in attempt.levels {
        inside(attempt, *level).map_err(|failure| format!("at level {level}: {failure}"))?;
    }
    Ok(())
}

/// What the host shows after an attempt.
struct Traces {
    code: i32,
    err: String,
    outside_changed: bool,
    sibling_hit: bool,
    contacts: usize,
}

fn control(attempt: &Attempt) -> Result<(), String> {
    let place = Place::new();
    (attempt.setup)(&place);
    let sibling = Sibling::new(&place);
    let mut words = attempt.told(&place, &sibling);
    match attempt.control {
        Control::None => return Ok(()),
        Control::WorksAsRoot => words.insert(0, "as-root".to_owned()),
        Control::Works | Control::Answers(_) => {}
    }
    let (traces, ()) = watch(&place, sibling, place.outside_probe(&words), |_| Ok(()))?;
    let worked = match attempt.proof {
        Proof::Exit => traces.code == 0,
        Proof::Outside => traces.outside_changed,
        Proof::Sibling => traces.sibling_hit,
        Proof::Contact => traces.contacts > 0,
    };
    match attempt.control {
        Control::Answers(answers) if answers.contains(&traces.code) => Ok(()),
        Control::Works | Control::WorksAsRoot if worked => Ok(()),
        _ => Err(format!("it does not work there either: {} {}", traces.code, traces.err)),
    }
}

fn inside(attempt: &Attempt, level: u8) -> Result<(), String> {
    let place = Place::new();
    (attempt.setup)(&place);
    let sibling = Sibling::new(&place);
    let run = place.rung(level).probe(&attempt.told(&place, &sibling));
    let (traces, status) = watch(&place, sibling, run, |ended| {
        ended.check_records()?;
        let outcome = ended.outcome.as_ref().ok_or("there is no report")?;
        match &outcome.status {
            Status::Exited { .. } | Status::Signaled { .. } | Status::Limited { .. } => {
                Ok(outcome.status.clone())
            }
            other => Err(format!("the probe was never started: {other:?}")),
        }
    })?;
    if traces.outside_changed {
        return Err("something beside the workspace has changed".to_owned());
    }
    if traces.sibling_hit {
        return Err("a process of the host got a signal".to_owned());
    }
    if traces.contacts > 0 && attempt.residual.is_none() {
        return Err("a listener of the host was called".to_owned());
    }
    let code = i32::from(status.exit_code());
    match attempt.residual {
        Some(_) if code == 0 => Ok(()),
        Some(_) => Err(format!("it is held by now, with {code}: no residual any more")),
        None if attempt.ends.contains(&code) => Ok(()),
        None => {
            Err(format!("it ended with {code}, {:?} were expected: {}", attempt.ends, traces.err))
        }
    }
}

/// Runs it beside a sibling and looks at everything that could show an effect.
fn watch<T>(
    place: &Place,
    mut sibling: Sibling,
    run: Run<'_>,
    look: impl Fn(&crate::harness::Ended) -> Result<T, String>,
) -> Result<(Traces, T), String> {
    let before = tree(&place.outside);
    let ended = run.in_group_of(&sibling.0).end();
    let traces = Traces {
        code: ended.code(),
        err: ended.err.clone(),
        outside_changed: tree(&place.outside) != before,
        sibling_hit: !sibling.is_alive(),
        contacts: place.contacts(),
    };
    let seen = look(&ended).map_err(|failure| format!("{failure}: {}", ended.err))?;
    Ok((traces, seen))
}

/// Declares a table of attempts, and a test for each: the name is the sentence that it proves.
macro_rules! attempts {
    ($($name:ident: $attempt:expr;)*) => {
        pub(crate) const ALL: &[crate::attempt::Attempt] = &[$($attempt),*];

        mod held {
            use super::*;
            $(
                #[test]
                fn $name() {
                    crate::attempt::check(&$attempt);
                }
            )*
        }
    };
}
pub(crate) use attempts;
