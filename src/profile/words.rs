//! Splits an example command line into words, and refuses whatever a shell would read otherwise.
//!
//! This is for people who write examples, not for commands that run: there is no expansion, no
//! operator and no escape, so that the words are the ones anybody sees.

/// Why a line is no plain list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotWords {
    #[error(
        "the example has `{0}`, which a shell would act on: quote it, or write a list of words"
    )]
    Active(char),
    #[error("the example has a quote that is not closed")]
    Open,
    #[error("the example is empty")]
    Empty,
}

/// Splits at blanks; `'...'` and `"..."` quote.
pub(super) fn split(line: &str) -> Result<Vec<String>, NotWords> {
    let mut words = Vec::new();
    let mut letters = line.chars();
    let mut word: Option<String> = None;
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => quoted(letter, &mut letters, word.get_or_insert_default())?,
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '\\' | '*' | '?' | '[' | ']'
            | '{' | '}' | '\n' => return Err(NotWords::Active(letter)),
            '~' | '#' if word.is_none() => return Err(NotWords::Active(letter)),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(NotWords::Empty) } else { Ok(words) }
}

fn quoted(
    quote: char,
    letters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), NotWords> {
    for letter in letters {
        if letter == quote {
            return Ok(());
        }
        if quote == '"' && matches!(letter, '$' | '`' | '\\') {
            return Err(NotWords::Active(letter));
        }
        word.push(letter);
    }
    Err(NotWords::Open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_anybody_sees() {
        let check = |line: &str, words: &[&str]| assert_eq!(split(line).unwrap(), words);
        check("cargo test -p core", &["cargo", "test", "-p", "core"]);
        check("find . -name '*.rs' ! -path x", &["find", ".", "-name", "*.rs", "!", "-path", "x"]);
        check("a  \"b c\"''d ''", &["a", "b cd", ""]);
        check("git log HEAD~2 a#b +nightly @^", &["git", "log", "HEAD~2", "a#b", "+nightly", "@^"]);
    }

    #[test]
    fn whatever_a_shell_acts_on_is_refused() {
        for line in
            ["a|b", "a;b", "a $x", "a `b`", "a \\b", "ls *", "a ~", "a #b", "\"$x\"", "a{b}"]
        {
            assert!(matches!(split(line), Err(NotWords::Active(_))), "{line}");
        }
        assert_eq!(split("a 'b"), Err(NotWords::Open));
        assert_eq!(split("  "), Err(NotWords::Empty));
    }
}
