//! Whether the way out works here, by having one: a sandbox, a gateway, and a server that rung starts
//! itself on this machine's loopback.
//!
//! The command of the run is rung again, which asks for a name that is listed and for what is not.
//! The promises are read from three sides: what it reached, what the server saw, and what the gateway
//! counted. Everything lies in a temporary directory, its record too, and nobody else is called.

use std::fs;
use std::path::{Path, PathBuf};

use super::inspect::PromiseHere;
use super::trial::{OneRule, Trial};
use super::{EngineError, Surroundings};
use crate::egress::proof::{self, Server, Visits};
use crate::model::{Arg, Denial, HostFacts, Mechanism, Origin, Outcome, Ports, Status};
use crate::plan::{self, PromiseState};
use crate::profile::{Destination, Grant, OnGap, Profile};

const BECAUSE: &str = "`rung doctor` proves the way out";
const RULE: OneRule = OneRule { id: "doctor.way-out", because: BECAUSE, after: proof::CLIENT };
const PROMISES: [&str; 4] = [
    "a listed host is reached by its name",
    "a name that is not listed does not exist, and nobody is asked for it",
    "an address that is not listed is not reached",
    "what goes out and comes in is counted",
];
/// Where everything that a sandbox is built from works, what is left is the network.
const FIX: &str = "see that a firewall lets this machine reach its own loopback, then run \
                   `rung doctor` again; if it stays so, rung has a defect";

/// What the run, the server and the gateway say.
struct Proof {
    outcome: Outcome,
    visits: Visits,
    port: u16,
}

/// Every promise of the way out, held against a real one.
pub(super) fn way_out(
    profile: &Profile,
    host: &HostFacts,
    around: &Surroundings,
) -> Vec<PromiseHere> {
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return untried(&format!("no server could be started for it: {error}")),
    };
    let trial = proved_by(profile, &server);
    let mut promises = vec![apart(&trial, host)];
    promises.extend(match prove(trial, server, around) {
        Ok(proof) => proof.promises(),
        Err(error) => untried(&error.to_string()),
    });
    promises
}

fn untried(why: &str) -> Vec<PromiseHere> {
    let missing = |promise: &&str| {
        let fix = "mend what a sandbox is built from first, then run `rung doctor` again";
        PromiseHere::not(PromiseState::Missing, promise, why.to_owned(), fix)
    };
    PROMISES.iter().map(missing).collect()
}

/// The profile with one destination, which is the server.
fn proved_by(profile: &Profile, server: &Server) -> Profile {
    let mut profile = profile.clone();
    let origin = || Origin::built_in(BECAUSE);
    profile.credentials.clear();
    profile.network.destinations = vec![Destination {
        host: proof::NAME.to_owned(),
        ports: Ports::new(server.port, server.port).into_iter().collect(),
        addresses: vec![server.names.ip().to_string()],
        methods: Vec::new(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: origin(),
    }];
    profile
}

/// Where the connections end depends on the mechanism alone.
fn apart(profile: &Profile, host: &HostFacts) -> PromiseHere {
    let promises = plan::promises(profile, host);
    let found = promises.into_iter().find(|it| it.mechanism == Mechanism::Router);
    found.map_or_else(
        || PromiseHere::kept("the way out is kept apart"),
        |it| PromiseHere::of(it, host),
    )
}

fn prove(
    mut profile: Profile,
    server: Server,
    around: &Surroundings,
) -> Result<Proof, EngineError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Read { path, source }
    };
    let program = fs::read_link("/proc/self/exe").map_err(read(Path::new("/proc/self/exe")))?;
    let place = tempfile::tempdir().map_err(read(Path::new("/tmp")))?;
    let base = fs::canonicalize(place.path()).map_err(read(place.path()))?;
    let workspace = base.join("workspace");
    fs::create_dir(&workspace).map_err(read(&workspace))?;
    let text = |path: &PathBuf| path.to_str().map(str::to_owned).unwrap_or_default();
    let (path, name) = (text(&program), program.file_name().and_then(|it| it.to_str()));
    profile.on_gap = OnGap::Allow;
    profile.filesystem.read.push(Grant {
        path: path.clone(),
        programs: true,
        origin: Origin::built_in(BECAUSE),
    });
    let mut own = around.clone();
    own.directories.state = base.join("state");
    let trial = Trial {
        around: &own,
        level: profile.level,
        profile,
        cwd: workspace.clone(),
        workspace,
        nameserver: Some(server.names),
        rule: RULE,
    };
    let word =
        |text: &str| Arg::try_from(text).map_err(|error| EngineError::Profile(error.to_string()));
    let argv = [word(&path)?, word(proof::CLIENT)?, word(&server.port.to_string())?];
    let outcome = trial.run(&argv, &[name.unwrap_or_default()])?;
    let outcome = outcome.ok_or_else(|| {
        EngineError::Profile(format!("`{path}` cannot be started in a sandbox to try it with"))
    })?;
    let port = server.port;
    let visits = server.finish().map_err(read(Path::new("/proc/self/exe")))?;
    Ok(Proof { outcome, visits, port })
}

impl Proof {
    fn promises(&self) -> Vec<PromiseHere> {
        let code = match &self.outcome.status {
            Status::Exited { code } => *code,
            Status::Failed { reason } => return untried(reason),
            other => {
                return untried(&format!("the run that tried it did not end by itself: {other:?}"));
            }
        };
        let is = |bit: u8| code & bit != 0;
        let told = |denials: &[Denial]| {
            denials.first().map(|it| format!(": {}", it.reason)).unwrap_or_default()
        };
        let refused = |object: &str| self.outcome.denials.iter().any(|it| it.object == object);
        let reached = !is(proof::NOT_REACHED) && self.visits.clients == 1;
        let elsewhere = format!("{}:{}", proof::OTHER_ADDRESS, self.port);
        let unrecorded = || format!("its refusal was not recorded{}", told(&self.outcome.denials));
        let lost = [
            (!reached)
                .then(|| format!("the server was not reached{}", told(&self.outcome.denials))),
            (is(proof::OTHER_NAME_KNOWN) || self.visits.other_questions > 0)
                .then(|| "such a name got an answer, or was asked for outside".to_owned())
                .or_else(|| (!refused(proof::OTHER_NAME)).then(unrecorded)),
            (is(proof::OTHER_ADDRESS_REACHED) || self.visits.connections > 1)
                .then(|| "such an address was reached".to_owned())
                .or_else(|| (!refused(&elsewhere)).then(unrecorded)),
            (!self.is_counted())
                .then(|| format!("{:?} was counted for one short talk", self.outcome.network)),
        ];
        let promise = |(promise, lost): (&str, Option<String>)| match lost {
            None => PromiseHere::kept(promise),
            Some(cause) => PromiseHere::not(PromiseState::Missing, promise, cause, FIX),
        };
        PROMISES.into_iter().zip(lost).map(promise).collect()
    }

    fn is_counted(&self) -> bool {
        let [only] = self.outcome.network.as_slice() else { return false };
        let bytes = |words: &[u8]| u64::try_from(words.len()).unwrap_or(u64::MAX);
        (only.connections.0, only.sent.0, only.received.0)
            == (1, bytes(proof::WORDS), bytes(proof::ANSWER))
    }
}
