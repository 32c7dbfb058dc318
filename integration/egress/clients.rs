//! The usual clients by their usual names, under the rules as they are shipped.

use std::path::Path;

use super::network::{BODY, Net};
use super::{denied, fs};
use crate::harness::{Place, has_by_chance};

/// What levels 1 to 3 refuse as long as no destination is listed.
#[test]
fn curl_and_wget_may_fetch_at_level_3_once_a_destination_is_listed() {
    for (program, options) in [("curl", vec!["-sSf"]), ("wget", vec!["-q", "-O", "got"])] {
        let path = format!("/usr/bin/{program}");
        if !has_by_chance(program, Path::new(&path).exists()) {
            continue;
        }
        let net = Net::new();
        let place = net.place("");
        let url = format!("http://a.test:{}/", net.port);
        let words = |url: &str| [vec![program], options.clone(), vec![url]].concat().join(" ");
        let run = |place: &Place, words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            place.rung(3).words(&words).end()
        };
        let ended = run(&place, &words(&url)).exited(0);
        let got = fs::read_to_string(place.workspace.join("got")).unwrap_or_default();
        assert!(ended.text().contains(BODY) || got == BODY, "{program}: {}", ended.err);
        assert_eq!(net.connections(), 1, "{program}");
        // The rule is about the program; where it leads is the list's to say.
        let ended = run(&place, &words("http://b.test/"));
        assert_ne!(ended.code(), 0);
        denied(&ended, "b.test", "no destination");
        let sends = if program == "curl" { "curl -d x" } else { "wget --post-data=x" };
        let ended = run(&place, &format!("{sends} {url}"));
        assert_eq!(ended.code(), 126, "{program}: {}", ended.err);
        let offline = Place::new();
        let ended = run(&offline, &words(&url));
        assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "transfer.offline"));
        assert_eq!(net.connections(), 0);
    }
}
