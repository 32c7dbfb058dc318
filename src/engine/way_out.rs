//! The gateway of one run: started beside the sandbox, asked at the end, when what was tried to reach
//! gets its names back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::{EngineError, Surroundings, lend};
use crate::egress::{self, Gateway, LeaseSeen, Report};
use crate::launch::Filling;
use crate::ledger::{Connect, Record};
use crate::model::{Attempt, Attempts, Denial, Level, Protocol, Traffic};
use crate::plan::SandboxPlan;
use crate::plan::egress::{EgressPlan, Foreseen, RANGE_PORTS_MAX, TRUST_BYTES_MAX, foresee};

/// Refused attempts that are told one by one; each has a record in any case.
const TOLD_MAX: usize = 64;

/// Programs that a denial names; all are in the records.
const PROGRAMS_TOLD_MAX: usize = 4;

/// Without a gateway where the plan has no way out.
#[derive(Debug)]
pub(super) struct WayOut {
    level: Level,
    egress: Option<EgressPlan>,
    gateway: Option<Gateway>,
    placeholders: BTreeMap<String, String>,
}

/// What happened on the way out, and before it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) denials: Vec<Denial>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) notes: Vec<String>,
    /// Who wanted what was refused.
    pub(super) records: Vec<Record>,
    /// How often each credential was used.
    pub(super) leases: Vec<LeaseSeen>,
}

impl WayOut {
    /// Starts the gateway, if the plan needs one. It gets ready by itself.
    pub(super) fn start(plan: &SandboxPlan, around: &Surroundings) -> Result<Self, EngineError> {
        let mut way_out = Self {
            level: plan.level,
            egress: plan.network.egress.clone(),
            gateway: None,
            placeholders: BTreeMap::new(),
        };
        if let Some(egress) = &way_out.egress {
            let lent = lend::lend(&egress.credentials, around)?;
            way_out.placeholders = lend::placeholders(&egress.credentials, &lent);
            way_out.gateway = Some(egress::start(egress, lent, plan.level)?);
        }
        Ok(way_out)
    }

    /// Where the sandbox's sockets go.
    pub(super) fn channel(&self) -> Result<Option<OwnedFd>, EngineError> {
        Ok(self.gateway.as_ref().map(Gateway::channel).transpose()?)
    }

    /// What the run's own files have in them. Waits for the gateway only where it makes something.
    pub(super) fn filling(&mut self, plan: &SandboxPlan) -> Result<Filling, EngineError> {
        let Some(gateway) = &mut self.gateway else { return Ok(Filling::default()) };
        let Some(egress) = plan.network.egress.as_ref().filter(|it| it.reads()) else {
            return Ok(Filling::default());
        };
        let mut authorities = Vec::new();
        for path in &egress.trust {
            let failed = |source| EngineError::Read { path: path.clone(), source };
            let file = File::open(path).map_err(failed)?;
            file.take(TRUST_BYTES_MAX).read_to_end(&mut authorities).map_err(failed)?;
            authorities.push(b'\n');
        }
        authorities.extend(gateway.authority()?);
        Ok(Filling { authorities, placeholders: std::mem::take(&mut self.placeholders) })
    }

    /// The command may start only when the gateway has confined itself.
    pub(super) fn ready(&mut self) -> Result<(), String> {
        self.gateway.as_mut().map_or(Ok(()), |it| it.ready().map_err(|error| error.to_string()))
    }

    /// Ends the gateway, and puts together what it saw and what the gate heard.
    pub(super) fn finish(self, run: &str, attempts: Attempts) -> Seen {
        let Self { level, egress, gateway, .. } = self;
        let number = |it: &Attempt| egress.as_ref()?.pool.name_at(it.address);
        let all = attempts.refused.iter().chain(&attempts.made);
        let wanted: BTreeSet<u32> = all.filter_map(number).collect();
        let wanted: Vec<u32> = wanted.into_iter().collect();
        let report = gateway.map(|it| it.finish(&wanted)).unwrap_or_default();
        let Report { denials, traffic, notes, names, leases } = report;
        let named = Named { level, egress: egress.as_ref(), names };
        let mut seen = Seen { denials, traffic, notes, records: Vec::new(), leases };
        for denial in &mut seen.denials {
            // Of a request it begins with the method.
            let at = denial.object.rsplit(' ').next();
            let tried: Vec<&Attempt> =
                attempts.made.iter().filter(|it| Some(&*named.object(it)) == at).collect();
            let programs: BTreeSet<&String> = tried.iter().map(|it| &it.program).collect();
            if !programs.is_empty() {
                by(denial, programs, "connected to it");
            } else if !attempts.asked.is_empty() && is_name(&denial.object) {
                // The resolver cannot see who asks; the gate sees who turns to it.
                by(denial, attempts.asked.iter().collect(), "asked for names");
            }
            let object = &denial.object;
            seen.records.extend(tried.into_iter().map(|it| record(run, object, it.clone())));
        }
        for denial in attempts.refused.iter().take(TOLD_MAX).filter_map(|it| named.denial(it)) {
            // A name has an address of each family.
            let same =
                |it: &&mut Denial| (&it.object, &it.reason) == (&denial.object, &denial.reason);
            match seen.denials.iter_mut().find(same) {
                Some(known) => known.count = known.count.saturating_add(denial.count),
                None => seen.denials.push(denial),
            }
        }
        let more = attempts.refused.len().saturating_sub(TOLD_MAX);
        let more = attempts.more.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        if more > 0 {
            seen.notes.push(format!("{more} more attempts to connect were refused"));
        }
        if attempts.unserved > 0 {
            seen.notes.push(format!(
                "{} connections were refused because the run had used {RANGE_PORTS_MAX} different \
                 ports of its ranges, which is the most",
                attempts.unserved
            ));
        }
        let refused = attempts.refused.into_iter();
        seen.records.extend(refused.map(|it| record(run, &named.object(&it), it)));
        seen
    }
}

/// What turns an address of the sandbox into what the user knows it by.
struct Named<'a> {
    level: Level,
    egress: Option<&'a EgressPlan>,
    names: BTreeMap<u32, String>,
}

impl Named<'_> {
    fn host(&self, address: IpAddr) -> String {
        let number = self.egress.and_then(|it| it.pool.name_at(address));
        let name = number.and_then(|it| self.names.get(&it)).cloned();
        name.unwrap_or_else(|| address.to_string())
    }

    fn object(&self, attempt: &Attempt) -> String {
        let host = self.host(attempt.address);
        match attempt.protocol {
            Protocol::Tcp => format!("{host}:{}", attempt.port),
            Protocol::Udp => format!("{host}:{}/udp", attempt.port),
        }
    }

    fn denial(&self, attempt: &Attempt) -> Option<Denial> {
        let Foreseen::Closed(why) = foresee(self.egress, attempt.address, attempt.port) else {
            return None;
        };
        let (host, port) = (self.host(attempt.address), Some(attempt.port));
        let denial = match self.egress {
            Some(egress) => egress.denial(self.level, &host, port, &why),
            None => why.denial(self.level, &host, port),
        };
        let mut denial = Denial { object: self.object(attempt), count: attempt.count, ..denial };
        if attempt.protocol == Protocol::Udp {
            denial.allow_with = None;
            "use TCP, to a listed host; no datagram leaves a run".clone_into(&mut denial.next);
        }
        by(&mut denial, BTreeSet::from([&attempt.program]), "wanted it");
        Some(denial)
    }
}

/// Whether a denial is about a name that was asked for, and not about a connection.
fn is_name(object: &str) -> bool {
    object.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())
}

/// Names the programs that it can have been by what was seen of them.
fn by(denial: &mut Denial, programs: BTreeSet<&String>, did: &str) {
    let more = programs.len().saturating_sub(PROGRAMS_TOLD_MAX);
    let mut told: Vec<String> =
        programs.into_iter().take(PROGRAMS_TOLD_MAX).map(|it| format!("`{it}`")).collect();
    if more > 0 {
        told.push(format!("{more} more programs"));
    }
    denial.reason = format!("{}; {} {did}", denial.reason, told.join(", "));
}

fn record(run: &str, object: &str, attempt: Attempt) -> Record {
    Record::Connect(Box::new(Connect { run: run.to_owned(), object: object.to_owned(), attempt }))
}
