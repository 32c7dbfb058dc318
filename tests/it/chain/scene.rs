//! A ledger to do harm to, and records to put into it.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use rung::ledger::{
    Answer, Decision, DenialSeen, ExecEnd, ExecStart, Fault, Ledger, Record, Report, verify,
};
use rung::model::{
    Arg, Bytes, Count, Denial, Digest, Ids, Layer, Level, Origin, Status, Traffic, Usage,
};
use tempfile::TempDir;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(super) fn word(text: &str) -> Arg {
    Arg::try_from(text).unwrap()
}

pub(super) fn decision(run: &str, argv: &[&str]) -> Record {
    Record::Decision(Box::new(Decision {
        ids: Ids { run: run.to_owned(), agent: Some("agent-7".to_owned()), ..Ids::default() },
        decision: Answer::Allow,
        rule: "rust.test".to_owned(),
        reason: "unit tests of this repository".to_owned(),
        origin: Some(Origin {
            file: "level-3.toml".into(),
            line: 41,
            because: "unit tests".into(),
        }),
        level: Level::TestExecution,
        profile: "test-execution".to_owned(),
        profile_digest: Digest::plain(b"profile"),
        plan_digest: Some(Digest::plain(b"plan")),
        argv: argv.iter().map(|it| word(it)).collect(),
        cwd: word("/tree/core"),
        workspace: word("/tree"),
        gaps: vec![],
        learning: false,
    }))
}

pub(super) fn start(run: &str) -> Record {
    Record::ExecStart(ExecStart {
        run: run.to_owned(),
        program: word("/usr/bin/cargo"),
        plan_digest: Digest::plain(b"plan"),
        pid: Some(4242),
        environment: [("LANG".to_owned(), word("C.UTF-8"))].into(),
    })
}

pub(super) fn end(run: &str) -> Record {
    Record::ExecEnd(ExecEnd {
        run: run.to_owned(),
        status: Status::Exited { code: 3 },
        exit_code: 3,
        usage: Usage { wall_ms: 12, user_ms: 3, system_ms: 1, peak_rss_kib: 900 },
        network: vec![Traffic {
            destination: "*.example.org".to_owned(),
            connections: Count(1),
            requests: Some(Count(2)),
            sent: Bytes(300),
            received: Bytes(4000),
        }],
        denials: 1,
    })
}

pub(super) fn denial(run: &str) -> Record {
    Record::Denial(Box::new(DenialSeen {
        run: run.to_owned(),
        denial: Denial {
            layer: Layer::File,
            rule: "filesystem.protected".to_owned(),
            level: Level::TestExecution,
            object: "/tree/.git/hooks/pre-commit".to_owned(),
            reason: "hooks run outside the sandbox".to_owned(),
            origin: None,
            allow_with: None,
            next: "leave the hook alone".to_owned(),
            count: 1,
        },
    }))
}

/// A ledger in a directory of its own.
pub(super) struct Scene {
    pub(super) root: TempDir,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    /// With `count` records in it, and a checkpoint after the third.
    pub(super) fn with(count: usize) -> Self {
        let scene = Self::new();
        let mut ledger = scene.ledger();
        for index in 0..count {
            let second = i64::try_from(index).unwrap();
            ledger.append(at(second), &[decision(&format!("run-{index}"), &["cargo"])]).unwrap();
            if index == 2 {
                ledger.checkpoint(at(second)).unwrap();
            }
        }
        scene
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.root.path().join("ledger")
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::open(&self.directory(), at(0)).unwrap()
    }

    pub(super) fn segment(&self) -> PathBuf {
        self.directory().join("000001.jsonl")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.segment()).unwrap()
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        fs::write(self.segment(), bytes).unwrap();
    }

    pub(super) fn lines(&self) -> Vec<String> {
        String::from_utf8(self.bytes()).unwrap().lines().map(str::to_owned).collect()
    }

    pub(super) fn write_lines(&self, lines: &[String]) {
        self.write((lines.join("\n") + "\n").as_bytes());
    }

    pub(super) fn verify(&self) -> Report {
        verify(&self.directory(), &[]).unwrap()
    }

    #[track_caller]
    pub(super) fn breaks(&self, line: u64, seq: u64, what: &Fault) {
        let problem = self.verify().problem.expect("verify saw nothing");
        let found = (problem.segment.as_str(), problem.line, problem.seq, &problem.what);
        assert_eq!(found, ("000001.jsonl", line, Some(seq), what));
    }
}

impl Scene {
    /// A segment that is not this ledger's own file.
    pub(super) fn bytes_elsewhere(&self) -> PathBuf {
        let path = self.root.path().join("copy");
        fs::write(&path, Scene::with(1).bytes()).unwrap();
        path
    }
}
