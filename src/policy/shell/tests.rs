//! Texts, and what is read out of them.

use super::*;

/// A script in a form that is easy to compare: `VAR=x git log <in >out 2; `, `~` before what the
/// shell fills in.
fn shown(script: &Script) -> String {
    let word = |it: &Word| match it.filled {
        None => it.start.to_string(),
        Some(filled) => format!("{}~{:?}", it.start, filled.by),
    };
    let mut text = String::new();
    for Step { command, then } in &script.steps {
        let mut parts: Vec<String> = Vec::new();
        for Assignment { name, value, .. } in &command.assignments {
            parts.push(format!("{name}={}", word(value)));
        }
        parts.extend(command.words.iter().map(|it| format!("[{}]", word(it))));
        parts.extend(command.redirects.iter().map(|it| match &it.target {
            Target::Read(path) => format!("<{path}"),
            Target::Write(path) => format!(">{path}"),
            Target::ReadWrite(path) => format!("<>{path}"),
            Target::Descriptor => "&".to_owned(),
            Target::Text(text) => format!("<<{:?}", String::from_utf8_lossy(text)),
        }));
        text.push_str(&parts.join(" "));
        text.push_str(match then {
            Connection::End => "",
            Connection::Next => " ; ",
            Connection::And => " && ",
            Connection::Or => " || ",
            Connection::Pipe => " | ",
            Connection::Background => " & ",
        });
    }
    text
}

fn read(text: &str) -> Result<Script, Undecidable> {
    parse(text.as_bytes(), &Limits::default())
}

#[track_caller]
fn check(text: &str, script: &str) {
    match read(text) {
        Ok(read) => assert_eq!(shown(&read), script, "{text:?}"),
        Err(error) => panic!("{text:?}: {error}"),
    }
}

/// The construct, and the byte at which it begins.
#[track_caller]
fn refused(text: &str, construct: &str, at: usize) {
    match read(text) {
        Ok(script) => panic!("{text:?} was read as {}", shown(&script)),
        Err(error) => {
            let name = format!("{:?}", error.construct);
            assert!(name.starts_with(construct), "{text:?}: {name}");
            assert_eq!(error.span.start, at, "{text:?}: {name}");
        }
    }
}

#[test]
fn quotes_and_backslashes_are_taken_off_as_bash_does() {
    check("r''m -rf x", "[rm] [-rf] [x]");
    check(r"r\m x", "[rm] [x]");
    check(r"find . -ex\ec rm {} \;", "[find] [.] [-exec] [rm] [{}] [;]");
    check(r#"echo "a\$b\q" 'c"d' ''"#, r#"[echo] [a$b\\q] [c"d] []"#);
    check(r"echo a \ b", "[echo] [a] [ b]");
    check("echo a#b ''# \"a\"#", "[echo] [a#b] [#] [a#]");
    check(
        "git show HEAD@{1} HEAD~2 a^ --format=%h",
        "[git] [show] [HEAD@{1}] [HEAD~2] [a^] [--format=%h]",
    );
    check("rg 'a$' b$ \"c$\"", "[rg] [a$] [b$] [c$]");
    check("[ -f x ]", "[[] [-f] [x] []]");
    check("git commit -m 'two\nlines'", "[git] [commit] [-m] [two\\x0alines]");
}

#[test]
fn commands_are_told_apart_and_connected() {
    check("ls;rm x", "[ls] ; [rm] [x]");
    check("a && b || c | d |& e & f", "[a] && [b] || [c] | [d] | [e] & [f]");
    check("a\n\n# note\nb # more\n", "[a] ; [b] ; ");
    check("a |\n  b", "[a] | [b]");
    check("cargo test \\\n  --lib \\\n  -q", "[cargo] [test] [--lib] [-q]");
    check("echo a #\\\nrm x", "[echo] [a] ; [rm] [x]");
}

#[test]
fn words_behind_a_redirection_are_arguments() {
    check("find . 2>/dev/null -delete", "[find] [.] [-delete] >/dev/null");
    check("git >o -c core.pager=x log", "[git] [-c] [core.pager=x] [log] >o");
    check(">out rm x", "[rm] [x] >out");
    check("x=1 >o rm y 2>&1", "x=1 [rm] [y] >o &");
    check("sort <in >>out", "[sort] <in >out");
    check("a &>b <>c >|d <<<e", "[a] >b <>c >d <<\"e\"");
    check("a 2 >b", "[a] [2] >b");
    check("a2>b", "[a2] >b");
}

#[test]
fn a_here_document_ends_at_its_delimiter_and_nowhere_else() {
    check("cat <<'E' >f | wc\nx $y\nE \nE\nls", "[cat] <<\"x $y\\nE \\n\" >f | [wc] ; [ls]");
    check("cat <<E\nplain\nE", "[cat] <<\"plain\\n\" ; ");
    check(
        "git commit -m \"$(cat <<'EOF'\na\n\n`b`\n\nEOF\n)\" -q",
        "[git] [commit] [-m] [a\\x0a\\x0a`b`] [-q]",
    );
    refused("cat <<E\n$x\nE", "HereDocument", 8);
    refused("cat <<'E'\nx\nE ", "Incomplete", 7);
    refused("cat <<-'E'\nx\nE", "RedirectForm", 4);
    refused("cat <<'E' 'a\nb'\nE", "HereDocument", 10);
    refused("cat <<'E' &&\nx\nE\nls", "HereDocument", 12);
    refused("echo \"$(cat <<'E'\nE\n) x\"", "Substitution", 5);
    refused("echo \"$(cat <<'E'\nx\"", "Incomplete", 15);
}

#[test]
fn what_the_shell_fills_in_is_marked() {
    check(
        "cat $x ${y}z a*b \"q $z\" ~/k",
        "[cat] [~Variable] [~Variable] [a~Pattern] [q ~Variable] [~Home]",
    );
    check("make A=~/x --b=~ c:~", "[make] [A=~Home] [--b=~Home] [c:~Home]");
    check("A=$x B='y z' cmd", "A=~Variable B=y z [cmd]");
    check("ls [ab].txt", "[ls] [~Pattern]");
}

#[test]
fn every_other_construct_is_refused_where_it_begins() {
    refused("echo $(rm x)", "Substitution", 5);
    refused("echo `rm x`", "Backtick", 5);
    refused("echo \"`rm x`\"", "Backtick", 6);
    refused("echo $'a'", "AnsiQuote", 5);
    refused("echo $\"a\"", "TranslatedQuote", 5);
    refused("echo $((a))", "Arithmetic", 5);
    refused("echo $[a]", "Arithmetic", 5);
    refused("echo ${x@P}", "Expansion", 5);
    refused("echo ${!x}", "Expansion", 5);
    refused("echo $1", "SpecialVariable", 5);
    refused("echo \"$@\"", "SpecialVariable", 6);
    refused("diff <(a) b", "ProcessSubstitution", 5);
    refused("rm a>(ls)b", "ProcessSubstitution", 4);
    refused("f() { x; }", "Group", 1);
    refused("(ls)", "Group", 0);
    refused("a=(rm x)", "Group", 2);
    refused("{rm,-rf,x}", "Braces", 0);
    refused("git push {-f,origin}", "Braces", 9);
    refused("echo {a}{b,c}", "Braces", 8);
    refused("echo {1..3}", "Braces", 5);
    refused("{ ls; }", "Braces", 0);
    refused("a[1]=x", "Subscript", 1);
    refused("A+=x cmd", "Appending", 2);
    refused("$a x", "ProgramFilledIn", 0);
    refused("/b?n/rm", "ProgramFilledIn", 0);
    refused("~/x", "ProgramFilledIn", 0);
    refused("[[ -f x ]]", "ProgramFilledIn", 0);
    refused("l\u{455}", "ProgramName", 0);
    refused("'' x", "ProgramName", 0);
    refused("%1", "ProgramName", 0);
    for word in ["time ls", "! ls", "if a", "case x", "for x", "coproc x", "function x"] {
        refused(word, "Keyword", 0);
    }
    refused("ls | time rm x", "Keyword", 5);
    check("ls !x time 'if'", "[ls] [!x] [time] [if]");
}

#[test]
fn redirections_of_unusual_form_are_refused() {
    refused("find . >&--delete", "RedirectForm", 7);
    refused("git fetch origin >&---upload-pack=x", "RedirectForm", 17);
    refused("find . <& --delete", "RedirectForm", 7);
    refused("a >&file", "RedirectForm", 2);
    refused("a 12>b", "RedirectForm", 2);
    refused("echo x {fd}>out", "RedirectForm", 7);
    refused("a > $x", "RedirectTarget", 2);
    refused("a > ''", "RedirectTarget", 2);
    refused("a >#b", "RedirectTarget", 2);
    refused("a > 2>b", "RedirectTarget", 2);
    refused("a <<<2>b", "RedirectTarget", 2);
    refused("a >", "RedirectTarget", 2);
    refused("echo x >/dev/tcp/h/80", "Network", 7);
}

#[test]
fn a_line_is_continued_between_blanks_only() {
    refused("git st\\\natus", "Continuation", 6);
    refused("echo a\\\n# ; rm x", "Continuation", 6);
    refused("echo a \\\n# ; rm x", "Continuation", 7);
    refused("a &\\\n& b", "Continuation", 3);
    refused("echo \"a\\\nb\"", "Continuation", 7);
    refused("ls \\\n", "Continuation", 3);
    refused("ls \\", "TrailingBackslash", 3);
}

#[test]
fn a_text_that_ends_too_early_is_refused() {
    refused("", "Empty", 0);
    refused(" # nothing\n", "Empty", 11);
    refused("ls &&", "Incomplete", 5);
    refused("ls |\n", "Incomplete", 5);
    refused("ls 'a", "UnclosedQuote", 3);
    refused("ls \"a", "UnclosedQuote", 3);
    refused("; ls", "EmptyCommand", 0);
    refused("ls ;; rm", "EmptyCommand", 4);
    refused("ls && && rm", "EmptyCommand", 6);
}

#[test]
fn characters_that_cannot_be_seen_are_refused_even_in_quotes() {
    refused("ls\0rm x", "Invisible", 2);
    refused("echo a \r# ; rm x", "Invisible", 7);
    refused("echo a\u{c}# ; rm x", "Invisible", 6);
    refused("echo a\u{b}#", "Invisible", 6);
    refused("ls\u{a0}-la", "Invisible", 2);
    refused("ls '\u{200b}'", "Invisible", 4);
    refused("rm \u{202e}txt.exe", "Invisible", 3);
    refused("ls \u{7f}", "Invisible", 3);
    refused("ls \u{85}", "Invisible", 3);
    refused("ls \u{3000}", "Invisible", 3);
    let error = parse(b"ls \xed\xa0\x80", &Limits::default()).unwrap_err();
    assert_eq!((error.construct, error.span.start), (Construct::NotText, 3));
    check("echo \u{fc}ber", "[echo] [\u{fc}ber]");
}

#[test]
fn a_refusal_says_what_and_where_as_a_reader_counts() {
    let error = read("ls\necho \u{fc} $(date)").unwrap_err();
    assert_eq!(error.to_string(), "a command substitution `$(...)` (line 2, character 8)");
}

#[test]
fn what_is_larger_than_its_limit_is_refused_whole() {
    let limits = Limits::default();
    refused(&"a;".repeat(limits.commands_max + 1), "TooManyCommands", 2 * limits.commands_max);
    refused(&"a ".repeat(limits.words_max + 1), "TooManyWords", 2 * limits.words_max);
    let long = "a".repeat(limits.script_bytes_max + 1);
    refused(&long, "ScriptTooLong", limits.script_bytes_max + 1);
    let documents = "cat <<'E'\nE\n".repeat(limits.here_documents_max + 1);
    refused(&documents, "TooManyHereDocuments", 12 * limits.here_documents_max + 4);
    let short = Limits { word_bytes_max: 3, ..limits };
    assert!(parse(b"abc", &short).is_ok());
    let error = parse(b"abcd", &short).unwrap_err();
    assert_eq!(error.construct, Construct::WordTooLong { max: 3 });
}
