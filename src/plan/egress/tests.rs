//! Decisions about names, ports and addresses, from plans alone.

use super::*;

fn destination(host: &str, ports: &[u16], addresses: &[&str]) -> DestinationPlan {
    asked_with(host, ports, addresses, &[])
}

fn asked_with(host: &str, ports: &[u16], addresses: &[&str], methods: &[&str]) -> DestinationPlan {
    let destination = Destination {
        host: host.to_owned(),
        ports: ports.iter().filter_map(|it| Ports::new(*it, *it)).collect(),
        addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
        methods: methods.iter().map(|it| (*it).to_owned()).collect(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: Origin::built_in("the test names it"),
    };
    one(&destination, Level::TestExecution).unwrap()
}

fn name(text: &str) -> Wanted {
    Wanted::Name(HostName::parse(text.as_bytes()).unwrap())
}

fn address(text: &str) -> Wanted {
    Wanted::Address(text.parse().unwrap())
}

fn usual() -> EgressPlan {
    EgressPlan::to(vec![
        destination("packages.example.org", &[443], &[]),
        destination("*.example.org", &[443, 80], &[]),
        destination("db.internal", &[5432], &["10.1.0.0/16"]),
        destination("10.2.0.0/16", &[8080], &[]),
    ])
}

#[track_caller]
fn check(wanted: &Wanted, port: u16, expected: &Result<&[usize], Refused>) {
    let found = usual().decide(wanted, port);
    assert_eq!(found.as_ref().map(Allowed::indexes), expected.as_ref().map(|it| *it));
}

#[test]
fn what_a_profile_would_let_through_is_what_its_plan_does() {
    let level = Level::TestExecution;
    let mut profile = crate::plan::fixture::profile(level);
    let would =
        |profile: &Profile, wanted: &str, port| would(profile, wanted, port).map(|it| it.len());
    assert_eq!(would(&profile, "a.example.org", 443), Err(Refused::NoWayOut));
    let listed = |host: &str, port| Destination {
        host: host.to_owned(),
        ports: Ports::new(port, port).into_iter().collect(),
        addresses: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: Origin::built_in("the test names it"),
    };
    profile.network.destinations =
        vec![listed("*.example.org", 443), listed("a.example.org", 443), listed("10.2.0.0/16", 22)];
    assert_eq!(would(&profile, "a.example.org", 443), Ok(2));
    assert_eq!(would(&profile, "a.example.org", 80), Err(Refused::Port));
    assert_eq!(would(&profile, "example.org", 443), Err(Refused::Unlisted));
    assert_eq!(would(&profile, "10.2.3.4", 22), Ok(1));
    assert_eq!(would(&profile, "::ffff:10.2.3.4", 22), Ok(1));
    assert_eq!(would(&profile, "10.3.3.4", 22), Err(Refused::Unlisted));
    assert!(matches!(would(&profile, "a\0.example.org", 443), Err(Refused::NoName(_))));
}

#[test]
fn a_range_of_ports_allows_each_of_them_and_is_within_a_wider_one() {
    let of = |ports: &str| DestinationPlan {
        ports: vec![Ports::parse(ports).unwrap()],
        ..destination("a.example.org", &[443], &[])
    };
    let plan = EgressPlan::to(vec![of("8000-8999")]);
    for (port, allowed) in [(7999, false), (8000, true), (8999, true), (9000, false)] {
        assert_eq!(plan.decide(&name("a.example.org"), port).is_ok(), allowed, "{port}");
    }
    assert!(plan.has_ranges() && plan.ports() == [Pool::PROXY_PORT]);
    assert!(of("8080").is_within(&of("8000-8999")));
    assert!(!of("8080-9000").is_within(&of("8000-8999")));
}

#[test]
fn what_is_foreseen_is_closed_only_where_nothing_could_be_allowed() {
    let plan = usual();
    let sees = |address: &str, port| foresee(Some(&plan), address.parse().unwrap(), port);
    for own in ["127.0.0.1", "::1", "0.0.0.0", "198.18.0.2"] {
        assert_eq!(sees(own, 22), Foreseen::Own, "{own}");
    }
    assert_eq!(sees("9.9.9.9", 53), Foreseen::Open, "the resolver is everywhere");
    assert_eq!(sees("198.18.0.1", Pool::PROXY_PORT), Foreseen::Open);
    assert_eq!(sees("198.18.0.1", 443), Foreseen::Closed(Refused::Unlisted));
    assert_eq!(sees("198.18.1.7", 5432), Foreseen::Open, "some name has the port");
    assert_eq!(sees("198.18.1.7", 22), Foreseen::Closed(Refused::Port));
    assert_eq!(sees("10.2.3.4", 8080), Foreseen::Open);
    assert_eq!(sees("10.2.3.4", 80), Foreseen::Closed(Refused::Port));
    assert_eq!(sees("192.0.2.1", 443), Foreseen::Closed(Refused::Unlisted));
    let none = foresee(None, "192.0.2.1".parse().unwrap(), 443);
    assert_eq!(none, Foreseen::Closed(Refused::NoWayOut));
    assert_eq!(foresee(None, "127.0.0.1".parse().unwrap(), 443), Foreseen::Own);
}

#[test]
fn a_name_is_reached_at_the_ports_of_every_destination_that_means_it() {
    check(&name("packages.example.org"), 443, &Ok(&[0, 1]));
    check(&name("packages.example.org"), 80, &Ok(&[1]));
    check(&name("other.example.org"), 443, &Ok(&[1]));
    check(&name("packages.example.org"), 22, &Err(Refused::Port));
    check(&name("example.org"), 443, &Err(Refused::Unlisted));
    check(&name("packages.example.org.evil.test"), 443, &Err(Refused::Unlisted));
}

#[test]
fn a_bare_address_is_reached_only_where_a_destination_names_its_range() {
    check(&address("10.2.3.4"), 8080, &Ok(&[3]));
    check(&address("10.2.3.4"), 80, &Err(Refused::Port));
    check(&address("10.1.3.4"), 5432, &Err(Refused::Unlisted));
    check(&address("8.8.8.8"), 443, &Err(Refused::Unlisted));
    check(&address("::ffff:10.2.3.4"), 8080, &Err(Refused::Unlisted));
    check(&address("169.254.169.254"), 80, &Err(Refused::Unlisted));
}

#[test]
fn no_destination_means_that_nothing_is_reached() {
    let empty = EgressPlan::to(Vec::new());
    assert_eq!(empty.decide(&name("example.org"), 443), Err(Refused::Unlisted));
    assert_eq!(empty.decide(&address("8.8.8.8"), 443), Err(Refused::Unlisted));
}

#[test]
fn a_name_leads_to_public_addresses_and_to_the_ranges_that_are_named_for_it() {
    let plan = usual();
    let open = plan.decide(&name("a.example.org"), 443).unwrap();
    let inside = plan.decide(&name("db.internal"), 5432).unwrap();
    let at = |allowed: &Allowed, text: &str| plan.check_address(allowed, text.parse().unwrap());
    assert_eq!(at(&open, "93.184.216.34"), Ok(()));
    assert_eq!(at(&inside, "10.1.2.3"), Ok(()));
    for text in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1"] {
        let refused = at(&open, text).unwrap_err();
        assert!(matches!(refused, Refused::Address { .. }), "{text}: {refused:?}");
    }
    assert!(at(&inside, "10.2.0.1").is_err(), "a range opens itself only");
}

#[test]
fn every_name_has_an_address_of_its_own_in_both_families() {
    let pool = Pool::USUAL;
    let (v4, v6) = pool.of_name(7);
    assert_eq!((v4.to_string(), v6.to_string()), ("198.18.1.7".into(), "fd00:5a::107".into()));
    assert_eq!(pool.name_at(v4.into()), Some(7));
    assert_eq!(pool.name_at(v6.into()), Some(7));
    for none in ["198.18.0.1", "198.18.0.255", "198.17.255.255", "198.18.17.0", "fd00:5a::1"] {
        assert_eq!(pool.name_at(none.parse().unwrap()), None, "{none}");
    }
    assert!(pool.is_gateway("198.18.0.1".parse().unwrap()));
    assert!(!pool.is_gateway("198.18.0.2".parse().unwrap()));
}

#[test]
fn a_destination_is_within_another_when_it_allows_no_more() {
    let wide = destination("*.example.org", &[80, 443], &["10.0.0.0/8"]);
    let narrow = destination("a.example.org", &[443], &["10.1.0.0/16"]);
    assert!(narrow.is_within(&wide));
    assert!(!wide.is_within(&narrow));
    let reading = DestinationPlan { methods: vec!["GET".to_owned()], ..wide.clone() };
    assert!(reading.is_within(&wide) && !wide.is_within(&reading));
    let slow = DestinationPlan { rate: Some(Bytes(1)), ..wide.clone() };
    assert!(slow.is_within(&wide) && !wide.is_within(&slow));
}

#[test]
fn a_refusal_says_which_line_would_allow_it() {
    let plan = usual();
    let level = Level::TestExecution;
    let denial = plan.denial(level, "evil.test", Some(443), &Refused::Unlisted);
    assert_eq!(denial.object, "evil.test:443");
    assert!(denial.allow_with.unwrap().contains("host = \"evil.test\""));
    let denial = plan.denial(level, "packages.example.org", Some(22), &Refused::Port);
    assert!(denial.origin.is_some(), "the line that lists the host");
}

/// Each of them limits, as with everything else that several destinations say.
#[test]
fn a_request_is_allowed_by_every_destination_that_has_methods() {
    let plan = EgressPlan::to(vec![
        destination("*.example.org", &[443], &[]),
        asked_with("a.example.org", &[443], &[], &["GET", "POST"]),
        asked_with("*.example.org", &[80, 443], &[], &["GET", "HEAD"]),
    ]);
    let at = |host: &str| plan.decide(&name(host), 443).unwrap();
    let one = at("a.example.org");
    assert!(plan.inspects(&one));
    assert_eq!(plan.decide_method(&one, "GET"), Ok(()));
    for method in ["POST", "HEAD", "get", "DELETE", "GET "] {
        let refused = plan.decide_method(&one, method).unwrap_err();
        let level = Level::TestExecution;
        let denial = plan.denial_of_request(level, method, "a.example.org", 443, &refused);
        assert_eq!(denial.rule, "network.destination.methods");
        assert_eq!(denial.object, format!("{method} a.example.org:443"));
        assert!(denial.origin.is_some());
    }
    assert_eq!(plan.decide_method(&at("b.example.org"), "HEAD"), Ok(()));
    let unread = usual().decide(&name("other.example.org"), 443).unwrap();
    assert!(!usual().inspects(&unread));
    assert_eq!(usual().decide_method(&unread, "ANYTHING"), Ok(()));
}

#[test]
fn a_host_that_joins_no_namespaces_is_a_gap_where_there_is_a_way_out() {
    use crate::model::{Cause, Probe};
    use crate::plan::fixture;
    use crate::profile::OnGap;
    let mut profile = fixture::profile(Level::TestExecution);
    let mut whole = fixture::host();
    fixture::add(&mut whole, "/etc/resolv.conf", crate::model::PathKind::File);
    let mut host = whole.clone();
    let failed = Probe::Fails { cause: Cause::NoVeth, detail: "joining: EOPNOTSUPP".to_owned() };
    host.probes.insert(Mechanism::Router, failed);
    let plan_of = |profile: &Profile, host: &HostFacts| {
        fixture::plan_of(&fixture::request(profile.level), profile, host)
    };
    assert!(plan_of(&profile, &host).is_ok_and(|it| it.gaps.is_empty()), "nothing depends on it");
    profile.network.destinations = vec![Destination {
        host: "a.example.org".to_owned(),
        ports: Ports::new(443, 443).into_iter().collect(),
        addresses: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: Origin::built_in("the test names it"),
    }];
    let gaps = match plan_of(&profile, &host) {
        Err(PlanError::Gaps { gaps, .. }) => gaps,
        other => panic!("{other:?}"),
    };
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert!(gap.fix.contains("modprobe veth") && gap.fix.contains("no destination"), "{gap}");
    profile.on_gap = OnGap::Allow;
    let plan = plan_of(&profile, &host).unwrap();
    assert_eq!(plan.gaps.as_slice(), std::slice::from_ref(gap));
    assert_eq!(plan.network.egress.unwrap().router, Router::Within);
    let whole = plan_of(&profile, &whole).unwrap();
    assert_eq!((whole.gaps.len(), whole.network.egress.unwrap().router), (0, Router::Beside));
}

#[test]
fn a_list_of_paths_is_decided_by_their_one_spelling() {
    let listing = |paths: &[&str]| DestinationPlan {
        paths: paths.iter().map(|it| UrlPathPattern::parse(it).unwrap()).collect(),
        ..destination("a.example.org", &[443], &[])
    };
    let plan = EgressPlan::to(vec![listing(&["/v1/metrics", "/api/*"]), listing(&["/*"])]);
    let to = plan.decide(&name("a.example.org"), 443).unwrap();
    assert!(plan.inspects(&to) && plan.reads());
    let decided = |path: &str| plan.decide_path(&to, path).map(|it| it.unwrap().to_string());
    assert_eq!(decided("/v1//metrics").as_deref(), Ok("/v1/metrics"));
    assert_eq!(decided("/api/x/../y").as_deref(), Ok("/api/y"));
    assert!(matches!(decided("/api/../admin"), Err(Refused::Path { .. })));
    assert!(matches!(decided("/v1/metrics/x"), Err(Refused::Path { .. })));
    assert_eq!(decided("/api/..%2fadmin"), Err(Refused::OddPath(UrlPathError::Slash)));
    let open = usual();
    let to = open.decide(&name("packages.example.org"), 443).unwrap();
    assert_eq!(open.decide_path(&to, "/a%2fb"), Ok(None), "not looked at");
    let anything = destination("a.example.org", &[443], &[]);
    assert!(listing(&["/api/x"]).is_within(&listing(&["/api/*"])));
    assert!(listing(&["/api/x"]).is_within(&anything));
    assert!(!listing(&["/api/*"]).is_within(&listing(&["/api/x"])));
    assert!(!anything.is_within(&listing(&["/*"])));
    let reading = asked_with("a.example.org", &[443], &[], &["GET"]);
    assert!(!listing(&["/x"]).is_within(&reading), "with any method");
    assert_eq!(
        listing(&["/x", "/y/*"]).to_string(),
        "a.example.org at port 443, only HTTP requests for /x and /y/*"
    );
}
