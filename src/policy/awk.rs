//! The part of `awk` that does nothing but compute and print.
//!
//! An awk program can run others (`system`, `|`, `getline`), write files (`>`) and print the
//! environment (`ENVIRON`). A program is accepted only if each of its words is known: texts,
//! regular expressions, numbers, names of variables, and the functions and statements listed here.
//! Where awk itself has to guess whether `/` divides or begins a regular expression, it is refused.

/// What may be called.
const FUNCTIONS: [&str; 17] = [
    "length", "substr", "index", "split", "sub", "gsub", "match", "tolower", "toupper", "sprintf",
    "int", "sqrt", "log", "exp", "sin", "cos", "atan2",
];

/// Words with a parenthesis of their own, behind which a statement begins.
const CONDITIONS: [&str; 3] = ["if", "while", "for"];

/// Words that neither name a value nor call anything.
const STATEMENTS: [&str; 13] = [
    "print", "printf", "BEGIN", "END", "else", "do", "in", "next", "exit", "break", "continue",
    "delete", "return",
];

/// Words that reach beyond the program, and those that only some versions of awk know.
const REFUSED: [&str; 19] = [
    "system",
    "getline",
    "close",
    "fflush",
    "ENVIRON",
    "PROCINFO",
    "SYMTAB",
    "FUNCTAB",
    "nextfile",
    "function",
    "func",
    "ARGV",
    "ARGC",
    "switch",
    "case",
    "default",
    "BEGINFILE",
    "ENDFILE",
    "eval",
];

/// What the word before says about a `/`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A value, so that `/` divides.
    Value,
    /// An operator or an opening, so that `/` begins a regular expression.
    Operator,
    /// Either could be meant.
    Unclear,
}

/// Whether every word of the program is known and harmless.
pub(super) fn is_harmless(program: &str) -> bool {
    let mut reader =
        Reader { rest: program, before: Before::Operator, opened: Vec::new(), braces: 0 };
    while !reader.rest.is_empty() {
        if reader.word().is_none() {
            return false;
        }
    }
    reader.opened.is_empty() && reader.braces == 0
}

struct Reader<'a> {
    rest: &'a str,
    before: Before,
    /// For each parenthesis and bracket that is open: what its end says about a `/` behind it.
    opened: Vec<Before>,
    braces: usize,
}

impl Reader<'_> {
    /// Takes one word; nothing where it is not a known one.
    fn word(&mut self) -> Option<()> {
        let mut letters = self.rest.chars();
        let first = letters.next()?;
        let after = letters.as_str();
        match first {
            ' ' | '\t' => self.rest = letters.as_str(),
            // Behind a value they stand at its end, and what follows them divides.
            '+' | '-' if after.starts_with(first) => {
                self.take(after.strip_prefix(first)?, Before::Unclear);
            }
            '\n' | ';' | ',' | '?' | ':' | '~' | '^' | '%' | '*' | '=' | '!' | '<' | '+' | '-' => {
                self.take(after, Before::Operator);
            }
            '$' => self.take(after, Before::Unclear),
            '&' => self.take(after.strip_prefix('&')?, Before::Operator),
            '|' => self.take(after.strip_prefix('|')?, Before::Operator),
            // Behind `print` it names a file; in parentheses and in a pattern it compares.
            '>' if !self.opened.is_empty() || self.braces == 0 => {
                self.take(after, Before::Operator);
            }
            '(' | '[' => {
                self.opened.push(Before::Value);
                self.take(after, Before::Operator);
            }
            ')' | ']' => {
                let before = self.opened.pop()?;
                self.take(after, before);
            }
            '{' => {
                self.braces += 1;
                self.take(after, Before::Operator);
            }
            '}' => {
                self.braces = self.braces.checked_sub(1)?;
                self.take(after, Before::Operator);
            }
            '"' => self.take(after_text(after)?, Before::Value),
            '/' => match self.before {
                Before::Value => self.take(after, Before::Operator),
                Before::Operator => self.take(after_regex(after)?, Before::Value),
                Before::Unclear => return None,
            },
            '0'..='9' | '.' => {
                let number = |it: char| it.is_ascii_digit() || it == '.';
                self.take(after.trim_start_matches(number), Before::Value);
            }
            'a'..='z' | 'A'..='Z' | '_' => self.name()?,
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, after: &str, before: Before) {
        let taken = self.rest.len() - after.len();
        self.rest = self.rest.get(taken..).unwrap_or_default();
        self.before = before;
    }

    fn name(&mut self) -> Option<()> {
        let known = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let after = self.rest.trim_start_matches(known);
        let name = self.rest.strip_suffix(after)?;
        if REFUSED.contains(&name) {
            return None;
        }
        if CONDITIONS.contains(&name) {
            self.opened.push(Before::Unclear);
            self.take(after.trim_start_matches(' ').strip_prefix('(')?, Before::Operator);
            return Some(());
        }
        let function = FUNCTIONS.contains(&name);
        let statement = STATEMENTS.contains(&name);
        // A call of what is not listed is a function of the program or of one version of awk.
        if after.starts_with('(') && !function && !statement {
            return None;
        }
        let before = if function || statement { Before::Unclear } else { Before::Value };
        self.take(after, before);
        Some(())
    }
}

/// What follows the text that has been opened.
fn after_text(text: &str) -> Option<&str> {
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some(letters.as_str()),
            '\n' => return None,
            '\\' => drop(letters.next().filter(|it| *it != '\n')?),
            _ => {}
        }
    }
}

/// What follows the regular expression that has been opened.
///
/// Versions of awk differ in where a list in brackets ends, so only plain lists are read.
fn after_regex(text: &str) -> Option<&str> {
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '/' => return Some(letters.as_str()),
            '\n' => return None,
            '\\' => drop(letters.next().filter(|it| *it != '\n')?),
            '[' => letters = after_list(letters.as_str())?.chars(),
            _ => {}
        }
    }
}

/// What follows the list in brackets that has been opened.
fn after_list(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    if rest.starts_with(']') {
        return None;
    }
    loop {
        if let Some(class) = rest.strip_prefix("[:") {
            let after = class.trim_start_matches(|it: char| it.is_ascii_lowercase());
            rest = after.strip_prefix(":]")?;
            continue;
        }
        let mut letters = rest.chars();
        match letters.next()? {
            ']' => return Some(letters.as_str()),
            '/' | '[' | '\n' => return None,
            '\\' => drop(letters.next().filter(|it| !matches!(it, '[' | ']' | '/' | '\n'))?),
            _ => {}
        }
        rest = letters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_and_printing_is_harmless() {
        for program in [
            "{print $1}",
            "{ print $1, $NF }",
            "NR==1",
            "NR>=10 && NR<=20",
            "/error/ {print}",
            "!/^#/ && NF",
            "$3 > 100 {print $1}",
            "{ sum += $1 } END { print sum, sum / NR }",
            "{ if ($1 > 5) print $2; else print \"no\" }",
            "BEGIN { FS=\":\"; OFS=\"\\t\" } { print $1, $2 }",
            "{ n[$1]++ } END { for (k in n) printf \"%s %d\\n\", k, n[k] }",
            "!seen[$0]++",
            "{ gsub(/a\\/b/, \"c\"); print }",
            "$2 ~ /^[a-z]+$/",
            "length($0) > 80",
            "{ print (a + b) / 2, $1 / 3, n[1] / 4 }",
            "/[[:space:]]+$/",
            "{ if ($1 == \"a\") { x++ } }",
            "/^[^:]+:/ { for (i = 1; i <= NF; i++) print i, $i }",
            "{ print length }",
            "{ print substr($0, 1, 10) }",
            "",
        ] {
            assert!(is_harmless(program), "{program}");
        }
    }

    #[test]
    fn running_writing_reading_and_what_is_not_known_is_refused() {
        for program in [
            "BEGIN{system(\"id\")}",
            "BEGIN{system (\"id\")}",
            "{ print > \"f\" }",
            "{ print >> \"f\" }",
            "{ print $1 > $2 }",
            "{ print | \"sh\" }",
            "BEGIN { \"id\" | getline x; print x }",
            "BEGIN { while ((getline l < \"/etc/passwd\") > 0) print l }",
            "BEGIN { print ENVIRON[\"HOME\"] }",
            "BEGIN { print PROCINFO[\"pid\"] }",
            "@load \"x\"",
            "@include \"x\"",
            "BEGIN { f = \"system\"; @f(\"id\") }",
            "{ print /\"/; system(\"id\") #\"/ }",
            "{ print length / 2; system(\"id\") / 2 }",
            "{ x = 1 / 2; system(\"id\") }",
            "{ if (x) /\"/; system(\"id\") #\" }",
            "{ x++ / 2; system(\"id\") / 3 }",
            "/[]/\"]/ { system(\"id\") } #\"",
            "/[[:alpha:]/\"]/ { system(\"id\") } #\"",
            "/[\\]/\"]/ { system(\"id\") } #\"",
            "# a comment",
            "{ print \"a\n\" }",
            "{ print \"a }",
            "/[/]/",
            "{ close(\"x\") }",
            "function f() { system(\"id\") } { f() }",
            "{ extension(\"x\") }",
            "{ print $1 |& \"sh\" }",
            "{ print `id` }",
            "{ print \\\n }",
            "}{",
            "(",
        ] {
            assert!(!is_harmless(program), "{program}");
        }
    }
}
