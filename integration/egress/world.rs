//! A small internet in a network namespace of its own, where every address is somebody's: whoever
//! gets out of a sandbox there is seen.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Place, Run, spawn};

/// Who answers at ports 80, 443, 853 and 5353, to whatever is said.
const ADDRESSES: &str = "1.1.1.1/32 8.8.8.8/32 9.9.9.9/32 10.1.2.3/32 169.254.169.254/32 \
                         2001:db8::1/128 fd00:ec2::254/128 64:ff9b::808:808/128";
const PORTS: &str = "80,443,853,5353";

/// Ends with the test.
pub(super) struct World {
    canary: Child,
    contacts: PathBuf,
}

impl World {
    /// `None` where there is no namespace to be had.
    pub(super) fn new(place: &Place) -> Option<Self> {
        const SCRIPT: &str = "ip link set lo up || exit 1
            for it in $ADDRESSES; do ip address add $it dev lo || exit 1; done
            exec \"$0\" -- canary \"$1\" \"$2\"";
        let contacts = place.root().join("contacts");
        fs::write(&contacts, "").unwrap();
        let mut command = Command::new("unshare");
        command.args(["-Urn", "sh", "-c", SCRIPT]).arg(&place.probe).arg(PORTS).arg(&contacts);
        command.env("ADDRESSES", ADDRESSES).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let mut canary = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut line = String::new();
        let out = canary.stdout.take().unwrap();
        let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line);
        let world = Self { canary, contacts };
        (read.is_ok() && line.trim() == "ready").then_some(world)
    }

    /// The same command, by somebody whose host this internet is.
    pub(super) fn around<'a>(&self, run: Run<'a>) -> Run<'a> {
        let pid = self.canary.id().to_string();
        run.started_by(&["nsenter", "-t", &pid, "-U", "-n", "--preserve-credentials", "--"])
    }

    /// Who was called since the last time: `tcp 8.8.8.8:80`.
    pub(super) fn contacts(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.contacts).unwrap();
        fs::write(&self.contacts, "").unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.canary.kill());
        drop(self.canary.wait());
    }
}
