//! The gateway of one run: started beside the sandbox, asked at the end.

use std::os::fd::OwnedFd;

use super::EngineError;
use crate::egress::{self, Gateway, Report};
use crate::plan::SandboxPlan;

/// Nothing where the plan has no way out.
#[derive(Debug, Default)]
pub(super) struct WayOut {
    gateway: Option<Gateway>,
}

impl WayOut {
    /// Starts the gateway, if the plan needs one. It gets ready by itself.
    pub(super) fn start(plan: &SandboxPlan) -> Result<Self, EngineError> {
        let gateway = match &plan.network.egress {
            Some(egress) => Some(egress::start(egress, plan.level)?),
            None => None,
        };
        Ok(Self { gateway })
    }

    /// Where the sandbox's sockets go.
    pub(super) fn channel(&self) -> Result<Option<OwnedFd>, EngineError> {
        Ok(self.gateway.as_ref().map(Gateway::channel).transpose()?)
    }

    /// The command may start only when the gateway has confined itself.
    pub(super) fn ready(&mut self) -> Result<(), String> {
        self.gateway.as_mut().map_or(Ok(()), |it| it.ready().map_err(|error| error.to_string()))
    }

    pub(super) fn finish(self) -> Report {
        self.gateway.map(Gateway::finish).unwrap_or_default()
    }
}
