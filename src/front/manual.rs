//! `rung man` and `rung completions`: the description of the command line in other people's forms.

use std::io;
use std::process::ExitCode;

use clap_mangen::Man;

use super::FAILED;
use super::cli::{self, Shell};
use super::words::{answer, complain};

pub(super) fn completions(shell: Shell) -> ExitCode {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "rung", &mut text);
    answer(&String::from_utf8_lossy(&text))
}

pub(super) fn man() -> ExitCode {
    match page() {
        Ok(page) => answer(&page),
        Err(error) => complain(&format!("the page cannot be made: {error}"), FAILED),
    }
}

/// One page: the program, then each verb with its options and examples.
fn page() -> io::Result<String> {
    let mut all = cli::command();
    all.build();
    let main = Man::new(all.clone());
    let mut start = Vec::new();
    main.render_title(&mut start)?;
    main.render_name_section(&mut start)?;
    main.render_synopsis_section(&mut start)?;
    main.render_description_section(&mut start)?;
    let mut page = text(&start) + &notes(&all);
    for verb in verbs(&all) {
        page.push_str(&section(verb)?);
        for part in verbs(verb) {
            page.push_str(&section(part)?);
        }
    }
    Ok(PREAMBLE.to_owned() + &page + PLACES)
}

fn verbs(of: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    of.get_subcommands().filter(|it| it.get_name() != "help")
}

/// A verb as a section of its own, its parts one level below.
fn section(verb: &clap::Command) -> io::Result<String> {
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name()).to_uppercase();
    let man = Man::new(verb.clone());
    let mut parts = Vec::new();
    man.render_description_section(&mut parts)?;
    man.render_synopsis_section(&mut parts)?;
    if verb.get_arguments().next().is_some() {
        man.render_options_section(&mut parts)?;
    }
    let parts = text(&parts).replace(".SH DESCRIPTION\n", "").replace(".SH ", ".SS ");
    Ok(format!(".SH \"{name}\"\n{parts}{}", notes(verb)))
}

/// What is said after the options, in the lines it is written in.
fn notes(verb: &clap::Command) -> String {
    let Some(notes) = verb.get_after_help() else { return String::new() };
    let notes = notes.to_string().trim_end().replace('\\', "\\e").replace('-', "\\-");
    // A dot or an apostrophe at the start of a line would be an instruction.
    let lines = notes.lines().map(|it| format!("\\&{it}\n"));
    format!(".PP\n.nf\n{}.fi\n", lines.collect::<String>())
}

/// Every rendered part begins with the definition of the apostrophe, which once is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

fn text(roff: &[u8]) -> String {
    String::from_utf8_lossy(roff).replace(PREAMBLE, "")
}

const PLACES: &str = "\
.SH FILES
.TP
/etc/rung, $XDG_CONFIG_HOME/rung
Profiles (\\fIlevel\\-N.toml\\fR, \\fIpacks/NAME.toml\\fR) of the organisation and of the user, and
\\fIconfig.toml\\fR with \\fIceiling\\fR and \\fIdefault_level\\fR. A lower layer can only tighten.
.TP
$XDG_STATE_HOME/rung
The ledger; of root, /var/lib/rung.
.SH ENVIRONMENT
.TP
RUNG_LOG
What rung itself does, on standard error: \\fIinfo\\fR, \\fIdebug\\fR, or as the filter syntax of the
tracing library says.
";
