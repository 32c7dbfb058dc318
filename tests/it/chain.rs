//! The ledger's chain under every kind of harm: cut at any byte, any byte flipped, lines dropped
//! and moved, many writers, a full disk.

mod scene;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use proptest::prelude::*;
use rung::ledger::{
    Anchor, Answer, Body, Control, ExecStart, Fault, Follow, Format, Ledger, LedgerError,
    Quarantine, RECORD_BYTES_MAX, Record, export, show, tail, verify,
};
use rung::model::{Arg, Digest};
use scene::{Scene, at, decision, denial, end, start, word};

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

fn is_recover(body: &Body) -> bool {
    matches!(body, Body::Control(Control::Recover { .. }))
}

#[test]
fn what_was_recorded_is_read_back_as_it_was() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    let before = [decision("a", &["cargo", "test"]), start("a")];
    let first = ledger.append(at(0), &before).unwrap();
    assert_eq!(first.seq(), 2);
    ledger.append(at(1), &[decision("b", &["ls"])]).unwrap();
    let quarantine = Record::Quarantine(Quarantine {
        run: "a".to_owned(),
        path: word("/tree/.envrc"),
        moved_to: None,
        reason: "made where nothing may be".to_owned(),
    });
    let after = [denial("a"), quarantine, end("a")];
    let last = ledger.append(at(2), &after).unwrap();
    ledger.sync().unwrap();
    let story: Vec<Body> =
        show(&scene.directory(), "a").unwrap().into_iter().map(|entry| entry.body).collect();
    let expected: Vec<Body> = before.iter().chain(&after).cloned().map(Body::Record).collect();
    assert_eq!(story, expected);
    let newest = tail(&scene.directory(), 1).unwrap();
    assert_eq!((newest[0].seq, newest[0].fp, newest[0].time), (6, last.fp(), at(2)));
    assert_eq!(tail(&scene.directory(), 100).unwrap().len(), 6);
    let report = scene.verify();
    assert_eq!((report.problem, report.records), (None, 6));
}

/// The field order is part of the format: `head` and `grep` are audit tools too.
#[test]
fn a_record_is_one_line_with_its_number_first_and_its_fingerprint_last() {
    let scene = Scene::new();
    scene.ledger().append(at(0), &[end("a")]).unwrap();
    let lines = scene.lines();
    let body = r#"{"seq":1,"time":"2023-11-14T22:13:20.000Z","kind":"exec.end","run":"a","#;
    assert!(lines[0].starts_with(body), "{}", lines[0]);
    let (open, fp) = lines[0].rsplit_once(",\"fp\":\"").unwrap();
    let digest = Digest::of("rung.audit.v1", &[open.as_bytes(), b"}"]);
    assert_eq!(fp, format!("{digest}\"}}"));
    assert!(open.ends_with(&format!("\"prev\":\"{}\"", Digest::ZERO)));
}

#[test]
fn secrets_are_gone_before_anything_is_written() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    ledger.hide(&[b"listed-value".as_slice()]);
    let argv = ["curl", "-u", "me:hunter2", "https://h/listed-value", "GITHUB_TOKEN=abcdef"];
    let environment = [("DB_PASSWORD".to_owned(), word("swordfish"))].into();
    let Record::ExecStart(started) = start("a") else { panic!("exec.start") };
    let mut refused = denial("a");
    if let Record::Denial(seen) = &mut refused {
        seen.denial.object = "curl https://u:opensesame@h/".to_owned();
    }
    let records =
        [decision("a", &argv), Record::ExecStart(ExecStart { environment, ..started }), refused];
    ledger.append(at(0), &records).unwrap();
    let text = String::from_utf8(scene.bytes()).unwrap();
    for secret in ["hunter2", "listed-value", "abcdef\"", "swordfish", "opensesame"] {
        assert!(!text.contains(secret), "`{secret}` is in {text}");
    }
    let found: Vec<u64> =
        tail(&scene.directory(), 9).unwrap().iter().map(|entry| entry.redacted).collect();
    assert_eq!(found, [3, 1, 1]);
    assert!(scene.verify().is_sound());
}

#[test]
fn a_cut_at_any_byte_is_recovered_from_and_loses_nothing_before_it() {
    let scene = Scene::with(2);
    scene.ledger().append(at(0), &[start("a"), end("a")]).unwrap();
    let whole = scene.bytes();
    for cut in 0..whole.len() {
        let kept = &whole[..cut];
        scene.write(kept);
        let torn = kept.last().is_some_and(|byte| *byte != b'\n');
        assert_eq!(scene.verify().is_sound(), !torn, "a cut at {cut}, before it is recovered");
        drop(Ledger::open(&scene.directory(), at(9)).unwrap());
        let report = scene.verify();
        assert_eq!(report.problem, None, "a cut at {cut}");
        let lines = newlines(kept);
        assert_eq!(report.records, u64::try_from(lines + usize::from(torn)).unwrap());
        assert_eq!(report.recoveries, u64::from(torn));
        let end = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert!(scene.bytes().starts_with(&kept[..end]), "a cut at {cut} lost a record");
        if torn {
            let last = tail(&scene.directory(), 1).unwrap().remove(0).body;
            let Body::Control(Control::Recover { segment, bytes, digest }) = last else {
                panic!("{last:?}")
            };
            assert_eq!(segment, "000001.jsonl");
            assert_eq!(bytes, u64::try_from(cut - end).unwrap());
            assert_eq!(digest, Digest::plain(&kept[end..]));
        }
    }
}

/// What a power failure leaves on some file systems.
#[test]
fn a_long_tail_of_zeros_is_recovered_from() {
    let scene = Scene::with(2);
    let mut bytes = scene.bytes();
    bytes.resize(bytes.len() + 300_000, 0);
    scene.write(&bytes);
    scene.ledger().append(at(5), &[end("run-1")]).unwrap();
    let report = scene.verify();
    assert_eq!((report.problem, report.records, report.recoveries), (None, 4, 1));
}

#[test]
fn an_open_ledger_recovers_from_another_writers_crash() {
    let scene = Scene::with(1);
    let mut ledger = scene.ledger();
    OpenOptions::new()
        .append(true)
        .open(scene.segment())
        .unwrap()
        .write_all(b"{\"seq\":2")
        .unwrap();
    ledger.append(at(5), &[end("run-0")]).unwrap();
    let kinds: Vec<bool> =
        tail(&scene.directory(), 9).unwrap().iter().map(|it| is_recover(&it.body)).collect();
    assert_eq!(kinds, [false, true, false]);
    assert!(scene.verify().is_sound());
}

#[test]
fn every_flipped_byte_is_found_at_its_record() {
    let scene = Scene::with(3);
    let whole = scene.bytes();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 1;
        scene.write(&bytes);
        let problem = scene.verify().problem;
        let problem = problem.unwrap_or_else(|| panic!("byte {position} may change unseen"));
        let before = newlines(&whole[..position]);
        assert_eq!(problem.line, u64::try_from(before + 1).unwrap(), "byte {position}");
    }
}

#[test]
fn lines_that_were_dropped_moved_or_doubled_are_named() {
    let scene = Scene::with(6);
    let lines = scene.lines();
    let change = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        edit(&mut lines);
        scene.write_lines(&lines);
    };
    change(&|lines| drop(lines.remove(1)));
    scene.breaks(2, 3, &Fault::Missing { from: 2, to: 2 });
    change(&|lines| drop(lines.drain(..2)));
    scene.breaks(1, 3, &Fault::Missing { from: 1, to: 2 });
    change(&|lines| lines.swap(0, 1));
    scene.breaks(1, 2, &Fault::OutOfOrder { expected: 1 });
    change(&|lines| lines.insert(2, lines[1].clone()));
    scene.breaks(3, 2, &Fault::Repeated { expected: 3 });
    change(&|lines| lines[4] = "{}".to_owned());
    let problem = scene.verify().problem.unwrap();
    assert_eq!((problem.line, problem.what), (5, Fault::NotARecord));
    change(&|lines| lines[4] = lines[4].replace("cargo", "cargx"));
    scene.breaks(5, 5, &Fault::Changed);
    change(&|_| {});
    assert!(scene.verify().is_sound());
}

/// With a fingerprint made anew, only the next record still knows better.
#[test]
fn a_record_replaced_by_a_well_made_one_is_found_at_the_next() {
    let scene = Scene::with(3);
    let mut lines = scene.lines();
    let (open, _) = lines[0].rsplit_once(",\"fp\":\"").unwrap();
    let open = open.replace("cargo", "cargx");
    let fp = Digest::of("rung.audit.v1", &[open.as_bytes(), b"}"]);
    lines[0] = format!("{open},\"fp\":\"{fp}\"}}");
    scene.write_lines(&lines);
    scene.breaks(2, 2, &Fault::Replaced);
}

#[test]
fn records_cut_off_at_the_end_are_missed_by_the_checkpoint_and_by_anchors() {
    let scene = Scene::with(6); // the checkpoint is record 4
    let lines = scene.lines();
    scene.write_lines(&lines[..3]);
    assert_eq!(scene.verify().problem.unwrap().what, Fault::CutOff { seq: 4 });
    scene.write_lines(&lines[..6]);
    assert!(scene.verify().is_sound(), "after the checkpoint nothing in the directory knows");
    let fp = |line: &str| {
        let (_, end) = line.rsplit_once(",\"fp\":\"").unwrap();
        Digest::from_hex(end.strip_suffix("\"}").unwrap()).unwrap()
    };
    let anchor = Anchor { seq: 7, fp: fp(&lines[6]) };
    let report = verify(&scene.directory(), &[anchor]).unwrap();
    assert_eq!(report.problem.unwrap().what, Fault::CutOff { seq: 7 });
    scene.write_lines(&lines);
    let report = verify(&scene.directory(), &[anchor]).unwrap();
    assert_eq!((report.problem, report.anchors), (None, 1));
    let other = Anchor { fp: fp(&lines[5]), ..anchor };
    let report = verify(&scene.directory(), &[other]).unwrap();
    assert_eq!(report.problem.unwrap().what, Fault::Rewritten { seq: 7 });
}

#[test]
fn a_ledger_written_anew_is_not_the_one_that_was_signed() {
    let scene = Scene::with(6);
    let other = Scene::with(6);
    fs::copy(other.segment(), scene.segment()).unwrap();
    scene.breaks(4, 4, &Fault::BadSignature);
    let report = scene.verify();
    assert_eq!((report.records, report.checkpoints), (3, 0));
    fs::remove_file(scene.directory().join("key.pub")).unwrap();
    scene.breaks(4, 4, &Fault::NoKey);
}

/// Whoever cannot sign can still make a whole new chain and put the old signature into it.
#[test]
fn an_old_signature_does_not_fit_a_new_chain() {
    let scene = Scene::with(5);
    let old = scene.bytes();
    let mut prev = Digest::ZERO;
    let mut lines = scene.lines();
    for line in &mut lines {
        let (open, _) = line.rsplit_once(",\"prev\":\"").unwrap();
        let open = format!("{},\"prev\":\"{prev}\"", open.replace("cargo", "cargx"));
        prev = Digest::of("rung.audit.v1", &[open.as_bytes(), b"}"]);
        *line = format!("{open},\"fp\":\"{prev}\"}}");
    }
    scene.write_lines(&lines);
    scene.breaks(4, 4, &Fault::OtherHead);
    scene.write(&old);
    assert!(scene.verify().is_sound());
}

#[test]
fn a_checkpoint_is_due_after_a_minute_with_news_or_a_thousand_records() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    assert!(!ledger.checkpoint_due(at(0)).unwrap(), "there is nothing to sign");
    ledger.append(at(0), &[end("a")]).unwrap();
    assert!(ledger.checkpoint_due(at(0)).unwrap(), "nothing is signed yet");
    ledger.checkpoint(at(0)).unwrap();
    assert!(!ledger.checkpoint_due(at(1000)).unwrap(), "nothing is new");
    ledger.append(at(1), &[end("a")]).unwrap();
    assert!(!ledger.checkpoint_due(at(59)).unwrap());
    assert!(ledger.checkpoint_due(at(60)).unwrap());
    assert!(ledger.checkpoint_due(at(-1)).unwrap(), "the clock went back");
    ledger.append(at(1), &vec![end("a"); 999]).unwrap();
    assert!(ledger.checkpoint_due(at(1)).unwrap());
    let receipt = ledger.checkpoint(at(1)).unwrap();
    let report = scene.verify();
    assert_eq!((report.checkpoints, report.signed_through), (2, Some(receipt.seq() - 1)));
    let mode = |name: &str| {
        fs::metadata(scene.directory().join(name)).unwrap().permissions().mode() & 0o777
    };
    let modes = [mode("."), mode("key"), mode("key.pub"), mode("000001.jsonl"), mode("checkpoint")];
    assert_eq!(modes, [0o700, 0o600, 0o600, 0o600, 0o600]);
}

#[test]
fn a_lost_or_damaged_key_is_never_replaced_in_silence() {
    let scene = Scene::with(3);
    let key = scene.directory().join("key");
    let says = || scene.ledger().checkpoint(at(9)).unwrap_err().to_string();
    fs::write(&key, "nonsense\n").unwrap();
    assert!(says().contains("is not 64 hexadecimal digits"), "{}", says());
    fs::write(&key, "0".repeat(64)).unwrap();
    assert!(says().contains("does not belong to `key.pub`"), "{}", says());
    fs::remove_file(&key).unwrap();
    assert!(says().contains("is missing although `key.pub`"), "{}", says());
    scene.ledger().append(at(9), &[end("a")]).unwrap();
    assert!(scene.verify().is_sound(), "records are written without the key");
}

#[test]
fn threads_and_processes_that_append_at_once_keep_one_chain() {
    const WRITERS: usize = 6;
    const RECORDS: usize = 40;
    const ROLE: &str = "RUNG_TEST_LEDGER_APPENDER";
    let work = |directory: &Path, name: &str| {
        let mut ledger = Ledger::open(directory, at(0)).unwrap();
        for index in 0..RECORDS {
            let run = format!("{name}-{index}");
            let receipt = ledger.append(at(0), &[decision(&run, &["ls"]), end(&run)]).unwrap();
            assert!(receipt.seq() >= 2);
            if index % 10 == 0 {
                ledger.checkpoint(at(0)).unwrap();
                ledger.sync().unwrap();
            }
        }
    };
    if let Some(directory) = std::env::var_os(ROLE) {
        return work(Path::new(&directory), &format!("process-{}", std::process::id()));
    }
    let scene = Scene::new();
    let name = "chain::threads_and_processes_that_append_at_once_keep_one_chain";
    let mut processes: Vec<_> = (0..WRITERS)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(ROLE, scene.directory())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for index in 0..WRITERS {
            let directory = scene.directory();
            scope.spawn(move || work(&directory, &format!("thread-{index}")));
        }
    });
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
    }
    let report = scene.verify();
    assert_eq!(report.problem, None);
    let expected = 2 * WRITERS * (2 * RECORDS + RECORDS / 10);
    assert_eq!(report.records, u64::try_from(expected).unwrap());
    assert_eq!(report.recoveries, 0);
    let mut pairs = tail(&scene.directory(), expected).unwrap();
    pairs.retain(|entry| entry.body.run().is_some());
    let together = pairs.chunks(2).all(|pair| pair[0].body.run() == pair[1].body.run());
    assert!(together, "records of one call are not next to one another");
}

/// A limit on the file's size stands in for the disk: the write is cut short in the same way.
#[test]
fn a_full_disk_is_an_error_that_leaves_whole_records_behind() {
    const ROLE: &str = "RUNG_TEST_LEDGER_FULL";
    if let Some(directory) = std::env::var_os(ROLE) {
        let mut ledger = Ledger::open(Path::new(&directory), at(0)).unwrap();
        let failed = (0..100).find_map(|_| ledger.append(at(0), &[decision("a", &["ls"])]).err());
        let Some(LedgerError::Full { .. }) = &failed else { panic!("{failed:?}") };
        let text = failed.unwrap().to_string();
        assert!(text.contains("000001.jsonl` has no room") && text.contains("free some"), "{text}");
        return;
    }
    let scene = Scene::with(2);
    let limit = "ulimit -f 8; exec \"$0\" --exact chain::a_full_disk_is_an_error_that_leaves_whole_records_behind";
    let child = Command::new("sh")
        .args(["-c", limit])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, scene.directory())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let report = scene.verify();
    assert_eq!((report.problem, report.recoveries), (None, 0));
    assert!(report.records > 3);
    scene.ledger().append(at(1), &[end("a")]).unwrap();
    assert_eq!(scene.verify().records, report.records + 1, "with room again it goes on");
}

#[test]
fn a_ledger_that_is_not_ours_alone_is_refused_with_the_reason() {
    #[track_caller]
    fn check(prepare: impl Fn(&Scene), says: &str) {
        let scene = Scene::with(1);
        prepare(&scene);
        let error = Ledger::open(&scene.directory(), at(0)).map(drop).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(scene.root.path().to_str().unwrap()), "{error}");
    }
    let mode = |path: PathBuf, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    check(
        |scene| mode(scene.directory(), 0o770),
        "can be written by others (mode 770): `chmod go-w`",
    );
    check(|scene| mode(scene.segment(), 0o602), "can be written by others (mode 602)");
    check(
        |scene| {
            let elsewhere = scene.root.path().join("elsewhere");
            fs::rename(scene.directory(), &elsewhere).unwrap();
            symlink(elsewhere, scene.directory()).unwrap();
        },
        "is a symbolic link, and the ledger needs a directory",
    );
    check(
        |scene| {
            let elsewhere = scene.root.path().join("elsewhere");
            fs::rename(scene.segment(), &elsewhere).unwrap();
            symlink(elsewhere, scene.segment()).unwrap();
        },
        "is a symbolic link, and the ledger needs a regular file",
    );
    check(
        |scene| {
            fs::remove_file(scene.segment()).unwrap();
            fs::create_dir(scene.segment()).unwrap();
        },
        "000001.jsonl`",
    );
    check(
        |scene| {
            fs::remove_dir_all(scene.directory()).unwrap();
            fs::write(scene.directory(), "").unwrap();
        },
        "is a file, and the ledger needs a directory",
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let scene = Scene::new();
    fs::write(scene.root.path().join("state"), "").unwrap();
    let path = scene.root.path().join("state/ledger");
    let error = Ledger::open(&path, at(0)).map(drop).unwrap_err().to_string();
    assert!(error.contains("state/ledger`"), "{error}");
    assert!(matches!(verify(&scene.directory(), &[]), Err(LedgerError::Absent { .. })));
}

#[test]
fn a_damaged_last_record_stops_the_ledger() {
    let scene = Scene::with(2);
    let text = String::from_utf8(scene.bytes()).unwrap();
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
    scene.write(format!("{before}\n{}\n", last.replace("cargo", "cargx")).as_bytes());
    let error = Ledger::open(&scene.directory(), at(0)).map(drop).unwrap_err().to_string();
    assert!(error.contains("its bytes do not give the fingerprint"), "{error}");
    assert!(error.contains("rung audit verify"), "{error}");
    scene.write(format!("{text}\n").as_bytes());
    let error = Ledger::open(&scene.directory(), at(0)).map(drop).unwrap_err().to_string();
    assert!(error.contains("it is not a record"), "an empty line is no new beginning: {error}");
}

#[test]
fn a_ledger_removed_while_open_is_noticed() {
    let scene = Scene::with(1);
    let mut ledger = scene.ledger();
    fs::remove_file(scene.segment()).unwrap();
    let error = ledger.append(at(1), &[end("a")]).unwrap_err();
    assert!(matches!(error, LedgerError::Removed { .. }), "{error}");
    let kept = scene.bytes_elsewhere();
    fs::copy(&kept, scene.segment()).unwrap();
    let error = ledger.append(at(1), &[end("a")]).unwrap_err();
    assert!(matches!(error, LedgerError::Removed { .. }), "a copy is another file: {error}");
}

#[test]
fn a_clock_that_goes_back_is_counted_and_harms_nothing() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    for second in [10, 5, 7, -3] {
        ledger.append(at(second), &[end("a")]).unwrap();
    }
    let report = scene.verify();
    assert_eq!((report.problem, report.clock_steps_back), (None, 2));
}

#[test]
fn a_record_that_is_too_long_is_cut_and_says_what_it_was() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    let long = format!("{}\\end", "\u{fc}\x1b".repeat(700_000));
    let many: Vec<String> = (0..50_000).map(|index| format!("file-{index}")).collect();
    let mut argv = vec!["grep", &long];
    argv.extend(many.iter().map(String::as_str));
    ledger.append(at(0), &[decision("a", &argv), end("a")]).unwrap();
    let lines = scene.lines();
    assert!(lines[0].len() < RECORD_BYTES_MAX, "{}", lines[0].len());
    let entries = show(&scene.directory(), "a").unwrap();
    let Body::Record(Record::Decision(it)) = &entries[0].body else { panic!("{:?}", entries[0]) };
    let whole = word(&long).to_string();
    let digest = Digest::plain(whole.as_bytes());
    let note = format!("[cut: {} bytes, sha256 {digest}]", whole.len());
    assert!(it.argv[1].as_str().unwrap().ends_with(&note), "{}", it.argv[1]);
    let last = it.argv.last().unwrap().to_string();
    assert!(last.starts_with("[cut: 49938 more, sha256 of the list "), "{last}");
    assert_eq!(it.rule, "rust.test");
    assert!(scene.verify().is_sound());
}

#[test]
fn a_follower_sees_each_record_once() {
    let scene = Scene::with(2);
    let mut ledger = scene.ledger();
    let mut follow = Follow::from_end(&scene.directory()).unwrap();
    assert!(follow.poll().unwrap().is_empty());
    ledger.append(at(3), &[start("a")]).unwrap();
    ledger.append(at(3), &[denial("a"), end("a")]).unwrap();
    let seqs: Vec<u64> = follow.poll().unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert!(follow.poll().unwrap().is_empty());
}

#[test]
fn the_plain_export_is_the_ledger_itself() {
    let scene = Scene::with(5);
    let mut out = Vec::new();
    assert_eq!(export(&scene.directory(), Format::JsonLines, &mut out).unwrap(), 6);
    assert_eq!(out, scene.bytes());
}

/// Required by OCSF 1.8 of every event: `activity_id category_uid class_uid metadata severity_id
/// time type_uid`, and of process activity `actor device process`.
#[test]
fn the_ocsf_export_has_what_the_schema_requires() {
    let scene = Scene::new();
    let mut ledger = scene.ledger();
    let mut refused = decision("b", &["curl", "a b"]);
    if let Record::Decision(it) = &mut refused {
        it.decision = Answer::Deny;
    }
    let records = [decision("a", &["ls"]), start("a"), denial("a"), end("a"), refused];
    ledger.append(at(0), &records).unwrap();
    ledger.checkpoint(at(0)).unwrap();
    let mut out = Vec::new();
    export(&scene.directory(), Format::Ocsf, &mut out).unwrap();
    let events: Vec<serde_json::Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let types: Vec<u64> = events.iter().map(|it| it["type_uid"].as_u64().unwrap()).collect();
    assert_eq!(types, [100_701, 100_701, 100_799, 100_702, 100_701, 100_899]);
    for event in &events {
        let (class, activity) = (&event["class_uid"], &event["activity_id"]);
        assert_eq!(class.as_u64().unwrap() * 100 + activity.as_u64().unwrap(), event["type_uid"]);
        assert_eq!(
            (&event["category_uid"], &event["time"]),
            (&1.into(), &1_700_000_000_000_u64.into())
        );
        assert_eq!(event["metadata"]["version"], "1.8.0");
        assert!(event["metadata"]["product"]["name"].is_string());
        assert!(event["severity_id"].is_u64());
        if class == 1007 {
            assert!(event["actor"].is_object() && event["device"]["type_id"].is_u64());
            assert!(event["process"]["uid"].is_string());
        }
    }
    let last = &events[4];
    assert_eq!((&last["action_id"], &last["disposition_id"]), (&2.into(), &2.into()));
    assert_eq!(last["process"]["cmd_line"], "curl 'a b'");
    assert_eq!(last["metadata"]["correlation_uid"], "b");
    assert_eq!(events[3]["exit_code"], 3);
}

#[test]
fn the_report_says_what_is_proven_and_what_is_not() {
    let scene = Scene::with(3);
    let report = scene.verify();
    let text = report.to_string();
    assert!(text.starts_with("the ledger is whole\n4 records, in 1 segment\n"), "{text}");
    assert!(text.contains("proven: records 1 to 3 are as they were when the holder of key"));
    assert!(text.contains("not proven: that it was not rewritten"), "{text}");
    let mut lines = scene.lines();
    lines.remove(0);
    scene.write_lines(&lines);
    let text = scene.verify().to_string();
    let first = "the ledger is not whole: 000001.jsonl line 1 (record 2): records 1 to 1 are missing before this one\n";
    assert!(text.starts_with(first), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever words a command has, the chain holds, and a second writer continues it.
    #[test]
    fn any_words_make_a_record_that_verifies(words in proptest::collection::vec(
        proptest::collection::vec(1_u8.., 0..200), 1..6,
    )) {
        let scene = Scene::new();
        let mut record = decision("a", &[]);
        if let Record::Decision(it) = &mut record {
            it.argv = words.iter().map(|it| Arg::new(it.clone()).unwrap()).collect();
        }
        scene.ledger().append(at(0), &[record.clone()]).unwrap();
        scene.ledger().append(at(0), &[record]).unwrap();
        let report = scene.verify();
        prop_assert_eq!((report.problem, report.records), (None, 2));
        prop_assert_eq!(show(&scene.directory(), "a").unwrap().len(), 2);
    }
}
