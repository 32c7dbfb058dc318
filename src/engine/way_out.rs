//! The gateway of one run: started beside the sandbox, asked at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use super::{EngineError, Surroundings, lend};
use crate::egress::{self, Gateway, Report};
use crate::launch::Filling;
use crate::plan::SandboxPlan;
use crate::plan::egress::TRUST_BYTES_MAX;

/// Nothing where the plan has no way out.
#[derive(Debug, Default)]
pub(super) struct WayOut {
    gateway: Option<Gateway>,
    placeholders: BTreeMap<String, String>,
}

impl WayOut {
    /// Starts the gateway, if the plan needs one. It gets ready by itself.
    pub(super) fn start(plan: &SandboxPlan, around: &Surroundings) -> Result<Self, EngineError> {
        let Some(egress) = &plan.network.egress else { return Ok(Self::default()) };
        let lent = lend::lend(&egress.credentials, around)?;
        let placeholders = lend::placeholders(&egress.credentials, &lent);
        let gateway = egress::start(egress, lent, plan.level)?;
        Ok(Self { gateway: Some(gateway), placeholders })
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

    pub(super) fn finish(self) -> Report {
        self.gateway.map(Gateway::finish).unwrap_or_default()
    }
}
