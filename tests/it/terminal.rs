//! The screen filter against what hostile and ordinary programs print.

use proptest::prelude::*;
use rung::launch::{Removal, Removed, Screen};

/// The filter's answer to one whole stream, without the ending.
fn filter(input: &[u8]) -> (Vec<u8>, Removed) {
    let mut screen = Screen::new();
    let mut output = Vec::new();
    screen.feed(input, &mut output);
    (output, screen.removed().clone())
}

/// What is written when the stream ends after `input`.
fn ending(input: &[u8]) -> Vec<u8> {
    let mut screen = Screen::new();
    screen.feed(input, &mut Vec::new());
    let mut output = Vec::new();
    screen.finish(&mut output);
    output
}

#[track_caller]
fn passes(name: &str, input: &[u8]) {
    let (output, removed) = filter(input);
    assert_eq!(removed.total(), 0, "{name}: {removed:?}");
    assert_eq!(output.escape_ascii().to_string(), input.escape_ascii().to_string(), "{name}");
}

/// The attack is gone, what stands around it is there, and it was counted as what it is.
#[track_caller]
fn removes(name: &str, attack: &[u8], kind: Removal) {
    let input = [b"before ", attack, b" after"].concat();
    let (output, removed) = filter(&input);
    assert_eq!(output.escape_ascii().to_string(), "before  after", "{name}");
    assert_eq!(removed.kinds().collect::<Vec<_>>(), [(kind, 1)], "{name}");
}

#[test]
fn what_acts_on_the_terminal_is_removed_and_counted() {
    use Removal::*;
    let attacks: &[(&str, &[u8], Removal)] = &[
        ("clipboard write", b"\x1b]52;c;cm0gLXJmIH4K\x07", Clipboard),
        ("clipboard write, ST", b"\x1b]52;c;cm0gLXJmIH4K\x1b\\", Clipboard),
        ("clipboard read", b"\x1b]52;c;?\x07", Clipboard),
        ("title", b"\x1b]0;root@production\x07", Title),
        ("icon name", b"\x1b]1;x\x1b\\", Title),
        ("title of screen and tmux", b"\x1bktitle\x1b\\", Title),
        ("title report", b"\x1b[21t", Question),
        ("title stack", b"\x1b[22;0;0t", Title),
        ("title modes", b"\x1b[>2t", Title),
        ("colour question", b"\x1b]11;?\x07", Question),
        ("palette question", b"\x1b]4;1;?\x1b\\", Question),
        ("palette", b"\x1b]4;1;#ff0000\x1b\\", Palette),
        ("background", b"\x1b]11;#000000\x07", Palette),
        ("palette of the console", b"\x1b]P0ff0000\x07", Palette),
        ("font", b"\x1b]50;?\x07", Unknown),
        ("directory", b"\x1b]7;file://host/etc\x07", Mark),
        ("prompt mark", b"\x1b]133;A\x07", Mark),
        ("command mark of an editor", b"\x1b]633;E;rm -rf ~\x07", Mark),
        ("notice", b"\x1b]9;approve now\x07", Notice),
        ("notice with title", b"\x1b]777;notify;rung;approve\x07", Notice),
        ("file download", b"\x1b]1337;File=name=eA==:AAAA\x07", Picture),
        ("state question", b"\x1bP$qm\x1b\\", Question),
        ("capability question", b"\x1bP+q544e\x1b\\", Question),
        ("sixel", b"\x1bP0;0;0q\"1;1;1;1#0~\n-\x1b\\", Picture),
        ("user-defined keys", b"\x1bP0;1|17/6c730a\x1b\\", Unknown),
        ("picture of kitty", b"\x1b_Gf=24;AAAA\x1b\\", Picture),
        ("privacy message", b"\x1b^anything\x1b\\", Unknown),
        ("start of string", b"\x1bXanything\x1b\\", Unknown),
        ("other status", b"\x1b[5n", Question),
        ("extended cursor position", b"\x1b[?6n", Question),
        ("secondary attributes", b"\x1b[>c", Question),
        ("tertiary attributes", b"\x1b[=c", Question),
        ("attributes, old spelling", b"\x1bZ", Question),
        ("terminal version", b"\x1b[>q", Question),
        ("mode question", b"\x1b[?2026$p", Question),
        ("keyboard question", b"\x1b[?u", Question),
        ("terminal parameters", b"\x1b[1x", Question),
        ("checksum of the page", b"\x1b[1;1;1;1;24;80*y", Question),
        ("probe of vim", b"\x1bPzz\x1b\\", Question),
        ("other probe of vim", b"\x1b[0%m", Question),
        ("answerback", b"\x05", Question),
        ("window to icon", b"\x1b[2t", Window),
        ("window size", b"\x1b[8;1;1t", Window),
        ("console switch", b"\x1b[12;1]", Window),
        ("8-bit controls", b"\x1b[64;0\"p", Mode),
        ("8-bit answers", b"\x1b G", Mode),
        ("keyboard lock", b"\x1b[2h", Mode),
        ("VT52", b"\x1b[?2l", Mode),
        ("132 columns", b"\x1b[?3h", Mode),
        ("one bad mode among good ones", b"\x1b[?25;3h", Mode),
        ("highlight mouse", b"\x1b[?1001h", Mode),
        ("highlight mouse start", b"\x1b[1;1;1;1;1T", Mode),
        ("left and right margins", b"\x1b[5;10s", Mode),
        ("kitty keyboard", b"\x1b[>31u", Mode),
        ("clear tab stops", b"\x1b[3g", Mode),
        ("keyboard lights", b"\x1b[1q", Mode),
        ("alignment pattern", b"\x1b#8", Mode),
        ("full reset", b"\x1bc", Reset),
        ("self test", b"\x1b[2;1y", Reset),
        ("scrollback", b"\x1b[3J", Scrollback),
        ("out of UTF-8", b"\x1b%@", Charset),
        ("national set", b"\x1b(A", Charset),
        ("locking shift", b"\x1bn", Charset),
        ("printer on", b"\x1b[5i", Printer),
        ("print page", b"\x1b[?1i", Printer),
        ("multiplexer", b"\x1bPtmux;x\x1b\\", Passthrough),
        ("start of pasted text", b"\x1b[200~", Unknown),
        ("end of pasted text", b"\x1b[201~", Unknown),
        ("repeat", b"\x1b[99999b", Oversized),
        ("huge number", b"\x1b[2147483648C", Oversized),
        ("substitute", b"\x1a", Control),
        ("device control", b"\x13", Control),
        ("C1 in UTF-8", b"\xc2\x85", EightBit),
        ("prefix in the wrong place", b"\x1b[1?25h", Malformed),
        ("sub-parameters where none belong", b"\x1b[1:2H", Malformed),
    ];
    for (name, attack, kind) in attacks {
        removes(name, attack, *kind);
    }
}

#[test]
fn a_link_loses_its_target_and_keeps_its_text() {
    let (output, removed) =
        filter(b"see \x1b]8;;https://evil.example/\x1b\\https://good.example/\x1b]8;;\x1b\\.");
    assert_eq!(output, b"see https://good.example/.");
    assert_eq!(removed.kinds().collect::<Vec<_>>(), [(Removal::Link, 2)]);
}

#[test]
fn nothing_hides_in_a_multiplexer_passthrough() {
    let (output, removed) = filter(b"a\x1bPtmux;\x1b\x1b]52;c;cm0K\x07\x1b\\b");
    assert_eq!(output, b"ab");
    let kinds: Vec<Removal> = removed.kinds().map(|it| it.0).collect();
    assert_eq!(kinds, [Removal::Clipboard, Removal::Passthrough, Removal::Malformed]);
}

#[test]
fn raw_8_bit_controls_become_replacement_characters() {
    // CSI, OSC and ST as single bytes: what is left of the sequence is text.
    let (output, removed) = filter(b"\x9b31m\x9d0;title\x9c");
    assert_eq!(output, "\u{FFFD}31m\u{FFFD}0;title\u{FFFD}".as_bytes());
    assert_eq!(removed.kinds().collect::<Vec<_>>(), [(Removal::EightBit, 3)]);
}

#[test]
fn a_letter_cannot_lend_its_byte_to_a_control() {
    // A first byte, something that is removed, then the byte that would make it U+009B.
    let (output, _) = filter(b"\xc2\x1b[5i\x9b5i");
    assert_eq!(output, "\u{FFFD}\u{FFFD}5i".as_bytes());
}

#[test]
fn a_broken_sequence_is_dropped_and_the_rest_is_read_anew() {
    let table: &[(&str, &[u8], &[u8])] = &[
        ("cut by another", b"\x1b[12\x1b[1mx", b"\x1b[1mx"),
        ("cut by a new line", b"\x1b[12\nx", b"\nx"),
        ("cut by a letter beyond ASCII", "\x1b[12\u{e9}".as_bytes(), "\u{e9}".as_bytes()),
        ("ESC twice", b"\x1b\x1b[1m", b"\x1b[1m"),
        ("a string cut by a sequence", b"\x1b]0;title\x1b[1mx", b"\x1b[1mx"),
        ("a string cut by a new line", b"\x1b]0;title\nx", b"\nx"),
        ("a string cut by CAN", b"\x1b]0;title\x18x", b"x"),
    ];
    for (name, input, expected) in table {
        let (output, removed) = filter(input);
        assert_eq!(
            output.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{name}"
        );
        assert_eq!(removed.total(), 1, "{name}: {removed:?}");
    }
}

#[test]
fn an_endless_sequence_is_given_up() {
    let input = [b"\x1b[".as_slice(), &b"1;".repeat(4096), b"m"].concat();
    let (output, removed) = filter(&input);
    assert_eq!(removed.kinds().collect::<Vec<_>>(), [(Removal::Malformed, 1)]);
    assert!(!output.contains(&0x1B));
}

#[test]
fn an_endless_string_does_not_swallow_the_run() {
    let mut screen = Screen::new();
    let mut output = Vec::new();
    screen.feed(b"\x1bP", &mut output);
    let block = vec![b'x'; 1 << 20];
    for _ in 0..5 {
        screen.feed(&block, &mut output);
    }
    assert_eq!(output.len(), 1 << 20);
}

#[test]
fn what_ordinary_programs_print_passes_unchanged() {
    let table: &[(&str, &[u8])] = &[
        ("text", "plain, tabs\tand\r\nlines, \u{e9}\u{4e2d}\u{1f980}, a bell\x07\n".as_bytes()),
        ("progress bar", b"\r[=====>    ] 42%\x1b[K\x08\x08"),
        ("compiler", b"\x1b[0m\x1b[1m\x1b[38;5;9merror[E0308]\x1b[0m\x1b[1m: mismatched\x1b[0m"),
        ("true colour, both spellings", b"\x1b[38;2;255;128;0mx\x1b[48:2::1:2:3my\x1b[4:3mz\x1b[m"),
        ("readline", b"\x1b[?1034h\x1b[?2004h$ ls\x1b[3D\x1b[1@x\x1b[C\x1b[1P\x1b[K\r\n\x1b[?2004l\r"),
        ("zsh", b"\x1b[1m\x1b[7m%\x1b[27m\x1b[1m\x1b[0m  \r \r\r\x1b[0m\x1b[J$ \x1b[K\x1b[?2004h"),
        ("fish asks what it may draw", b"\x1b[c"),
        ("a prompt library asks where it is", b"\x1b[6n"),
        ("clear", b"\x1b[H\x1b[2J"),
        (
            "less",
            b"\x1b[?1049h\x1b[?1h\x1b=\rline 1\x1b[m\r\nline 2\r\n\x1b[7m(END)\x1b[27m\x1b[K\
              \r\x1b[K\x1b[1;1H\x1bMline 0\r\n\x1b[24;1H\r\x1b[K:\x1b[K\r\x1b[K\x1b[?1l\x1b>\x1b[?1049l",
        ),
        (
            "vim",
            b"\x1b[?1049h\x1b[>4;2m\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?12h\x1b[?12l\
              \x1b[27m\x1b[23m\x1b[29m\x1b[m\x1b[H\x1b[2J\x1b[?25l\x1b[24;1H\"notes\" 3L, 12B\
              \x1b[2;1H\xe2\x96\xbd\x1b[6n\x1b[2;1H  \x1b[1;1Hone\r\ntwo\r\n\x1b[94m~\x1b[5;1H~\x1b[m\
              \x1b[24;63H1,1\x1b[11CAll\x1b[1;1H\x1b[?25h\x1b[?25l\x1b[2;24r\x1b[2;1H\x1b[L\x1b[1;24r\
              \x1b[2;1H\x1b[34h\x1b[?25h\x1b[2 q\x1b[0 q\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[>4;m\
              \x1b[?1049l",
        ),
        (
            "htop",
            b"\x1b[?1049h\x1b[1;24r\x1b(B\x1b[m\x1b[4l\x1b[?7h\x1b[?1h\x1b=\x1b[?25l\x1b[39;49m\
              \x1b[?1006;1000h\x1b[H\x1b[2J\x1b[3d  \x1b[36m0\x1b[39m\x1b(B\x1b[0;1m[\x1b[32m|||\
              \x1b[30m\x1b[20X\x1b[20C5.3%\x1b[39m]\x1b(B\x1b[m\x1b[6;5H\x1b[42m  PID\x1b[K\x1b[2S\
              \x1b[1T\x1b[30b\x1b[24;1H\x1b[?12l\x1b[?25h\x1b[?1006;1000l\x1b[?1049l\r\x1b[?1l\x1b>",
        ),
        ("frames", b"\x1b(0lqqk\x1b(B\x1b)0\x0elqk\x0f"),
        ("tmux", b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1005l\x1b[?7727l\x1b[?1004l"),
        ("synchronized update", b"\x1b[?2026h\x1b[H...\x1b[?2026l"),
        ("visible bell", b"\x1b[?5h\x1b[?5l"),
        ("soft reset", b"\x1b[!p\x1b[?7h\x1b7\x1b8\x1bD\x1bE\x1b[s\x1b[u"),
    ];
    for (name, input) in table {
        passes(name, input);
    }
}

#[test]
fn padding_is_dropped_in_silence() {
    let (output, removed) = filter(b"a\0b\x7fc");
    assert_eq!((output.as_slice(), removed.total()), (b"abc".as_slice(), 0));
}

#[test]
fn what_was_left_switched_on_is_switched_off_at_the_end() {
    let table: &[(&str, &[u8], &[u8])] = &[
        ("nothing", b"text\x1b[1m\x1b[0m\x1b[?1049h\x1b[?1049l", b""),
        ("another screen", b"\x1b[?1049h", b"\x1b[?1049l"),
        ("a hidden cursor", b"\x1b[?25l", b"\x1b[?25h"),
        ("no wrapping", b"\x1b[?7l", b"\x1b[?7h"),
        ("mouse and paste", b"\x1b[?1000;1006h\x1b[?2004h", b"\x1b[?1000l\x1b[?1006l\x1b[?2004l"),
        ("margins", b"\x1b[2;5r", b"\x1b7\x1b[r\x1b8"),
        ("margins taken back", b"\x1b[2;5r\x1b[r", b""),
        ("insert mode", b"\x1b[4h", b"\x1b[4l"),
        ("keypad", b"\x1b=", b"\x1b>"),
        ("modified keys", b"\x1b[>4;2m", b"\x1b[>4;0m"),
        ("line drawing", b"\x1b(0\x0e", b"\x0f\x1b(B"),
        ("invisible text", b"\x1b[8m", b"\x1b[0;10m"),
        ("a bar for a cursor", b"\x1b[6 q", b"\x1b[0 q"),
        ("half a character", b"\xe2\x82", "\u{FFFD}".as_bytes()),
        ("half a sequence", b"\x1b[?104", b""),
    ];
    for (name, input, expected) in table {
        let written = ending(input);
        assert_eq!(
            written.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{name}"
        );
    }
}

#[test]
fn the_sentence_names_what_was_removed_and_leaves_out_what_shells_do_daily() {
    let table: &[(&[u8], Option<&str>)] = &[
        (b"text", None),
        (b"\x1b]0;user@host: ~\x07\x1b]133;A\x07\x1b[>c", None),
        (
            b"\x1b]52;c;AA\x07",
            Some("1 terminal control sequence was removed (clipboard access: 1)"),
        ),
        (
            b"\x1b]52;c;AA\x07\x1b]52;c;AA\x07\x1bc\x1b]0;x\x07",
            Some("3 terminal control sequences were removed (clipboard access: 2, reset: 1)"),
        ),
    ];
    for (input, expected) in table {
        assert_eq!(filter(input).1.sentence().as_deref(), *expected);
    }
}

/// Bytes in which sequences, their parts and cut characters are common.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|it| vec![it]),
        "[ -~]{0,4}".prop_map(String::into_bytes),
        "[0-9;:?]{0,6}[@-~]".prop_map(|it| format!("\x1b[{it}").into_bytes()),
        prop::sample::select(vec![
            b"\x1b".to_vec(),
            b"\x1b[".to_vec(),
            b"\x1b]52;".to_vec(),
            b"\x1bP".to_vec(),
            b"\x1b\\".to_vec(),
            b"\x07".to_vec(),
            b"\xc2".to_vec(),
            b"\xc2\x9b".to_vec(),
            b"\xe2\x82\xac".to_vec(),
            b"\xf0\x9f".to_vec(),
            b"\x1b[?1049h".to_vec(),
        ]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn whole(input: &[u8]) -> (Vec<u8>, Removed) {
    let mut screen = Screen::new();
    let mut output = Vec::new();
    screen.feed(input, &mut output);
    screen.finish(&mut output);
    (output, screen.removed().clone())
}

proptest! {
    #[test]
    fn where_the_stream_is_cut_makes_no_difference(
        input in stream(),
        size in 1_usize..9,
    ) {
        let mut screen = Screen::new();
        let mut output = Vec::new();
        for chunk in input.chunks(size) {
            screen.feed(chunk, &mut output);
        }
        screen.finish(&mut output);
        prop_assert_eq!((output, screen.removed().clone()), whole(&input));
    }

    #[test]
    fn what_has_been_filtered_is_clean(input in stream()) {
        let (once, _) = whole(&input);
        let (twice, removed) = whole(&once);
        prop_assert_eq!(removed.total(), 0);
        prop_assert_eq!(&once, &twice);
        let text = String::from_utf8(once).expect("the output is UTF-8");
        let controls = text.chars().filter(|it| ('\u{80}'..='\u{9f}').contains(it)).count();
        prop_assert_eq!(controls, 0);
    }
}
