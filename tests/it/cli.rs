//! The program as people and agents meet it: words, exit codes and JSON of every verb.
//!
//! No kernel feature is needed: where a verb asks what this machine can do, the answer has been
//! put where rung remembers it. Every run of the program has a home directory of its own.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rung::ledger::Ledger;
use rung::ledger::{ProfileLoad, Record};
use rung::model::{Digest, HostFacts, Level};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hosts;

/// What rung remembers of a machine between two runs, in the order in which it is written.
#[derive(serde::Serialize)]
struct Remembered<'a> {
    boot: &'a str,
    version: &'a str,
    hierarchy: Option<()>,
    places: Vec<PathBuf>,
    facts: HostFacts,
}

/// A user with nothing but a workspace.
struct User {
    home: TempDir,
}

/// What the program said and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    answer: String,
    complaint: String,
}

impl User {
    fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir_all(user.workspace()).unwrap();
        user
    }

    fn workspace(&self) -> PathBuf {
        self.home.path().join("src/app")
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state/rung")
    }

    fn ledger(&self) -> PathBuf {
        self.state().join("ledger")
    }

    /// Puts a file into the user's configuration.
    fn configure(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join("config/rung").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes rung believe that this machine has everything.
    fn on_a_whole_machine(self) -> Self {
        let facts = HostFacts {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            paths: rung::model::PathMap::new(),
            state_directories: Vec::new(),
            ..hosts::full()
        };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let note = Remembered {
            boot: boot.trim_end(),
            version: env!("CARGO_PKG_VERSION"),
            hierarchy: None,
            places: Vec::new(),
            facts,
        };
        fs::create_dir_all(self.state()).unwrap();
        fs::write(self.state().join("host"), postcard::to_stdvec(&note).unwrap()).unwrap();
        self
    }

    fn says<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Said {
        let home = self.home.path();
        let output = Command::new(env!("CARGO_BIN_EXE_rung"))
            .args(words)
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .current_dir(self.workspace())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said {
            code: output.status.code().unwrap(),
            answer: text(output.stdout),
            complaint: text(output.stderr),
        }
    }

    /// The words of `line`, which has no blanks in its words.
    fn asks(&self, line: &str) -> Said {
        self.says(line.split(' '))
    }
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.answer).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// An answer and nothing else.
    #[track_caller]
    fn answered(&self) -> &str {
        assert_eq!((self.code, self.complaint.as_str()), (0, ""), "{self:?}");
        &self.answer
    }

    /// A complaint of rung's own and nothing else.
    #[track_caller]
    fn complains(&self, code: i32, says: &str) {
        assert_eq!((self.code, self.answer.as_str()), (code, ""), "{self:?}");
        assert!(self.complaint.starts_with("rung: "), "{self:?}");
        assert!(self.complaint.contains(says), "{self:?}");
    }
}

const VERBS: [&str; 22] = [
    "",
    "run",
    "check",
    "explain",
    "why",
    "levels",
    "doctor",
    "profile",
    "profile show",
    "profile lint",
    "profile diff",
    "profile blast",
    "profile test",
    "profile schema",
    "audit",
    "audit verify",
    "audit show",
    "audit tail",
    "audit export",
    "replay",
    "completions",
    "man",
];

/// The golden file is the reference of the command line.
#[test]
fn every_verb_has_help_with_examples() {
    let user = User::new();
    let help = |verb: &str| {
        let line = format!("{verb} --help");
        let help = user.asks(line.trim_start()).answered().to_owned();
        let is_group = ["profile", "audit"].contains(&verb);
        assert!(is_group || help.contains("Examples:\n  rung "), "{verb}: {help}");
        format!("$ rung {}\n{help}\n", line.trim_start())
    };
    let all: String = VERBS.iter().map(|verb| help(verb)).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("help", all));
}

#[test]
fn help_can_be_asked_for_in_three_ways() {
    let user = User::new();
    let help = user.asks("--help").answered().to_owned();
    assert_eq!(user.asks("help").answered(), help);
    assert_eq!(user.asks("-h").answered(), help);
    assert_eq!(user.asks("help check").answered(), user.asks("check --help").answered());
    let nothing = user.says::<&str>([]);
    assert_eq!((nothing.code, nothing.complaint), (2, help));
    let version = format!("rung {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(user.asks("--version").answered(), version);
}

#[test]
fn a_wrong_command_line_is_named_and_ends_with_2() {
    let user = User::new();
    let lines = [
        ("chekc", "a similar subcommand exists: 'check'"),
        ("xyzzy", "`rung run -- COMMAND` runs a command"),
        ("check", "<COMMAND>"),
        ("check --level 9 -- ls", "there is no level 9"),
        ("check --levle 1 -- ls", "'--level'"),
        ("check --report 1 -- ls", "belongs to the command"),
        ("check --agent= -- ls", "1 to 128 bytes"),
        ("run", "no command"),
        ("run --levle 1 -- ls", "`--levle` is not an option"),
        ("profile shwo", "'show'"),
        ("profile diff 2", "<B>"),
        ("audit verify --anchor 7", "64 digits"),
        ("audit export --format xml", "jsonl"),
        ("completions tcsh", "bash"),
        ("doctor now", "unexpected argument"),
    ];
    for (line, says) in lines {
        user.asks(line).complains(2, says);
    }
    user.says(["check", "ls | wc"]).complains(2, "|");
}

#[test]
fn check_answers_by_exit_code_in_words_and_as_json() {
    let user = User::new().on_a_whole_machine();
    let table = [
        ("--level 1 -- ls", 0, "allow", "core.ls"),
        ("-- touch notes", 0, "allow", "core.touch"),
        ("--level 1 -- touch notes", 126, "deny", "default"),
        ("--level 4 -- ls", 126, "deny", "ceiling"),
        ("--level 1 -- /nowhere/ls", 127, "deny", "exec.search-path"),
        // What no rule allows is refused, whether or not it is there.
        ("--level 1 -- no-such-program", 126, "deny", "default"),
        ("--level 2 -- git reset --hard", 75, "ask", "git.reset.hard"),
    ];
    for (line, code, decision, rule) in table {
        let told = user.asks(&format!("check --json {line}"));
        let json = told.json();
        assert_eq!((told.code, told.complaint.as_str()), (code, ""), "{line}: {told:?}");
        assert_eq!(json["decision"], decision, "{line}");
        assert_eq!(json["exit_code"], code, "{line}");
        assert_eq!(json["rule"], rule, "{line}: {json}");
        assert_eq!(json["denial"].is_null(), code == 0, "{line}: {json}");
        assert_eq!(json["plan"].is_null(), code != 0, "{line}: {json}");

        let words = user.asks(&format!("check {line}"));
        let first = if code == 0 { "allowed by rule `" } else { "denied by policy (level " };
        assert_eq!((words.code, words.complaint.as_str()), (code, ""), "{line}: {words:?}");
        assert!(words.answer.starts_with(first), "{line}: {words:?}");
        assert_eq!(words.answer.lines().count(), if code == 0 { 1 } else { 3 }, "{words:?}");

        let quiet = user.asks(&format!("check -q {line}"));
        assert_eq!((quiet.code, quiet.answer.as_str()), (code, ""), "{line}: {quiet:?}");
    }
    assert!(!user.ledger().exists(), "a question was recorded");
}

#[test]
fn a_denial_has_the_same_shape_everywhere() {
    let user = User::new().on_a_whole_machine();
    let told = user.asks("check --level 1 --json --report answer.json -- touch notes");
    let report = fs::read_to_string(user.workspace().join("answer.json")).unwrap();
    assert_eq!(report, told.answer);
    let json = told.json();
    let keys: Vec<&str> = json["denial"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["allow_with", "count", "layer", "level", "next", "object", "origin", "reason", "rule"];
    assert_eq!(keys, expected);
    let run = user.asks("run --level 1 --report run.json -- touch notes");
    assert_eq!(run.code, 126, "{run:?}");
    let report = fs::read_to_string(user.workspace().join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(run["denials"][0], json["denial"]);
}

#[test]
fn a_word_that_is_not_text_is_decided_about_like_any_other() {
    let user = User::new().on_a_whole_machine();
    let odd = OsString::from_vec(b"b\xff".to_vec());
    let words = ["check", "--json", "--level", "1", "--", "cat"].map(OsString::from);
    let told = user.says(words.into_iter().chain([odd.clone()]));
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(user.says([OsString::from("check"), odd.clone()]).code, 126);
    user.says([OsString::from("check"), OsString::from("--level"), odd]).complains(2, "UTF-8");
}

#[test]
fn a_host_that_cannot_be_used_is_no_decision() {
    let user = User::new();
    let elsewhere = user.asks("check --directory /nowhere -- ls");
    elsewhere.complains(125, "`/nowhere`");
    let json = user.asks("check --json --directory /nowhere -- ls");
    assert_eq!(json.code, 125);
    assert_eq!(json.json()["decision"], Value::Null);
}

#[test]
fn explain_says_the_level_in_one_sentence_and_every_entry_with_its_line() {
    let user = User::new().on_a_whole_machine();
    let text = user.asks("explain --level 1").answered().to_owned();
    assert!(text.starts_with("Level 1 (read-only research), profile `read-only-research`"));
    let sentence = text.lines().find(|it| it.starts_with("This agent can read ")).unwrap();
    assert!(sentence.contains(", write ") && sentence.contains(", cannot touch "), "{sentence}");
    assert!(sentence.ends_with("; anything else needs a person."), "{sentence}");
    assert!(text.contains("level-1.toml:13 because the system's programs\n"), "{text}");

    let plan = user.asks("explain --level 2 --json -- cat notes").json();
    assert_eq!((&plan["level"], &plan["rule"]), (&json!(2), &json!("core.cat")), "{plan}");
    user.asks("explain --level 1 -- touch notes").complains(126, "no rule at level 1 allows");
    let above = user.asks("explain --level 5").answered().to_owned();
    assert!(above.starts_with("Level 5 is above the ceiling of level 3"), "{above}");
}

#[test]
fn levels_are_six_and_say_which_may_be_used() {
    let user = User::new();
    let text = user.asks("levels").answered().to_owned();
    assert!(text.contains("2  local sandbox writes (default)\n"), "{text}");
    assert!(text.contains("4  human-approved integration (above the ceiling)\n"), "{text}");
    let json = user.asks("levels --json").json();
    let usable: Vec<bool> =
        json.as_array().unwrap().iter().map(|it| it["usable"].as_bool().unwrap()).collect();
    assert_eq!(usable, [true, true, true, false, false, false]);
}

/// What it says depends on the machine; that it says it whole does not.
#[test]
fn doctor_names_each_promise_of_each_level() {
    let user = User::new();
    let told = user.asks("doctor --json");
    let json = told.json();
    let levels = json["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 6);
    let mut missing = false;
    for level in levels {
        let promises = level["promises"].as_array().unwrap();
        assert_eq!(promises.len(), 15, "{level}");
        for promise in promises {
            let kept = promise["state"] == "kept";
            assert_eq!(promise["cause"].is_null(), kept, "{promise}");
            missing |= promise["state"] == "missing" && level["level"].as_u64() < Some(4);
        }
    }
    assert_eq!(told.code, i32::from(missing), "{json}");
    let words = user.asks("doctor");
    assert_eq!(words.code, told.code);
    assert!(words.answer.contains("\n  user namespace "), "{}", words.answer);
    assert!(!user.state().exists(), "looking made the state directory");
}

#[test]
fn doctor_says_which_file_breaks_a_level() {
    let user = User::new();
    let file = user.configure("level-3.toml", "[limits]\nwal = \"1 min\"\n");
    let told = user.asks("doctor");
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.answer.contains("missing   the profile can be read\n"), "{}", told.answer);
    assert!(told.answer.contains(&format!("{}:2:1", file.display())), "{}", told.answer);
}

#[test]
fn a_broken_profile_is_shown_with_its_line_and_nothing_runs() {
    let user = User::new().on_a_whole_machine();
    let file = user.configure("level-2.toml", "[limits]\nwall = \"1 fortnight\"\n");
    let place = format!("{}:2:8", file.display());
    for line in ["run -- true", "check -- true", "profile show 2 --json", "levels"] {
        let told = user.asks(line);
        told.complains(125, &place);
        assert!(told.complaint.contains("\n2 | wall = \"1 fortnight\"\n"), "{told:?}");
        assert!(told.complaint.contains("^^^"), "{told:?}");
    }
    let lint = user.asks("profile lint");
    assert_eq!((lint.code, lint.complaint.as_str()), (1, ""), "{lint:?}");
    assert!(lint.answer.contains(&place) && lint.answer.contains("^^^"), "{lint:?}");
}

#[test]
fn profile_shows_what_is_written_and_what_is_in_force() {
    let user = User::new();
    let file = user.configure("level-1.toml", "[limits]\nwall = \"7 s\"\n");
    let written = user.asks("profile show 1").answered().to_owned();
    assert!(written.starts_with("# --- level-1.toml\n"), "{written}");
    assert!(written.contains(&format!("# --- {}\n[limits]\n", file.display())), "{written}");
    let resolved = user.asks("profile show 1 --resolved").answered().to_owned();
    let line = format!("limits.wall = 7 s  # {}:2: ", file.display());
    assert!(resolved.contains(&line), "{resolved}");
    assert_eq!(user.asks("profile show 1 --json").json()["limits"]["wall"]["max"], 7000);
    assert!(user.asks("profile show").answered().starts_with("# --- level-2.toml\n"));
}

#[test]
fn profile_lint_finds_nothing_in_rungs_own_and_everything_in_a_bad_file() {
    let user = User::new();
    assert_eq!(user.asks("profile lint").answered(), "nothing is wrong\n");
    assert_eq!(user.asks("profile lint --json").json(), json!([]));
    let bad = user.workspace().join("level-3.toml");
    fs::write(&bad, "[limits]\nwal = 1\n\n[filesytem]\n").unwrap();
    let told = user.asks("profile lint --json level-3.toml");
    assert_eq!(told.code, 1);
    let lines: Vec<u64> =
        told.json().as_array().unwrap().iter().map(|it| it["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4]);
    user.asks("profile lint nowhere.toml").complains(125, "`nowhere.toml`");
}

#[test]
fn profile_diff_says_what_a_level_or_a_file_changes() {
    let user = User::new();
    let text = user.asks("profile diff 1 2").answered().to_owned();
    assert!(text.contains("~ filesystem.workspace = direct (was read-only)  # level-2.toml:"));
    assert_eq!(user.asks("profile diff 2 2").answered(), "");
    let file = user.workspace().join("level-2.toml");
    fs::write(&file, "[limits]\nwall = \"9 s\"\n").unwrap();
    let json = user.asks("profile diff --json 2 level-2.toml").json();
    assert_eq!(json.as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json[0]["line"]["key"], "limits.wall");
    user.asks("profile diff 2 7").complains(125, "there is no level 7");
    user.asks("profile diff 2 other.toml").complains(125, "`other.toml`");
}

#[test]
fn profile_blast_and_schema_are_data_too() {
    let user = User::new();
    let text = user.asks("profile blast 1").answered().to_owned();
    assert!(text.starts_with("at worst, level 1 (read-only-research) can\n"), "{text}");
    assert_eq!(user.asks("profile blast 1 --json").json()["hosts"], json!([]));
    let schema = user.asks("profile schema").json();
    assert_eq!(schema["title"], "Rung profile");
}

#[test]
fn settings_move_the_ceiling_and_the_default() {
    let user = User::new().on_a_whole_machine();
    user.configure("config.toml", "ceiling = 4\ndefault_level = 1\n");
    assert_eq!(user.asks("check --json -- touch notes").json()["level"], 1);
    // Below the ceiling it is the missing grant that stops level 4.
    assert_eq!(user.asks("check --json --level 4 -- ls").json()["rule"], "grant");
    assert_eq!(user.asks("check --json --level 5 -- ls").json()["rule"], "ceiling");
    user.configure("config.toml", "cieling = 6\n");
    user.asks("run -- true").complains(125, "config.toml:1:1");
}

#[test]
fn a_ledger_that_is_not_there_is_no_proof() {
    let user = User::new();
    for line in ["verify", "verify --json", "tail", "show 01JRUN", "export"] {
        user.asks(&format!("audit {line}")).complains(125, "there is no ledger at");
    }
    assert!(!user.state().exists(), "reading made the state directory");
}

/// Two records of profiles, written as rung writes them.
fn recorded(user: &User) {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    fs::create_dir_all(user.state()).unwrap();
    let mut ledger = Ledger::open(&user.ledger(), now).unwrap();
    for level in [Level::ReadOnlyResearch, Level::LocalWrites] {
        let load = ProfileLoad {
            profile: format!("profile-{level}"),
            level,
            profile_digest: Digest::ZERO,
            sources: Vec::new(),
        };
        let _receipt = ledger.append(now, &[Record::ProfileLoad(load)]).unwrap();
    }
    ledger.sync().unwrap();
}

#[test]
fn audit_reads_what_was_recorded() {
    let user = User::new();
    recorded(&user);
    let text = user.asks("audit verify").answered().to_owned();
    assert!(text.contains(" records in 1 segment, from 2026-01-02T03:04:05Z"), "{text}");
    let report = user.asks("audit verify --json").json();
    assert_eq!(report["holds"], true);
    let head = &report["head"];
    let anchor = format!("{}:{}", head["seq"], head["fingerprint"].as_str().unwrap());
    let held = user.asks(&format!("audit verify --json --anchor {anchor}")).json();
    assert_eq!(held["anchors"], 1);

    let tail = user.asks("audit tail").answered().to_owned();
    assert!(tail.contains(" 2026-01-02T03:04:05.000Z - profile profile-2 level 2 "), "{tail}");
    let one = user.asks("audit tail -n 1 --json").json();
    assert_eq!(one["seq"], head["seq"]);
    let lines = user.asks("audit export").answered().lines().count();
    assert_eq!(lines as u64, report["records"].as_u64().unwrap());
    let event = user.asks("audit export --format ocsf").answered().to_owned();
    let event: Value = serde_json::from_str(event.lines().next().unwrap()).unwrap();
    assert_eq!(event["metadata"]["product"]["name"], "rung");
    user.asks("audit show 01JRUN").complains(1, "there is no run `01JRUN`");
}

#[test]
fn a_changed_record_is_named_and_ends_with_1() {
    let user = User::new();
    recorded(&user);
    let segment = user.ledger().join("000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replace("profile-2", "profile-9")).unwrap();
    let told = user.asks("audit verify");
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.complaint.starts_with("rung: 000001.jsonl:2 (record 2): "), "{told:?}");
    assert!(told.complaint.contains("was changed"), "{told:?}");
    let json = user.asks("audit verify --json");
    assert_eq!((json.code, &json.json()["problem"]["line"]), (1, &json!(2)));
}

#[test]
fn a_run_is_told_as_a_story() {
    let user = User::new().on_a_whole_machine();
    let told = user.asks("run --level 1 --report run.json -- touch notes");
    assert_eq!((told.code, told.complaint.lines().count()), (126, 3), "{told:?}");
    let report = fs::read_to_string(user.workspace().join("run.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let run = report["ids"]["run"].as_str().unwrap();
    let story = user.asks(&format!("audit show {run}")).answered().to_owned();
    assert!(story.contains("deny level 1 rule default: touch notes\n"), "{story}");
    let records = user.asks(&format!("audit show --json {run}")).answered().to_owned();
    let kinds: Vec<Value> = records
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["kind"].clone())
        .collect();
    assert_eq!(kinds, ["decision", "denial"]);
}

#[test]
fn completions_know_every_verb() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = user.asks(&format!("completions {shell}")).answered().to_owned();
        for word in ["run", "check", "explain", "doctor", "verify", "schema", "traceparent"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn the_manual_page_has_the_options_of_run_and_the_exit_codes() {
    let page = User::new().asks("man").answered().to_owned();
    assert!(page.lines().any(|it| it.starts_with(".TH rung 1")), "{page}");
    for words in [".SH \"RUNG RUN\"", "\\-\\-traceparent", "126", ".SH \"RUNG AUDIT VERIFY\""] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(page.matches(".ds Aq").count(), 2);
}

#[test]
fn the_log_is_silent_unless_asked_for_and_has_one_span_for_a_run() {
    let user = User::new().on_a_whole_machine();
    let home = user.home.path();
    let logged = |filter: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rung"));
        command
            .args(["run", "-q", "--level", "1", "--", "touch", "notes"])
            .env_clear()
            .env("HOME", home)
            .env("XDG_STATE_HOME", home.join("state"))
            .current_dir(user.workspace());
        command.envs(filter.map(|it| ("RUNG_LOG", it)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert_eq!(logged(None), "");
    let log = logged(Some("info"));
    assert_eq!(log.matches("run{id=\"").count(), 1, "{log}");
    assert!(log.contains(" level=1}"), "{log}");
}

/// Two things that hold, one about a rule that does not decide, one verdict that is another.
const TABLE: &str = "\
[[scenario]]
command = \"git push origin main\"
because = \"nothing leaves before somebody has looked\"
level-2 = \"deny git.push\"
level-4 = \"ask\"

[[scenario]]
command = [\"rm\", \"-rf\", \".git\"]
level-2 = \"never core.rm.workspace\"

[[scenario]]
command = \"cargo test\"
level-2 = \"allow\"
level-3 = \"allow rust.test\"
";

#[test]
fn a_table_of_expectations_is_held_against_the_profiles() {
    let user = User::new();
    let table = user.workspace().join("scenarios.toml");
    fs::write(&table, TABLE).unwrap();
    let said = user.asks("profile test scenarios.toml");
    assert_eq!((said.code, said.complaint.as_str()), (1, ""));
    assert_eq!(
        said.answer,
        "scenarios.toml:7: rm -rf .git, level 2\n\
         - never core.rm.workspace\n\
         + never core.rm.git: removes the history of the project\n\
         scenarios.toml:11: cargo test, level 2\n\
         - allow\n\
         + deny default: no rule at level 2 allows `cargo`\n\
         2 of 5 expectations do not hold\n"
    );
    let json = user.asks("profile test scenarios.toml --json");
    assert_eq!(json.code, 1);
    assert_eq!(json.json()[0]["found"], json!({ "verdict": "deny", "rule": "git.push" }));
    assert_eq!(json.json()[2]["holds"], false);
}

#[test]
fn a_table_tries_out_a_changed_level() {
    let user = User::new();
    let rule = "[[exec.rule]]\nid = \"no.push\"\nprogram = \"ls\"\ndecision = \"deny\"\n\
                power = \"read\"\nbecause = \"a test\"\nmatch = [\"ls\"]\n";
    fs::write(user.workspace().join("level-1.toml"), rule).unwrap();
    let table = "[[scenario]]\ncommand = \"ls src\"\nlevel-1 = \"allow\"\n";
    fs::write(user.workspace().join("s.toml"), table).unwrap();
    assert_eq!(user.asks("profile test s.toml").answered(), "1 of 1 expectations hold\n");
    let changed = user.asks("profile test s.toml --with level-1.toml");
    assert_eq!(changed.code, 1);
    assert!(changed.answer.contains("+ deny no.push: a test"), "{changed:?}");
}

#[test]
fn a_broken_table_is_named_with_its_line() {
    let user = User::new();
    fs::write(user.workspace().join("s.toml"), "[[scenario]]\ncommand = \"ls\"\nlevl = 1").unwrap();
    user.asks("profile test s.toml").complains(125, "s.toml:3: unknown field `levl`");
    user.asks("profile test none.toml").complains(125, "`none.toml`: No such file");
}

#[test]
fn recorded_decisions_are_taken_again_under_another_profile() {
    let user = User::new().on_a_whole_machine();
    for line in ["run -q --level 1 -- touch x", "run -q --level 1 -- curl https://example.org"] {
        assert_eq!(user.asks(line).code, 126, "{line}");
    }
    let same = user.asks("replay --against 1");
    assert_eq!(same.answered(), "of 2 decisions, 0 would be different under 1\n");
    let wider = user.asks("replay --against 2");
    assert_eq!((wider.code, wider.complaint.as_str()), (1, ""));
    let lines: Vec<&str> = wider.answer.lines().collect();
    assert!(lines[0].ends_with("level 1: touch x"), "{wider:?}");
    assert_eq!(
        lines[1..],
        ["- deny default", "+ allow core.touch", "of 2 decisions, 1 would be different under 2"]
    );
    let json = user.asks("replay --against 2 --json").json();
    assert_eq!(
        (json["decided"].as_u64(), json["changes"][0]["is"].as_str()),
        (Some(2), Some("allow"))
    );
    assert_eq!(json["changes"][0]["cause"], "profile");
    let run = json["changes"][0]["run"].as_str().unwrap().to_owned();
    let one = user.says(["replay", "--against", "2", "--run", &run]);
    assert!(one.answer.ends_with("of 1 decisions, 1 would be different under 2\n"), "{one:?}");
    user.asks("replay --against 2 --run none").complains(125, "there is no run `none`");
}

#[test]
fn a_replay_under_a_file_is_about_its_level_only() {
    let user = User::new().on_a_whole_machine();
    assert_eq!(user.asks("run -q --level 1 -- touch x").code, 126);
    assert_eq!(user.asks("run -q --level 2 -- cargo test").code, 126);
    let file = "[limits]\nwall = \"1 min\"\n";
    fs::write(user.workspace().join("level-2.toml"), file).unwrap();
    let said = user.asks("replay --against level-2.toml");
    assert_eq!(
        said.answered(),
        "of 1 decisions, 0 would be different under level-2.toml\n\
         1 of other levels were left as they are\n"
    );
    user.asks("replay --against 9").complains(125, "no level 9");
}

#[test]
fn every_level_can_say_what_it_can_do_at_worst() {
    let user = User::new();
    let all = user.asks("profile blast --all").answered().to_owned();
    assert_eq!(all.matches("worst case\n").count(), 6);
    assert!(all.contains("nothing is changed"), "{all}");
    let json = user.asks("profile blast --all --json").json();
    let levels: Vec<u64> =
        json.as_array().unwrap().iter().map(|it| it["level"].as_u64().unwrap()).collect();
    assert_eq!(levels, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn why_is_asked_about_one_thing() {
    let user = User::new();
    user.asks("why").complains(2, "<COMMAND>");
    user.asks("why --path a --host b").complains(2, "cannot be used with");
    user.asks("why --host a:0").complains(2, "is no host with a port");
    user.asks("why --path a -- ls").complains(2, "cannot be used with");
}
