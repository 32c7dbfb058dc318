//! Where a secret goes and where not, without a connection.

use hyper::Request;

use super::*;
use crate::model::{HostName, Origin};

const PLACEHOLDER: &str = "rung-credential-0123456789";
const SECRET: &str = "s3cr3t-t0ken";

fn plan() -> CredentialPlan {
    CredentialPlan {
        name: "telemetry".to_owned(),
        host: HostName::parse(b"a.test").unwrap(),
        methods: vec!["GET".to_owned()],
        header: "authorization".to_owned(),
        format: "Bearer {}".to_owned(),
        login: "rung".to_owned(),
        variable: Some("TOKEN".to_owned()),
        decoys: Vec::new(),
        source: crate::plan::egress::Source::Variable("TOKEN".to_owned()),
        because: Origin::built_in("the test"),
    }
}

fn lent() -> Lent {
    Lent { placeholder: PLACEHOLDER.to_owned(), secret: SECRET.as_bytes().to_vec() }
}

fn ask(host: &str, tls: bool, text: &str) -> Result<Vec<String>, String> {
    let wanted = Wanted::Name(HostName::parse(host.as_bytes()).unwrap());
    let target = Target { wanted, port: 443, tls };
    let mut lines = text.lines();
    let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let mut head = request.body(()).unwrap().into_parts().0;
    let leases = Leases::new(vec![lent()]);
    let result = leases.give(&[plan()], &target, &mut head);
    let counts = leases.seen(&[plan()]);
    match result {
        Ok(()) => Ok(head
            .headers
            .iter()
            .map(|it| format!("{}: {}", it.0, it.1.to_str().unwrap()))
            .chain((counts[0].used > 0).then(|| "used".to_owned()))
            .collect()),
        Err(Refused::Credential { how, .. }) => {
            assert_eq!((counts[0].used, counts[0].refused), (0, 1));
            Err(how)
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn with(header: &str) -> String {
    format!("GET /\n{}", header.replace("{}", PLACEHOLDER))
}

#[test]
fn the_secret_takes_the_placeholders_place() {
    let bearer = ask("a.test", true, &with("authorization: Bearer {}"));
    assert_eq!(bearer.unwrap(), [&*format!("authorization: Bearer {SECRET}"), "used"]);
    let word =
        |secret: &str| String::from_utf8(base64(format!("rung:{secret}").as_bytes())).unwrap();
    let netrc = ask("a.test", true, &format!("GET /\nauthorization: basic {}", word(PLACEHOLDER)));
    assert_eq!(netrc.unwrap(), [&*format!("authorization: Basic {}", word(SECRET)), "used"]);
    let none = ask("a.test", true, "GET /\nauthorization: Bearer mine");
    assert_eq!(none.unwrap(), ["authorization: Bearer mine"], "nobody asked for it");
}

#[test]
fn a_placeholder_anywhere_else_is_refused() {
    let bearer = with("authorization: Bearer {}");
    let inside = String::from_utf8(base64(format!("x:{PLACEHOLDER}").as_bytes())).unwrap();
    for (host, tls, text, says) in [
        ("b.test", true, bearer.clone(), "lent to `a.test` alone"),
        ("a.test", false, bearer.clone(), "over TLS only"),
        ("a.test", true, bearer.replace("GET", "POST"), "lent for GET alone"),
        ("a.test", true, with("x-other: {}"), "into the header `authorization`"),
        ("a.test", true, with("authorization: token {}"), "in the form `Bearer {}`"),
        ("a.test", true, with("authorization: Bearer {}x"), "in the form"),
        ("a.test", true, with("authorization: Bearer {}\nx-other: {}"), "nowhere else"),
        ("a.test", true, with("authorization: Bearer {}\nauthorization: x"), "nowhere else"),
        ("a.test", true, format!("GET /\nauthorization: Basic {inside}"), "nowhere else"),
        ("b.test", true, format!("GET /\nauthorization: Basic {inside}"), "lent to"),
        ("b.test", true, format!("GET /?x={PLACEHOLDER}"), "lent to"),
        ("a.test", true, format!("GET /{}", PLACEHOLDER.replace('-', "%2d")), "nowhere else"),
    ] {
        let how = ask(host, tls, &text).unwrap_err();
        assert!(how.contains(says), "{text}: {how}");
    }
}

#[test]
fn an_echo_is_covered_wherever_it_is_cut() {
    let text = format!("before {SECRET} and {SECRET}{SECRET} s3cr3t-t0ke after s3c");
    let expected = text.replace(SECRET, &"*".repeat(SECRET.len()));
    for size in 1..text.len() {
        let mut cover = Cover::new(vec![SECRET.as_bytes().to_vec(), b"other".to_vec()]);
        let mut passed = Vec::new();
        for part in text.as_bytes().chunks(size) {
            passed.extend(cover.pass(part));
        }
        passed.extend(cover.rest());
        assert_eq!(String::from_utf8(passed).unwrap(), expected, "in parts of {size}");
    }
}

#[test]
fn only_what_may_be_a_secret_waits() {
    let mut cover = Cover::new(vec![SECRET.as_bytes().to_vec()]);
    assert_eq!(cover.pass(b"data: 1\n\n"), b"data: 1\n\n");
    assert_eq!(cover.pass(b"data: s3c"), b"data: ");
    assert_eq!(cover.pass(b"ond"), b"s3cond");
}

#[test]
fn both_forms_are_covered_in_headers() {
    let leases = Leases::new(vec![lent()]);
    let wanted = Wanted::Name(HostName::parse(b"a.test").unwrap());
    let cover = Cover::new(leases.covered(&[plan()], &wanted));
    let mut headers = HeaderMap::new();
    let basic = base64(format!("rung:{SECRET}").as_bytes());
    headers.insert("a", HeaderValue::from_str(SECRET).unwrap());
    headers.insert("b", HeaderValue::from_bytes(&basic).unwrap());
    cover.headers(&mut headers);
    assert!(headers.values().all(|it| it.as_bytes().iter().all(|it| *it == COVER)));
    let other = Wanted::Name(HostName::parse(b"b.test").unwrap());
    assert!(leases.covered(&[plan()], &other).is_empty());
    assert!(!format!("{leases:?}").contains(SECRET));
}

#[test]
fn base64_is_read_back() {
    for length in 0..20_u8 {
        let bytes: Vec<u8> = (0..length).map(|it| it.wrapping_mul(37)).collect();
        assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
    }
    assert_eq!(from_base64(b"a b"), None);
}
