//! Turning one string into words, where the string needs no shell.
//!
//! A text that a shell would do anything with but split at blanks and take quotes off is refused,
//! with the character and its place. So there is nothing to disagree about: every accepted text
//! means the same words here and in a shell.

use crate::model::Arg;

/// Text that only a shell could read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeedsShell {
    #[error(
        "{character} at character {position} means something to a shell ({meaning}), and shell text is not accepted here: give the words of one command as separate arguments, or the whole text behind `-c`"
    )]
    Special { character: String, position: usize, meaning: &'static str },
    #[error(
        "{character} at character {position} can not be seen or told apart, and is not accepted in a command line: remove it, or give the words as separate arguments"
    )]
    Invisible { character: String, position: usize },
    #[error("the quote that opens at character {position} is never closed")]
    Unclosed { position: usize },
    #[error("there is no word in the text")]
    Empty,
}

/// Splits `git log --author 'A B'` into its words. Positions in errors count characters from 1.
pub fn split(text: &str) -> Result<Vec<Arg>, NeedsShell> {
    refuse_special(text)?;
    let words = shell_words::split(text).map_err(|_| NeedsShell::Unclosed { position: 1 })?;
    if words.is_empty() {
        return Err(NeedsShell::Empty);
    }
    let invisible = |_| NeedsShell::Invisible { character: "NUL".to_owned(), position: 1 };
    words.into_iter().map(|it| Arg::new(it).map_err(invisible)).collect()
}

/// Which quotes the character stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

fn refuse_special(text: &str) -> Result<(), NeedsShell> {
    let mut quotes = Quotes::None;
    let mut opened = 0;
    let mut first_word = true;
    let mut before = ' ';
    let mut name_so_far = true; // the first word could still be the name of a variable
    for (index, letter) in text.chars().enumerate() {
        let position = index + 1;
        if is_invisible(letter) {
            let character = shown(letter);
            return Err(NeedsShell::Invisible { character, position });
        }
        if quotes == Quotes::None && letter == '=' && first_word && name_so_far && before != ' ' {
            let meaning = "setting a variable for the command";
            return Err(NeedsShell::Special { character: "`=`".to_owned(), position, meaning });
        }
        if let Some(meaning) = special(letter, before, quotes) {
            let character = shown(letter);
            return Err(NeedsShell::Special { character, position, meaning });
        }
        if letter == ' ' && quotes == Quotes::None && before != ' ' {
            first_word = false;
        }
        name_so_far &=
            matches!(letter, ' ' | '_') || letter.is_ascii_alphanumeric() || letter == '+';
        let after = toggled(quotes, letter);
        if after != quotes && after != Quotes::None {
            opened = position;
        }
        quotes = after;
        before = letter;
    }
    match quotes {
        Quotes::None => Ok(()),
        Quotes::Single | Quotes::Double => Err(NeedsShell::Unclosed { position: opened }),
    }
}

fn toggled(quotes: Quotes, letter: char) -> Quotes {
    match (quotes, letter) {
        (Quotes::None, '\'') => Quotes::Single,
        (Quotes::None, '"') => Quotes::Double,
        (Quotes::Single, '\'') | (Quotes::Double, '"') => Quotes::None,
        (same, _) => same,
    }
}

/// What a shell would do at this character.
fn special(letter: char, before: char, quotes: Quotes) -> Option<&'static str> {
    if quotes == Quotes::Single {
        return None;
    }
    let meaning = match letter {
        '$' => "a variable or a substitution",
        '`' => "the output of another command",
        '\\' => "an escape",
        _ if quotes == Quotes::Double => return None,
        '|' => "a pipe",
        '&' => "a second command or the background",
        ';' => "a second command",
        '<' | '>' => "a redirection",
        '*' | '?' | '[' | ']' => "file names that match",
        '{' | '}' => "a list of words or a group",
        '(' | ')' => "a subshell or a function",
        '!' => "a negation or the history",
        '#' => "a comment",
        '~' if matches!(before, ' ' | '=' | ':') => "a home directory",
        _ => return None,
    };
    Some(meaning)
}

/// Control characters (a line break is a second command), and those that a reader can not see or
/// takes for others: what [`Arg`] does not print as it is, but for the backslash.
fn is_invisible(letter: char) -> bool {
    letter != '\\' && shown(letter) != format!("`{letter}`")
}

fn shown(letter: char) -> String {
    let mut buffer = [0; 4];
    let text = letter.encode_utf8(&mut buffer);
    match Arg::new(text.as_bytes()) {
        Ok(_) if letter == '\\' => "`\\`".to_owned(),
        Ok(word) => format!("`{word}`"),
        Err(_) => "NUL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        let words: Vec<Arg> = words.iter().map(|it| Arg::try_from(*it).unwrap()).collect();
        assert_eq!(split(text), Ok(words), "{text}");
    }

    #[test]
    fn blanks_and_quotes_are_all_that_is_read() {
        check("git log -n 5", &["git", "log", "-n", "5"]);
        check("  ls   -la ", &["ls", "-la"]);
        check("git commit -m 'a; b' \"c d\"", &["git", "commit", "-m", "a; b", "c d"]);
        check("r''m x", &["rm", "x"]);
        check("cat 'a\"b' \"c'd\"", &["cat", "a\"b", "c'd"]);
        check("git show HEAD~2 a^ --format=%h", &["git", "show", "HEAD~2", "a^", "--format=%h"]);
        check("cargo test --features=a", &["cargo", "test", "--features=a"]);
        check("rg 'a|b' ''", &["rg", "a|b", ""]);
        check("git commit -m \"Fix it!\"", &["git", "commit", "-m", "Fix it!"]);
    }

    #[track_caller]
    fn check_special(text: &str, at: usize) {
        match split(text) {
            Err(NeedsShell::Special { position, .. } | NeedsShell::Invisible { position, .. }) => {
                assert_eq!(position, at, "{text:?}");
            }
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn everything_a_shell_would_act_on_is_refused_with_its_place() {
        check_special("ls; rm x", 3);
        check_special("ls|sh", 3);
        check_special("ls && rm x", 4);
        check_special("ls\nrm x", 3);
        check_special("ls\rrm", 3);
        check_special("ls\trm", 3);
        check_special("cat <a", 5);
        check_special("find . 2>/dev/null -delete", 9);
        check_special("echo $HOME", 6);
        check_special("echo \"$(rm x)\"", 7);
        check_special("echo \"`rm x`\"", 7);
        check_special("find . -ex\\ec rm", 11);
        check_special("r\\m x", 2);
        check_special("ls *", 4);
        check_special("/b?n/rm", 3);
        check_special("/???/r[m] x", 2);
        check_special("{rm,-rf,x}", 1);
        check_special("git push {-f,origin}", 10);
        check_special("ls ~root", 4);
        check_special("a=~/x", 2);
        check_special("(rm x)", 1);
        check_special("! rm x", 1);
        check_special("!rm x", 1);
        check_special("echo a # rm x", 8);
        check_special("$'\\x72m' x", 1);
        check_special("cat ${IFS}x", 5);
    }

    #[test]
    fn an_assignment_before_the_command_is_refused() {
        check_special("LD_PRELOAD=./x ls", 11);
        check_special("  A=1 ls", 4);
        check_special("A+=1 ls", 3);
    }

    #[test]
    fn characters_that_deceive_the_reader_are_refused() {
        check_special("rm \u{202e}txt.exe", 4);
        check_special("ls\u{a0}-la", 3);
        check_special("ls '\u{200b}'", 5);
        check_special("echo a\u{c}# ; rm x", 7);
        check_special("echo a\u{b}# ; rm x", 7);
        check_special("ls \0", 4);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_by_its_place() {
        assert_eq!(split("cat 'a"), Err(NeedsShell::Unclosed { position: 5 }));
        assert_eq!(split("cat 'a' \"b"), Err(NeedsShell::Unclosed { position: 9 }));
        assert_eq!(split("  "), Err(NeedsShell::Empty));
    }

    #[test]
    fn the_refusal_points_to_the_way_without_a_shell() {
        let says = split("ls; rm x").unwrap_err().to_string();
        assert_eq!(
            says,
            "`;` at character 3 means something to a shell (a second command), and shell text is \
             not accepted here: give the words of one command as separate arguments, or the whole \
             text behind `-c`"
        );
    }
}
