//! The few `sed` commands that do nothing but print and change text.
//!
//! `sed` can run programs (`e`, `s///e`), write files (`w`) and read them (`r`). A script is
//! accepted only if each of its commands is one of `p P d D q Q = n N g G h H x l`, an `s` without
//! the flags `e` and `w`, or a `y`. Groups, labels, branches and texts are not read.

/// Whether every command of the script is known and harmless.
pub(super) fn is_harmless(script: &str) -> bool {
    if script.chars().any(char::is_control) {
        return false; // a line break separates commands, too
    }
    let mut rest = Some(script);
    while let Some(text) = rest {
        rest = match after_command(text) {
            Some(after) => match after.trim_start_matches(' ') {
                "" => None,
                more => match more.strip_prefix(';') {
                    Some(next) => Some(next),
                    None => return false,
                },
            },
            None => return false,
        };
    }
    true
}

/// What follows the first command; nothing where it is not a known one.
fn after_command(text: &str) -> Option<&str> {
    let text = after_addresses(text.trim_start_matches(' '))?.trim_start_matches(' ');
    let text = text.strip_prefix('!').map_or(text, |it| it.trim_start_matches(' '));
    let mut letters = text.chars();
    let command = letters.next()?;
    let after = letters.as_str();
    match command {
        'p' | 'P' | 'd' | 'D' | '=' | 'n' | 'N' | 'g' | 'G' | 'h' | 'H' | 'x' | 'l' => Some(after),
        'q' | 'Q' => Some(without_digits(after.trim_start_matches(' '))),
        's' => {
            let after = after_parts(after, 2)?;
            Some(after.trim_start_matches(|it: char| {
                matches!(it, 'g' | 'p' | 'i' | 'I' | 'm' | 'M') || it.is_ascii_digit()
            }))
        }
        'y' => after_parts(after, 2),
        _ => None,
    }
}

/// `5`, `5,10`, `/x/,$`, `1~2`, `5,+3`, or none.
fn after_addresses(text: &str) -> Option<&str> {
    let Some(after) = after_address(text)? else { return Some(text) };
    let Some(second) = after.trim_start_matches(' ').strip_prefix(',') else { return Some(after) };
    let second = second.trim_start_matches(' ');
    let second = second.strip_prefix(['+', '~']).unwrap_or(second);
    after_address(second)?
}

/// What follows one address: `Some(None)` where there is none, `None` where it is broken.
#[expect(clippy::option_option, reason = "absent and broken are different answers")]
fn after_address(text: &str) -> Option<Option<&str>> {
    if let Some(after) = text.strip_prefix('$') {
        return Some(Some(after));
    }
    if text.starts_with('/') {
        let after = after_parts(text, 1)?;
        return Some(Some(after.strip_prefix('I').unwrap_or(after)));
    }
    let after = without_digits(text);
    if after.len() == text.len() {
        return Some(None);
    }
    Some(Some(after.strip_prefix('~').map_or(after, without_digits)))
}

/// What follows `count` texts, each ended by the character that opens the first one.
fn after_parts(text: &str, count: usize) -> Option<&str> {
    let mut letters = text.chars();
    let delimiter = letters.next().filter(|it| it.is_ascii_punctuation() && *it != '\\')?;
    let mut ended = 0;
    let mut in_brackets = false;
    while ended < count {
        match letters.next()? {
            '\\' => drop(letters.next()?),
            // Some versions of sed end the text inside `[/]` and some do not.
            letter if letter == delimiter && in_brackets => return None,
            letter if letter == delimiter => ended += 1,
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
    }
    Some(letters.as_str())
}

fn without_digits(text: &str) -> &str {
    text.trim_start_matches(|it: char| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_and_changing_text_is_harmless() {
        for script in [
            "1,20p",
            "10,20p;21q",
            "$p",
            "$!d",
            "/x/d",
            "/a/,/b/p",
            "5q",
            "=",
            "s/a/b/",
            "s/a/b/g",
            "s|/usr|/opt|gp",
            "s/\\//x/",
            "1~2p",
            "5,+3p",
            "/x/Id",
            "y/abc/xyz/",
            "s/[a-z]*//2",
            "1!G;h;$!d",
            "s,a,b,;s,c,d,",
            "q5",
        ] {
            assert!(is_harmless(script), "{script}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for script in [
            "",
            "1e id",
            "e",
            "1e",
            "s/a/b/e",
            "s/a/b/ge",
            "s/a/b/w f",
            "w f",
            "r /etc/shadow",
            "R f",
            "W f",
            "$w f",
            "1,2w f",
            "{p}",
            "p}",
            "a text",
            "i\\",
            "c x",
            "b",
            ":a",
            "ta",
            "#n",
            "s/a/b",
            "s/a",
            "s",
            "s\\a\\b\\",
            "p w",
            "p;e",
            "p\ne id",
            "s/[/]/w x/",
            "s/[/]/g;w x/",
            "/x",
            "s/a/b/;",
            "1,p",
            "sxaxbxe",
            "y/a/b/w f",
            "v",
            "F",
            "z",
            "T",
            "s/a/b/\u{a0}",
        ] {
            assert!(!is_harmless(script), "{script}");
        }
    }
}
