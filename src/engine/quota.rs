//! What the runs of a session may leave in its layer: refused before a run, ended during it, told
//! at its end.

use super::EngineError;
use super::caches::is_cache;
use super::inside::Inside;
use super::repository::Beside;
use crate::model::{Arg, Bytes, Count, Denial, Layer, LayerUse, Level};
use crate::plan::{LayerLimits, SandboxPlan};
use crate::session::{Counter, Over, Quota, Session, Used};

/// The layers that a run writes to, being counted.
#[derive(Debug, Default)]
pub(super) struct Quotas<'a> {
    level: Option<Level>,
    limits: Option<LayerLimits>,
    object: String,
    /// The name of the session.
    session: String,
    counted: Vec<(Counter, &'a Session)>,
    told: bool,
    finished: bool,
}

impl<'a> Quotas<'a> {
    /// Nothing for a run that writes to no layer.
    pub(super) fn of(
        plan: &SandboxPlan,
        (inside, beside): (Option<&'a Inside>, Option<&'a Beside>),
        caches: &'a [Session],
    ) -> Result<Self, EngineError> {
        let Some(limits) = plan.limits.layer.clone() else { return Ok(Self::default()) };
        let quota = Quota { bytes: limits.size.max, files: limits.files.max };
        let session = inside.map(|it| it.session.manifest.name.clone()).unwrap_or_default();
        let inside = inside.filter(|it| it.layered()).map(|it| &it.session);
        let layers = inside.into_iter().chain(beside.and_then(Beside::layer)).chain(caches);
        let counted = layers
            .map(|session| Ok((Counter::new(session, quota)?, session)))
            .collect::<Result<_, EngineError>>()?;
        let words: Vec<String> = plan.command.argv.iter().map(Arg::to_string).collect();
        let object = words.join(" ");
        let level = Some(plan.level);
        Ok(Self { level, limits: Some(limits), object, session, counted, ..Self::default() })
    }

    /// Why nothing may run before somebody has made room.
    pub(super) fn refused(&self) -> Option<Denial> {
        let over = |(counter, layer): &(Counter, &Session)| {
            let name = &self.session;
            let next = if is_cache(layer, name) {
                "start it again: what the session had written into this cache was thrown away"
                    .into()
            } else {
                format!(
                    "a person applies what is worth keeping (`rung session apply {name}`) and drops \
                     the rest (`rung session discard {name}`, or `rung session discard {name} \
                     PATH`), or raises the limit"
                )
            };
            self.denial(counter.over()?, counter.used(), next)
        };
        self.counted.iter().find_map(over)
    }

    /// Asked a few times a second while the command runs: an answer ends it.
    pub(super) fn look(&mut self) -> Option<Denial> {
        if self.told {
            return None;
        }
        let mut found = None;
        for (counter, session) in &mut self.counted {
            match counter.look() {
                Ok(None) => {}
                Ok(Some(over)) => found = Some((over, counter.used(), String::new())),
                Err(error) => {
                    let name = &session.manifest.name;
                    let why =
                        format!("the layer of the session `{name}` cannot be counted: {error}");
                    found = Some((Over::Bytes, counter.used(), why));
                }
            }
        }
        let (over, used, why) = found?;
        self.told = true;
        let mut denial = self.denial(over, used, next().to_owned())?;
        if !why.is_empty() {
            denial.reason = why;
        }
        Some(denial)
    }

    /// What there is when nobody writes any more, and what nobody noticed while the run lived.
    pub(super) fn finish(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        for (counter, session) in &mut self.counted {
            counter.finish(session)?;
        }
        Ok(())
    }

    /// What is said at the end: a denial, unless it was said before, and the use.
    pub(super) fn told(&self) -> (Option<Denial>, Option<LayerUse>) {
        let over = |(counter, _): &(Counter, &Session)| {
            self.denial(counter.over()?, counter.used(), next().to_owned())
        };
        let denial = self.counted.iter().find_map(over).filter(|_| !self.told);
        let Some(limits) = &self.limits else { return (denial, None) };
        let used = self.counted.iter().fold((0, 0), |(bytes, files), (counter, _)| {
            let Used { bytes: more, files: names, .. } = counter.used();
            (bytes + more, files + names)
        });
        let shown = LayerUse {
            bytes: Bytes(used.0),
            bytes_max: limits.size.max,
            files: Count(used.1),
            files_max: limits.files.max,
        };
        (denial, (!self.counted.is_empty()).then_some(shown))
    }

    /// The layers of caches that hold more than they may.
    pub(super) fn full_caches(&self) -> impl Iterator<Item = &'a Session> {
        let full = |(counter, layer): &(Counter, &'a Session)| {
            (counter.over().is_some() && is_cache(layer, &self.session)).then_some(*layer)
        };
        self.counted.iter().filter_map(full)
    }

    fn denial(&self, over: Over, used: Used, next: String) -> Option<Denial> {
        let (level, limits) = (self.level?, self.limits.as_ref()?);
        let Used { bytes, files, .. } = used;
        let (rule, origin, reason) = match over {
            Over::Bytes => (
                "limits.session",
                &limits.size.because,
                format!(
                    "what the runs of the session have left occupies {}; {} is the limit",
                    rounded(bytes),
                    limits.size.max
                ),
            ),
            Over::Files => (
                "limits.session_files",
                &limits.files.because,
                format!(
                    "the runs of the session have left {files} files, directories and deletions; \
                     {} is the limit",
                    limits.files.max
                ),
            ),
            Over::Depth => (
                "limits.session",
                &limits.size.because,
                "what the runs of the session have left is nested deeper than rung follows"
                    .to_owned(),
            ),
        };
        let allow_with = (over != Over::Depth).then(|| format!("a larger `{rule}` in the profile"));
        Some(Denial {
            layer: Layer::Limit,
            rule: rule.to_owned(),
            level,
            object: self.object.clone(),
            reason,
            origin: Some(origin.clone()),
            allow_with,
            next,
            count: 1,
        })
    }
}

fn next() -> &'static str {
    "write less, or have a person apply or discard what the session holds"
}

/// As somebody would say it.
fn rounded(bytes: u64) -> Bytes {
    let unit = if bytes >= 1 << 30 { 20 } else { 10 };
    Bytes(bytes.div_ceil(1 << unit) << unit)
}
