//! The decision: one request against the rules of one level.
//!
//! [`decide`] turns a [`Finding`] into a [`Verdict`]; [`find`] makes the finding, and [`judge`] is
//! the part of it that knows only names and words, so that wrappers (`timeout 5 ls`) and examples
//! go through the very same rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Arg, ProgramFact, ProgramLocation, Request};
use crate::policy::callers::lies_in_program_tree;
use crate::policy::finding::{
    Allowed, Asked, Command, Finding, InText, Nearest, ProgramProblem, precedence,
};
use crate::policy::grammar;
use crate::policy::grammar::{Misfit, Payload};
use crate::policy::loose;
use crate::policy::refusal;
use crate::policy::shell;
use crate::policy::value::Place;
use crate::policy::{Permit, Verdict};
use crate::profile::{Argument, Decision, Ladder, Power, Profile, Rule};

/// Stands for what `xargs` adds to a command.
const ADDED_PATH: &str = "x";

/// How many commands may start one another on one command line (`nice timeout 5 ls` is three).
pub(super) const NESTING_MAX: usize = 4;

/// The rule id under which programs of the workspace run.
pub(super) const WORKSPACE_PROGRAMS: &str = "exec.workspace-programs";

/// Decides one request by the profile of its level.
pub fn decide(request: &Request, ladder: &Ladder) -> Verdict {
    if request.level > ladder.ceiling {
        return Verdict::Deny(refusal::above_ceiling(&Asked::from(request), ladder));
    }
    let Some(profile) = ladder.profiles.get(&request.level) else {
        return Verdict::Deny(refusal::no_profile(&Asked::from(request)));
    };
    let asked = Asked::from(request);
    verdict(&asked, Some(ladder), profile, find(&asked, profile))
}

/// The verdict on a finding. The ladder serves a refusal that may name another level.
pub(super) fn verdict(
    asked: &Asked<'_>,
    ladder: Option<&Ladder>,
    profile: &Profile,
    finding: Finding<'_>,
) -> Verdict {
    match finding {
        Finding::Allowed(allowed) => Verdict::Allow(Permit {
            rule: allowed.rule,
            power: allowed.power,
            origin: allowed.origin,
            force_environment: allowed.force_environment,
            by_shell: allowed.by_shell,
        }),
        Finding::Caught(rule) if rule.decision == Decision::Confirm => {
            Verdict::Ask(refusal::question(asked, rule))
        }
        Finding::Caught(rule) => Verdict::Deny(refusal::by_rule(asked, ladder, rule)),
        Finding::BadProgram(problem) => {
            Verdict::Deny(refusal::by_program(asked, ladder, profile, &problem))
        }
        Finding::Uncovered(nearest) => {
            Verdict::Deny(refusal::by_default(asked, ladder, profile, &nearest))
        }
        Finding::Undecidable(why) if asked.level.needs_grant() => {
            Verdict::Ask(refusal::unsure_question(asked, &why))
        }
        Finding::Undecidable(why) => Verdict::Deny(refusal::unsure(asked, ladder, &why)),
        Finding::Text(text) => {
            let InText { command, finding } = *text;
            let program = ProgramFact::Missing { searched: Vec::new() };
            let inner = Asked { argv: &command, program: &program, ..*asked };
            match verdict(&inner, ladder, profile, finding) {
                Verdict::Allow(permit) => Verdict::Allow(permit),
                Verdict::Ask(mut question) => {
                    refusal::put_in_text(&mut question.denial, asked, &command);
                    Verdict::Ask(question)
                }
                Verdict::Deny(mut refused) => {
                    refusal::put_in_text(&mut refused.denial, asked, &command);
                    Verdict::Deny(refused)
                }
            }
        }
    }
}

/// What the profile says about the request, its ceiling aside.
pub(super) fn find<'a>(asked: &Asked<'a>, profile: &'a Profile) -> Finding<'a> {
    let place = asked.place(profile);
    let words = asked.argv.get(1..).unwrap_or_default();
    let names = all_names(asked);
    // What a text for a shell means, its commands say.
    let has_text = names.iter().any(|it| shell::call(it, words).is_some());
    let caught = strictest(profile, &names, if has_text { &[] } else { words }, &place);
    if let Some(rule) = caught.filter(|it| it.decision > Decision::Confirm) {
        return Finding::Caught(rule);
    }
    let (path, canonical, location, setid, executable) = match asked.program {
        ProgramFact::Missing { searched } => {
            // What no rule is about is refused for that, whether or not it exists: at a level
            // without a toolchain its programs are not in the search path.
            let is_known = |it: &&&str| has_text || allow_rules(profile, it).next().is_some();
            return match names.iter().find(is_known) {
                Some(_) => Finding::BadProgram(ProgramProblem::Missing { searched }),
                None => match names.first() {
                    Some(name) => {
                        Finding::Uncovered(Nearest::NoRule { program: (*name).to_owned() })
                    }
                    None => Finding::BadProgram(ProgramProblem::Nameless),
                },
            };
        }
        ProgramFact::Found { path, canonical, location, setid, executable, .. } => {
            (path.as_path(), canonical.as_path(), *location, *setid, *executable)
        }
    };
    if setid {
        return Finding::BadProgram(ProgramProblem::SetId { path });
    }
    if !executable {
        return Finding::BadProgram(ProgramProblem::NotExecutable { path });
    }
    if names.iter().any(|it| is_loader(profile, it)) {
        return Finding::BadProgram(ProgramProblem::Loader { path });
    }
    match location {
        ProgramLocation::Elsewhere => Finding::BadProgram(ProgramProblem::Elsewhere { path }),
        ProgramLocation::Workspace => match (&profile.exec.workspace_programs, caught) {
            (None, _) => Finding::BadProgram(ProgramProblem::Workspace { path }),
            (Some(_), _) if lies_in_program_tree(canonical, asked.home, profile) => {
                judge_link(profile, path, canonical, words, &place)
            }
            (Some(_), Some(rule)) => Finding::Caught(rule),
            (Some(origin), None) => Finding::Allowed(Allowed {
                rule: WORKSPACE_PROGRAMS.to_owned(),
                power: Power::Exec,
                origin: origin.clone(),
                force_environment: BTreeMap::new(),
                by_shell: false,
            }),
        },
        ProgramLocation::System | ProgramLocation::Toolchain => {
            // The agent can give any name to a link in its workspace, so there the object's own
            // name counts.
            let named = if path.starts_with(asked.workspace) { canonical } else { path };
            match final_name(named) {
                Some(name) => judge(profile, &Command { name, names, words }, &place, 1),
                None => Finding::BadProgram(ProgramProblem::Nameless),
            }
        }
    }
}

/// A link that the workspace made to a program of the system is that program, whatever it is
/// called; and where the program does what the name says, it is what the name says too.
fn judge_link<'a>(
    profile: &'a Profile,
    path: &'a Path,
    canonical: &'a Path,
    words: &'a [Arg],
    place: &Place<'_>,
) -> Finding<'a> {
    let (Some(link), Some(object)) = (final_name(path), final_name(canonical)) else {
        return Finding::BadProgram(ProgramProblem::Nameless);
    };
    let named =
        |name| judge(profile, &Command { name, names: vec![link, object], words }, place, 1);
    let whole = named(object);
    let multicall = profile.exec.programs.get(object).is_some_and(|it| it.multicall);
    if !multicall || link == object {
        return whole;
    }
    // Under another name it is another program, and its own words are not what they seem.
    let other = named(link);
    if precedence(&other) > precedence(&whole) { other } else { whole }
}

/// What the rules say about names and words alone.
pub(super) fn judge<'a>(
    profile: &'a Profile,
    command: &Command<'_>,
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let Some(call) = shell::call(command.name, command.words) else {
        return judge_command(profile, command, place, depth);
    };
    // Who runs code anyway may hand it to a shell; what that starts is decided when it starts.
    if !place.callers.is_empty()
        && let finding @ Finding::Allowed(_) = judge_command(profile, command, place, depth)
    {
        return match shell::never(profile, call.text.as_bytes(), place) {
            Some(rule) => Finding::Caught(rule),
            None => finding,
        };
    }
    shell::judge_text(profile, command.name, &call, place, depth)
}

fn judge_command<'a>(
    profile: &'a Profile,
    command: &Command<'_>,
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let caught = strictest(profile, &command.names, command.words, place);
    if let Some(rule) = caught.filter(|it| it.decision > Decision::Confirm) {
        return Finding::Caught(rule);
    }
    let mut findings: Vec<Finding<'a>> = caught.map(Finding::Caught).into_iter().collect();
    let mut misfits = Vec::new();
    let mut any_words = false;
    let about = allow_rules(profile, command.name).filter(|it| place.is_about(it));
    let (likely, hopeless): (Vec<&Rule>, Vec<&Rule>) =
        about.partition(|it| grammar::has_fixed_words(it, command.words));
    for rule in likely {
        any_words |= rule.arguments.contains(&Argument::AnyWords);
        match apply(profile, rule, command, place, depth) {
            Ok(finding) => findings.push(finding),
            Err(misfit) => misfits.push((rule, misfit)),
        }
    }
    if any_words {
        // What a wrapper starts is decided when it does so, whatever the narrower rules cover.
        findings.retain(|it| !matches!(it, Finding::Uncovered(_)));
    }
    let strictest = findings.into_iter().max_by(|a, b| precedence(a).cmp(&precedence(b)));
    strictest.unwrap_or_else(|| {
        let misfit = |rule| Some((rule, apply(profile, rule, command, place, depth).err()?));
        misfits.extend(hopeless.into_iter().filter_map(misfit));
        Finding::Uncovered(nearest(command, misfits))
    })
}

/// What an allow rule makes of the command, where its grammar covers every word.
pub(super) fn apply<'a>(
    profile: &'a Profile,
    rule: &'a Rule,
    command: &Command<'_>,
    place: &Place<'_>,
    depth: usize,
) -> Result<Finding<'a>, Misfit> {
    let program = profile.exec.programs.get(command.name);
    let reading = grammar::read(rule, program, command.words, place)?;
    let force_environment = program.map(|it| it.force_environment.clone()).unwrap_or_default();
    let payloads = reading.payloads.iter().map(|it| judge_payload(profile, *it, place, depth + 1));
    let Some(mut finding) = payloads.max_by(|a, b| precedence(a).cmp(&precedence(b))) else {
        return Ok(Finding::Allowed(Allowed {
            rule: rule.id.clone(),
            power: rule.power,
            origin: rule.origin.clone(),
            force_environment,
            by_shell: false,
        }));
    };
    if let Finding::Allowed(allowed) = &mut finding {
        let inner = std::mem::replace(&mut allowed.force_environment, force_environment);
        allowed.force_environment.extend(inner);
    }
    Ok(finding)
}

/// The command that a wrapper starts. Which file it names is found by the wrapper at run time, in
/// the search path that the plan sets, so here only a plain name counts.
fn judge_payload<'a>(
    profile: &'a Profile,
    payload: Payload<'_>,
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let whole = judge_words(profile, payload.words, place, depth);
    if !payload.open {
        return whole;
    }
    // Which paths are added is known when it runs, and then each command is decided by itself.
    let mut words = payload.words.to_vec();
    words.extend(Arg::try_from(ADDED_PATH).ok());
    let more = judge_words(profile, &words, place, depth);
    if precedence(&more) > precedence(&whole) { more } else { whole }
}

fn judge_words<'a>(
    profile: &'a Profile,
    payload: &[Arg],
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let refused = |word: String| Finding::Uncovered(Nearest::Payload { word });
    let Some((first, words)) = payload.split_first() else {
        return refused(String::new());
    };
    if depth > NESTING_MAX {
        return Finding::Uncovered(Nearest::TooDeep);
    }
    let Some(name) = first.as_str().and_then(|it| final_name(Path::new(it))) else {
        return refused(first.to_string());
    };
    let names = vec![name];
    let is_plain = first.as_bytes() == name.as_bytes() && !name.contains('=');
    if is_plain && !is_loader(profile, name) {
        return judge(profile, &Command { name, names, words }, place, depth);
    }
    match strictest(profile, &names, words, place) {
        Some(rule) if rule.decision > Decision::Confirm => Finding::Caught(rule),
        Some(_) | None => refused(first.to_string()),
    }
}

/// The strictest rule that is not an allow rule and fires.
pub(super) fn strictest<'a>(
    profile: &'a Profile,
    names: &[&str],
    words: &[Arg],
    place: &Place<'_>,
) -> Option<&'a Rule> {
    let near = profile.exec.rules_near(names);
    let rules = near.filter(|it| it.decision > Decision::Allow);
    rules
        .filter(|rule| fires(profile, rule, names, words, place))
        .max_by(|a, b| (a.decision, &b.id).cmp(&(b.decision, &a.id)))
}

/// Whether a rule that is not an allow rule fires: for any name, any word could mean it.
pub(super) fn fires(
    profile: &Profile,
    rule: &Rule,
    names: &[&str],
    words: &[Arg],
    place: &Place<'_>,
) -> bool {
    place.is_about(rule)
        && names.iter().any(|name| {
            let program = profile.exec.programs.get(*name);
            rule.programs.iter().any(|it| loose::names(it, name))
                && loose::could_mean(&rule.when, program, words, place)
        })
}

pub(super) fn allow_rules<'a>(profile: &'a Profile, name: &str) -> impl Iterator<Item = &'a Rule> {
    let rules = profile.exec.rules_near(&[name]).filter(|it| it.decision == Decision::Allow);
    rules.filter(move |rule| rule.programs.iter().any(|it| it == name))
}

fn nearest<'a>(command: &Command<'_>, misfits: Vec<(&'a Rule, Misfit)>) -> Nearest<'a> {
    let furthest =
        misfits.into_iter().max_by(|(a, x), (b, y)| (x.covered, &b.id).cmp(&(y.covered, &a.id)));
    match furthest {
        Some((rule, misfit)) => Nearest::Rule { rule, misfit },
        None => Nearest::NoRule { program: command.name.to_owned() },
    }
}

fn is_loader(profile: &Profile, name: &str) -> bool {
    profile.exec.loaders().any(|it| loose::names(it, name))
}

/// Every name the program goes by: as it was asked for, where it was found, and the object's own.
fn all_names<'a>(asked: &Asked<'a>) -> Vec<&'a str> {
    let spelled = asked.argv.first().map(|it| Path::new(it.as_os_str()));
    let (path, canonical) = match asked.program {
        ProgramFact::Missing { .. } => (None, None),
        ProgramFact::Found { path, canonical, .. } => (Some(path), Some(canonical)),
    };
    let paths = spelled.into_iter().chain(path.map(PathBuf::as_path));
    let mut names: Vec<&str> =
        paths.chain(canonical.map(PathBuf::as_path)).filter_map(final_name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn final_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Level;
    use crate::policy::fixture::{allow, found, operands, option, origin, profile, request, rule};
    use crate::policy::{Question, Refusal};
    use crate::profile::{Class, OptionSpec, Style, ValueType, When};

    /// A program of the system by its plain name.
    fn plain(line: &str) -> Request {
        let name = line.split_whitespace().next().unwrap_or_default();
        request(line, found(&format!("/usr/bin/{name}"), ProgramLocation::System))
    }

    fn ladder(rules: Vec<Rule>) -> Ladder {
        let mut profile = profile();
        profile.exec.rules = rules;
        Ladder {
            ceiling: Level::TestExecution,
            profiles: BTreeMap::from([(profile.level, profile)]),
        }
    }

    fn ls_and_git() -> Vec<Rule> {
        let flags = Argument::Options(vec![option("-l", None), option("--all", None)]);
        let log = Argument::Options(vec![option("--max-count", Some(ValueType::Uint))]);
        let force = When { any_option: vec!["--force".to_owned()], ..When::default() };
        vec![
            allow("ls", "ls", vec![flags, operands(ValueType::PathRead, 0, 9)]),
            allow("git.log", "git", vec![Argument::Word("log".to_owned()), log]),
            Rule { when: force, ..rule("git.force", "git", Decision::Never) },
            rule("loose", "mkfs*", Decision::Deny),
            rule("ask", "touch", Decision::Confirm),
        ]
    }

    #[track_caller]
    fn denied(request: &Request, ladder: &Ladder) -> Refusal {
        match decide(request, ladder) {
            Verdict::Deny(refusal) => refusal,
            other @ (Verdict::Allow(_) | Verdict::Ask(_)) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn allowed(request: &Request, ladder: &Ladder) -> Permit {
        match decide(request, ladder) {
            Verdict::Allow(permit) => permit,
            other @ (Verdict::Ask(_) | Verdict::Deny(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_permit_carries_its_rule_and_what_the_pack_sets() {
        let permit = allowed(&plain("git --no-pager log --max-count 5"), &ladder(ls_and_git()));
        assert_eq!(permit.rule(), "git.log");
        assert_eq!(permit.power(), Power::Read);
        assert_eq!(permit.origin(), &origin());
        assert_eq!(permit.force_environment().get("GIT_PAGER").map(String::as_str), Some("cat"));
    }

    #[test]
    fn the_strictest_rule_wins_wherever_it_stands() {
        let strictness = [Decision::Allow, Decision::Confirm, Decision::Deny, Decision::Never];
        for (weaker, stricter) in strictness.iter().zip(strictness.iter().skip(1)) {
            let mut rules = vec![rule("a", "ls", *weaker), rule("b", "ls", *stricter)];
            let one = decide(&plain("ls"), &ladder(rules.clone()));
            rules.reverse();
            assert_eq!(one, decide(&plain("ls"), &ladder(rules)));
            let by = match one {
                Verdict::Allow(permit) => permit.rule().to_owned(),
                Verdict::Ask(question) => question.rule,
                Verdict::Deny(refusal) => refusal.denial.rule,
            };
            assert_eq!(by, "b", "{stricter:?} against {weaker:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_word_that_no_rule_covers_and_the_smallest_change() {
        let denial = denied(&plain("git log --maxx"), &ladder(ls_and_git())).denial;
        assert_eq!(denial.rule, "default");
        assert_eq!(denial.object, "git log --maxx");
        assert_eq!(denial.reason, "`--maxx` is not an option that rule `git.log` knows");
        let change = "`--maxx` among the options of rule `git.log` (rules.toml:7)";
        assert_eq!(denial.allow_with.as_deref(), Some(change));
        assert!(denial.next.contains("deliberate limit of level 1"), "{}", denial.next);
    }

    #[test]
    fn an_unknown_subcommand_is_refused_by_its_name() {
        let denial = denied(&plain("git --no-pager frob x"), &ladder(ls_and_git())).denial;
        assert_eq!(denial.reason, "no rule at level 1 allows `git frob`");
    }

    #[test]
    fn an_abbreviated_option_is_refused_with_its_full_name() {
        let denial = denied(&plain("git log --max 5"), &ladder(ls_and_git())).denial;
        assert_eq!(denial.next, "write the option in full: `--max-count`");
        assert_eq!(denial.allow_with, None);
    }

    #[test]
    fn an_unknown_program_is_refused_by_its_name() {
        let denial = denied(&plain("curl x"), &ladder(ls_and_git())).denial;
        assert_eq!(denial.reason, "no rule at level 1 allows `curl`");
        let change = "an `[[exec.rule]]` for `curl` in your `level-1.toml`";
        assert_eq!(denial.allow_with.as_deref(), Some(change));
    }

    #[test]
    fn a_refusal_knows_the_level_that_would_allow_it() {
        let mut ladder = ladder(ls_and_git());
        let mut higher = profile();
        higher.level = Level::TestExecution;
        higher.exec.rules = vec![allow("net.curl", "curl", vec![operands(ValueType::Text, 1, 1)])];
        ladder.profiles.insert(higher.level, higher);
        let change = Some("level 3 allows it by rule `net.curl`");
        assert_eq!(denied(&plain("curl x"), &ladder).denial.allow_with.as_deref(), change);
        let missing = request("curl x", ProgramFact::Missing { searched: Vec::new() });
        assert_eq!(denied(&missing, &ladder).denial.allow_with.as_deref(), change);
        assert!(denied(&plain("curl x y"), &ladder).denial.allow_with.unwrap().contains("curl"));
    }

    #[test]
    fn a_never_rule_offers_no_change() {
        let refusal = denied(&plain("git log --force"), &ladder(ls_and_git()));
        assert!(refusal.never);
        assert_eq!(refusal.denial.allow_with, None);
        assert_eq!(refusal.denial.origin, Some(origin()));
    }

    #[test]
    fn a_confirm_rule_asks_and_says_that_an_approval_is_needed() {
        let Verdict::Ask(Question { denial, rule, .. }) =
            decide(&plain("touch x"), &ladder(ls_and_git()))
        else {
            panic!("not asked");
        };
        assert_eq!(rule, "ask");
        assert_eq!(denial.reason, "this needs an approval: the test says so");
    }

    #[test]
    fn a_level_above_the_ceiling_is_refused_before_any_rule() {
        let mut request = plain("ls");
        request.level = Level::ApprovedIntegration;
        let denial = denied(&request, &ladder(ls_and_git())).denial;
        assert_eq!(denial.rule, "ceiling");
        let reason = "level 4 is above the ceiling of level 3; levels 4 to 6 need a signed grant";
        assert_eq!(denial.reason, reason);
        request.level = Level::LocalWrites;
        assert!(denied(&request, &ladder(ls_and_git())).denial.reason.contains("no profile"));
    }

    #[test]
    fn a_program_is_judged_by_where_it_was_found() {
        let ladder = ladder(ls_and_git());
        let rule_of = |path: &str, location| {
            denied(&request("ls -l", found(path, location)), &ladder).denial.rule
        };
        assert_eq!(rule_of("/ws/ls", ProgramLocation::Workspace), "exec.workspace-programs");
        assert_eq!(rule_of("/opt/x/ls", ProgramLocation::Elsewhere), "filesystem.read");
        assert_eq!(rule_of("/usr/bin/lsx", ProgramLocation::System), "default");
        let toolchain = found("/home/user/.cargo/bin/ls", ProgramLocation::Toolchain);
        assert_eq!(allowed(&request("/any/name -l", toolchain), &ladder).rule(), "ls");
    }

    #[test]
    fn a_link_that_the_agent_made_does_not_lend_its_name() {
        let mut fact = found("/ws/ls", ProgramLocation::System);
        if let ProgramFact::Found { canonical, .. } = &mut fact {
            *canonical = PathBuf::from("/usr/bin/env");
        }
        let reason = denied(&request("./ls rm x", fact), &ladder(ls_and_git())).denial.reason;
        assert_eq!(reason, "no rule at level 1 allows `env`");
    }

    #[test]
    fn a_denial_looks_at_every_name_of_the_program() {
        let mut fact = found("/usr/bin/x", ProgramLocation::System);
        if let ProgramFact::Found { canonical, .. } = &mut fact {
            *canonical = PathBuf::from("/usr/sbin/mkfs.ext4");
        }
        assert_eq!(denied(&request("x", fact), &ladder(ls_and_git())).denial.rule, "loose");
        let missing = ProgramFact::Missing { searched: vec![PathBuf::from("/usr/bin")] };
        let refusal = denied(&request("mkfs.xfs /dev/sda", missing.clone()), &ladder(ls_and_git()));
        assert_eq!((refusal.denial.rule.as_str(), refusal.not_found), ("loose", false));
        let refusal = denied(&request("ls", missing.clone()), &ladder(ls_and_git()));
        assert!(refusal.not_found);
        assert_eq!(refusal.denial.reason, "there is no program `ls` in /usr/bin");
        let refusal = denied(&request("nope", missing), &ladder(ls_and_git()));
        assert!(!refusal.not_found);
        assert_eq!(refusal.denial.reason, "no rule at level 1 allows `nope`");
    }

    #[test]
    fn set_id_loader_and_non_executable_files_never_start() {
        let mut profile = profile();
        let mut loader = crate::policy::fixture::program("ld-linux*", Style::Gnu, &[]);
        loader.class = Class::Loader;
        profile.exec.programs.insert(loader.name.clone(), loader);
        profile.exec.workspace_programs = Some(origin());
        profile.exec.rules = ls_and_git();
        let ladder =
            Ladder { ceiling: profile.level, profiles: BTreeMap::from([(profile.level, profile)]) };
        let check = |change: &dyn Fn(&mut bool, &mut bool), path: &str, rule: &str| {
            let mut fact = found(path, ProgramLocation::Workspace);
            if let ProgramFact::Found { setid, executable, .. } = &mut fact {
                change(setid, executable);
            }
            assert_eq!(denied(&request("x", fact), &ladder).denial.rule, rule);
        };
        check(&|setid, _| *setid = true, "/ws/x", "exec.set-id");
        check(&|_, executable| *executable = false, "/ws/x", "exec.not-executable");
        check(&|_, _| {}, "/ws/ld-linux-x86-64.so.2", "exec.loader");
        let built = request("./a.out --any", found("/ws/a.out", ProgramLocation::Workspace));
        assert_eq!(allowed(&built, &ladder).rule(), "exec.workspace-programs");
    }

    fn wrappers() -> Vec<Rule> {
        let mut rules = ls_and_git();
        let command = || operands(ValueType::Argv, 1, 1);
        rules.push(allow(
            "timeout",
            "timeout",
            vec![operands(ValueType::Duration, 1, 1), command()],
        ));
        let passed = ValueType::KeyValue(vec!["@environment.pass".to_owned()]);
        rules.push(allow("env", "env", vec![operands(passed, 0, 9), command()]));
        rules
    }

    #[test]
    fn a_wrapper_is_as_strict_as_the_command_it_starts() {
        let ladder = ladder(wrappers());
        let permit = allowed(&plain("timeout 5 env LANG=C git log"), &ladder);
        assert_eq!(permit.rule(), "git.log");
        assert_eq!(permit.force_environment().len(), 1);
        assert!(denied(&plain("timeout 5 git log --force"), &ladder).never);
        assert!(denied(&plain("timeout 5 /usr/bin/git log --force"), &ladder).never);
        assert!(matches!(decide(&plain("env touch x"), &ladder), Verdict::Ask(_)));
        for line in [
            "timeout 5 curl x",
            "timeout 5 ./ls",
            "timeout 5 /bin/ls",
            "timeout 5",
            "timeout ls",
            "env LD_PRELOAD=x ls",
            "env GIT_PAGER=x git log",
            "env -i ls",
            "env -S ls",
            "env env env env env ls",
        ] {
            assert!(!denied(&plain(line), &ladder).never, "{line}");
        }
    }

    #[test]
    fn the_smallest_change_does_not_depend_on_the_order_of_rules() {
        let spec = |name: &str| Argument::Options(vec![OptionSpec { ..option(name, None) }]);
        let mut rules = vec![allow("a", "x", vec![spec("-a")]), allow("b", "x", vec![spec("-a")])];
        let one = denied(&plain("x -a -z"), &ladder(rules.clone()));
        rules.reverse();
        assert_eq!(one, denied(&plain("x -a -z"), &ladder(rules)));
        assert!(one.denial.reason.contains("rule `a`"), "{}", one.denial.reason);
    }
}
