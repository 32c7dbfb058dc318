//! What may be asked of a destination, where it has a list of methods or paths.
//!
//! Such a destination speaks HTTP and nothing else, and the gateway reads every request to it. The
//! rest of the destinations is carried unread. Where several destinations mean the same name, a
//! request has to be allowed by each of them that has a list.

use super::{Allowed, Destination, DestinationPlan, EgressPlan, PlanError, Refused};
use crate::model::{Denial, Level, UrlPath};

/// All that level 5 may ask of production.
pub const READING: [&str; 2] = ["GET", "HEAD"];

impl EgressPlan {
    /// Whether what goes over the connection is read, request by request.
    pub fn inspects(&self, to: &Allowed) -> bool {
        self.of(to).any(DestinationPlan::is_inspected)
    }

    /// Whether there is anything to read.
    pub fn reads(&self) -> bool {
        !self.credentials.is_empty() || self.destinations.iter().any(DestinationPlan::is_inspected)
    }

    /// Whether a request with this method may go on.
    pub fn decide_method(&self, to: &Allowed, method: &str) -> Result<(), Refused> {
        let missing = |it: &&DestinationPlan| {
            !it.methods.is_empty() && !it.methods.iter().any(|listed| listed == method)
        };
        match self.of(to).find(missing) {
            None => Ok(()),
            Some(destination) => Err(Refused::Method {
                method: method.to_owned(),
                listed: destination.methods.clone(),
                because: destination.because.clone(),
            }),
        }
    }

    /// The path of a request in the form in which it may go on; nothing where no destination has a
    /// list of paths, and it is not looked at.
    pub fn decide_path(&self, to: &Allowed, path: &str) -> Result<Option<UrlPath>, Refused> {
        let mut lists = self.of(to).filter(|it| !it.paths.is_empty()).peekable();
        if lists.peek().is_none() {
            return Ok(None);
        }
        let path = UrlPath::parse(path).map_err(Refused::OddPath)?;
        let missing = |it: &&DestinationPlan| !it.paths.iter().any(|listed| listed.matches(&path));
        match lists.find(missing) {
            None => Ok(Some(path)),
            Some(destination) => Err(Refused::Path {
                listed: destination.paths.iter().map(ToString::to_string).collect(),
                because: destination.because.clone(),
            }),
        }
    }

    /// The refusal of one request, in words: its method and whom it is for, and nothing else of it.
    pub fn denial_of_request(
        &self,
        level: Level,
        method: &str,
        wanted: &str,
        port: u16,
        why: &Refused,
    ) -> Denial {
        let denial = self.denial(level, wanted, Some(port), why);
        Denial { object: format!("{method} {wanted}:{port}"), ..denial }
    }
}

impl DestinationPlan {
    pub fn is_inspected(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }
}

/// The methods that a destination allows at this level; none means that it is not looked into.
/// Level 5 only reads, also from what the levels below it list for more.
pub(super) fn methods(destination: &Destination, level: Level) -> Result<Vec<String>, PlanError> {
    if level != Level::ProductionAdjacent {
        return Ok(destination.methods.clone());
    }
    let kept = |it: &&&str| {
        destination.methods.is_empty() || destination.methods.iter().any(|listed| listed == **it)
    };
    let methods: Vec<String> = READING.iter().filter(kept).map(|it| (*it).to_owned()).collect();
    if methods.is_empty() {
        return Err(PlanError::Entry {
            name: destination.host.clone(),
            because: destination.origin.clone(),
            why: "level 5 only reads, so `methods` must have `GET` or `HEAD`".to_owned(),
        });
    }
    Ok(methods)
}
