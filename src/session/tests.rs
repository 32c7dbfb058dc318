//! Sessions without a sandbox: the layer is made by hand, as a run would have left it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use jiff::Timestamp;
use nix::sys::stat::{Mode, SFlag, mknod};

use super::*;
use crate::model::Level;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct Place {
    root: tempfile::TempDir,
    base: PathBuf,
    state: PathBuf,
    sessions: Sessions,
    acts: Acts,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let at = fs::canonicalize(root.path()).unwrap();
    let (base, state) = (at.join("base"), at.join("state"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&state).unwrap();
    let (sessions, acts) = (Sessions::new(&state), Acts::new(&state));
    Place { root, base, state, sessions, acts }
}

impl Place {
    fn put(&self, name: &str, text: &str) {
        let path = self.base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn manifest(&self, name: &str) -> Manifest {
        let level = Level::LocalWrites;
        self.sessions.manifest(name.to_owned(), &self.base, level, NOW, Ok(())).unwrap()
    }

    fn session(&self) -> Session {
        let mut manifest = self.manifest("one");
        // Whoever runs the tests may not have overlays.
        manifest.backend = Backend::Overlay;
        self.sessions.create(manifest).unwrap()
    }

    fn changes(&self, session: &Session) -> Vec<Change> {
        assert!(self.root.path().exists());
        changes(session, &|_| false).unwrap()
    }

    fn lines(&self, session: &Session) -> Vec<String> {
        self.changes(session).iter().map(line).collect()
    }
}

fn upper(session: &Session, name: &str) -> PathBuf {
    let path = session.written().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// Whether this user may make what an overlay makes; in a sandbox of rung's own nobody may.
fn makes_layers() -> bool {
    let place = tempfile::tempdir().unwrap();
    let made = mknod(&place.path().join("gone"), SFlag::S_IFCHR, Mode::empty(), 0);
    if made.is_err() {
        println!("left out: no layer can be made here: {made:?}");
    }
    made.is_ok()
}

/// What an overlay puts where something is gone.
fn whiteout(session: &Session, name: &str) {
    mknod(&upper(session, name), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
}

fn opaque(session: &Session, name: &str) {
    let path = upper(session, &format!("{name}/x")).parent().unwrap().to_owned();
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    crate::sys::xattr::set(&path, c"user.overlay.opaque", b"y").unwrap();
}

/// Kinds, modes and contents of everything below a directory.
fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let contents = match fs::read_link(&path) {
            Ok(target) => format!("-> {target:?}"),
            Err(_) if facts.is_file() => format!("{:?}", fs::read(&path).unwrap()),
            Err(_) => String::new(),
        };
        let inside = path.strip_prefix(directory).unwrap().to_owned();
        // The root is not what changes are about.
        if !inside.as_os_str().is_empty() {
            found.insert(inside, format!("{:o} {contents}", facts.mode()));
        }
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        }
    }
    found
}

#[test]
fn a_name_is_plain_or_refused() {
    let place = place();
    for name in ["", ".", "..", "-x", ".x", "a/b", "a b", "A", "a\n", "\u{e4}", &"a".repeat(65)] {
        let mut manifest = place.manifest("ok");
        name.clone_into(&mut manifest.name);
        let made = place.sessions.create(manifest);
        assert!(matches!(made, Err(SessionError::Name { .. })), "{name:?}");
        assert!(matches!(place.sessions.open(name), Err(SessionError::Name { .. })), "{name:?}");
    }
    place.session();
    let again = place.sessions.create(place.manifest("one"));
    assert!(matches!(again, Err(SessionError::Exists { .. })));
    assert!(matches!(place.sessions.open("two"), Err(SessionError::Missing { .. })));
}

#[test]
fn a_session_that_somebody_touched_is_not_opened() {
    type Touch = fn(&Path);
    let open = |place: &Place| place.sessions.open("one").map(drop);
    let touched: [(&str, Touch); 6] = [
        ("another version", |it| {
            let path = it.join("session.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"schema\":1", "\"schema\":2")).unwrap();
        }),
        ("cut short", |it| fs::write(it.join("session.json"), "{").unwrap()),
        ("a link", |it| {
            fs::rename(it.join("session.json"), it.join("real")).unwrap();
            symlink("real", it.join("session.json")).unwrap();
        }),
        ("gone", |it| fs::remove_file(it.join("session.json")).unwrap()),
        ("open to others", |it| {
            fs::set_permissions(it, Permissions::from_mode(0o755)).unwrap();
        }),
        ("writable by others", |it| {
            fs::set_permissions(it.join("session.json"), Permissions::from_mode(0o622)).unwrap();
        }),
    ];
    for (what, touch) in touched {
        let place = place();
        let session = place.session();
        open(&place).unwrap();
        touch(&session.directory);
        let refused = open(&place);
        assert!(matches!(refused, Err(SessionError::Tampered { .. })), "{what}: {refused:?}");
    }
}

#[test]
fn a_tree_that_is_another_one_is_not_applied_to() {
    let place = place();
    let session = place.session();
    fs::rename(&place.base, place.state.join("moved")).unwrap();
    assert!(matches!(changes(&session, &|_| false), Err(SessionError::Base { .. })));
    fs::create_dir(&place.base).unwrap();
    let refused = changes(&session, &|_| false).unwrap_err().to_string();
    assert!(refused.contains("is another directory"), "{refused}");
}

#[test]
fn a_run_keeps_others_out_of_its_session() {
    let place = place();
    let session = place.session();
    let lock = session.lock(false).unwrap();
    assert!(matches!(session.lock(false), Err(SessionError::Busy { .. })));
    drop(lock);
    session.lock(false).unwrap();
}

/// A layer with one change of each kind.
fn everything(place: &Place) -> Session {
    for (name, text) in [
        ("kept", "kept"),
        ("edited", "before\n"),
        ("gone", "gone\n"),
        ("moved", "moved and not changed\n"),
        ("tool", "#!/bin/sh\n"),
        ("directory/inner", "inner\n"),
        ("replaced-by-file/inner", "inner\n"),
        ("removed/a/b", "b\n"),
        ("removed/c", "c\n"),
        ("opaque/old", "old\n"),
        ("opaque/same", "same\n"),
        ("becomes-directory", "file\n"),
        ("becomes-link", "file\n"),
    ] {
        place.put(name, text);
    }
    let session = place.session();
    fs::write(upper(&session, "edited"), "after\n").unwrap();
    whiteout(&session, "gone");
    whiteout(&session, "moved");
    fs::write(upper(&session, "new/moved"), "moved and not changed\n").unwrap();
    fs::write(upper(&session, "new/deep/file"), "new\n").unwrap();
    fs::write(upper(&session, "tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(upper(&session, "tool"), Permissions::from_mode(0o755)).unwrap();
    fs::write(upper(&session, "replaced-by-file"), "file\n").unwrap();
    whiteout(&session, "removed");
    opaque(&session, "opaque");
    fs::write(upper(&session, "opaque/same"), "same\n").unwrap();
    fs::write(upper(&session, "opaque/new"), "new in opaque\n").unwrap();
    fs::write(upper(&session, "becomes-directory/inner"), "in a directory\n").unwrap();
    symlink("kept", upper(&session, "becomes-link")).unwrap();
    symlink("/etc/passwd", upper(&session, "leaves")).unwrap();
    // Passed through, and not changed.
    fs::write(upper(&session, "directory/inner"), "inner\n").unwrap();
    session
}

const EVERYTHING: [&str; 18] = [
    "T becomes-directory/",
    "A becomes-directory/inner",
    "T becomes-link -> kept",
    "M edited",
    "D gone  [deletion]",
    "A leaves -> /etc/passwd  [leaves]",
    "A new/",
    "A new/deep/",
    "A new/deep/file",
    "R moved -> new/moved",
    "A opaque/new",
    "D opaque/old  [deletion]",
    "D removed/  [deletion]",
    "D removed/a/  [deletion]",
    "D removed/a/b  [deletion]",
    "D removed/c  [deletion]",
    "T replaced-by-file",
    "D replaced-by-file/inner  [deletion]",
];

#[test]
fn a_layer_says_what_changed_and_nothing_else() {
    if !makes_layers() {
        return;
    }
    let place = place();
    let session = everything(&place);
    let mut lines = place.lines(&session);
    let mode = lines.iter().position(|it| it.starts_with("m tool")).expect("no change of mode");
    assert_eq!(lines.remove(mode), "m tool (644 to 755)  [executable]");
    assert_eq!(lines, EVERYTHING);
}

#[test]
fn what_the_host_changed_as_well_is_marked() {
    if !makes_layers() {
        return;
    }
    let place = place();
    for name in ["edited", "deleted", "untouched"] {
        place.put(name, "before\n");
    }
    let session = place.session();
    fs::write(upper(&session, "edited"), "by the session\n").unwrap();
    fs::write(upper(&session, "untouched"), "by the session\n").unwrap();
    fs::write(upper(&session, "made"), "by the session\n").unwrap();
    whiteout(&session, "deleted");
    assert!(place.changes(&session).iter().all(|it| !it.both));
    // The clock of the file system has to go on first.
    let stamp = place.state.join("stamp");
    loop {
        fs::write(&stamp, "").unwrap();
        let facts = fs::metadata(&stamp).unwrap();
        if (facts.ctime(), facts.ctime_nsec())
            > (session.manifest.since.seconds, session.manifest.since.nanoseconds)
        {
            break;
        }
    }
    for name in ["edited", "deleted", "made"] {
        place.put(name, "by the host\n");
    }
    let both: Vec<_> = place.changes(&session).into_iter().filter(|it| it.both).collect();
    let names: Vec<_> = both.iter().map(|it| it.path.to_str().unwrap()).collect();
    assert_eq!(names, ["deleted", "edited", "made"]);
}

/// Applies everything and checks that the tree is what a run saw.
#[test]
fn what_is_applied_is_what_was_seen_and_its_rollback_what_was_before() {
    if !makes_layers() {
        return;
    }
    let place = place();
    let session = everything(&place);
    let before = tree(&place.base);
    let all = place.changes(&session);
    let lock = session.lock(false).unwrap();
    let act = place.acts.apply(&session, &lock, &all, "A1", NOW).unwrap();
    let after = tree(&place.base);
    assert_eq!(fs::read(place.base.join("edited")).unwrap(), b"after\n");
    assert!(!place.base.join("gone").exists() && !place.base.join("removed").exists());
    assert_eq!(fs::read(place.base.join("new/moved")).unwrap(), b"moved and not changed\n");
    assert!(place.base.join("replaced-by-file").is_file());
    assert!(place.base.join("becomes-directory/inner").is_file());
    assert_eq!(fs::metadata(place.base.join("tool")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(place.lines(&session), Vec::<String>::new(), "something is left of the session");
    place.acts.rollback(&act.id, "B1", NOW).unwrap();
    assert_eq!(tree(&place.base), before);
    place.acts.rollback("B1", "C1", NOW).unwrap();
    assert_eq!(tree(&place.base), after);
}

#[test]
fn a_rollback_over_a_change_of_the_host_is_refused_and_names_it() {
    if !makes_layers() {
        return;
    }
    let place = place();
    let session = everything(&place);
    let lock = session.lock(false).unwrap();
    place.acts.apply(&session, &lock, &place.changes(&session), "A1", NOW).unwrap();
    place.put("edited", "by the host\n");
    let after = tree(&place.base);
    let refused = place.acts.rollback("A1", "B1", NOW).unwrap_err();
    let SessionError::Changed { paths } = &refused else { panic!("{refused}") };
    assert_eq!(paths, &[place.base.join("edited")]);
    assert_eq!(tree(&place.base), after);
    assert!(refused.to_string().contains("edited"), "{refused}");
}

#[test]
fn no_link_leads_an_apply_out_of_the_tree() {
    let place = place();
    place.put("d/file", "before\n");
    let outside = place.state.join("outside");
    fs::create_dir(&outside).unwrap();
    let session = place.session();
    fs::write(upper(&session, "d/file"), "after\n").unwrap();
    fs::write(upper(&session, "d/new"), "new\n").unwrap();
    let all = place.changes(&session);
    // What a program of the user, or a run in another session, may do meanwhile.
    fs::rename(place.base.join("d"), place.base.join("moved")).unwrap();
    symlink(&outside, place.base.join("d")).unwrap();
    let lock = session.lock(false).unwrap();
    let refused = place.acts.apply(&session, &lock, &all, "A1", NOW);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(tree(&outside), BTreeMap::new());
    assert_eq!(fs::read(place.base.join("moved/file")).unwrap(), b"before\n");
}

/// The work ends before its change number `at`, as if the machine had stopped.
fn until(at: usize) -> impl FnMut() -> io::Result<()> {
    let mut count = 0;
    move || {
        count += 1;
        if count > at { Err(io::Error::other("killed")) } else { Ok(()) }
    }
}

/// Kills an apply before each of its changes on disk, and the recovery before each of its own:
/// in the end the tree is as before or as after, whole, and nothing else is in it.
#[test]
fn an_apply_that_was_killed_anywhere_is_finished_by_the_next_start() {
    if !makes_layers() {
        return;
    }
    let (mut steps, mut forward, mut lost) = (0, 0, 0);
    loop {
        let place = place();
        let session = everything(&place);
        let before = tree(&place.base);
        let all = place.changes(&session);
        let killed = place.acts.apply_until(&session, &all, "A1", NOW, &mut until(steps));
        if killed.is_ok() {
            break;
        }
        for again in [steps % 7, usize::MAX] {
            let recovered = place.acts.recover_until(&mut until(again));
            assert!(again < usize::MAX || recovered.is_ok(), "{recovered:?}");
        }
        let after = tree(&place.base);
        if after != before {
            forward += 1;
            // The whole of it.
            if !place.lines(&session).is_empty() || !after.contains_key(Path::new("new/moved")) {
                lost += 1;
            }
            place.acts.rollback("A1", "B1", NOW).unwrap();
            assert_eq!(tree(&place.base), before, "killed before change {steps}");
        }
        steps += 1;
    }
    assert!(steps > 40 && forward > 20, "{steps} steps, {forward} of them carried on");
    assert_eq!(lost, 0, "trees that are neither");
    println!("killed before each of {steps} changes; {forward} carried on, the rest not begun");
}

#[test]
fn a_rollback_that_was_killed_anywhere_is_finished_by_the_next_start() {
    if !makes_layers() {
        return;
    }
    let mut steps = 0;
    loop {
        let place = place();
        let session = everything(&place);
        let before = tree(&place.base);
        let lock = session.lock(false).unwrap();
        place.acts.apply(&session, &lock, &place.changes(&session), "A1", NOW).unwrap();
        let after = tree(&place.base);
        let killed = place.acts.rollback_until("A1", "B1", NOW, &mut until(steps));
        if killed.is_ok() {
            break;
        }
        place.acts.recover().unwrap();
        let found = tree(&place.base);
        assert!(found == before || found == after, "killed before change {steps}: {found:#?}");
        steps += 1;
    }
    assert!(steps > 40, "{steps}");
    println!("killed before each of {steps} changes");
}

#[test]
fn a_failure_in_the_middle_takes_everything_back() {
    if !makes_layers() {
        return;
    }
    let place = place();
    place.put("a", "a\n");
    place.put("locked/file", "b\n");
    let session = place.session();
    fs::write(upper(&session, "a"), "changed\n").unwrap();
    fs::write(upper(&session, "locked/file"), "changed\n").unwrap();
    let all = place.changes(&session);
    let before = tree(&place.base);
    let lock = session.lock(false).unwrap();
    // The object of the second file goes missing when the first one is in place.
    let objects = place.state.join("acts/A1/objects");
    let base = place.base.clone();
    let mut sabotage = || {
        if fs::read(base.join("a")).is_ok_and(|it| it == b"changed\n") {
            let spoil = |entry: fs::DirEntry| {
                if fs::read(entry.path()).is_ok_and(|it| it == b"changed\n") {
                    fs::remove_file(entry.path()).unwrap();
                }
            };
            for entry in fs::read_dir(&objects).unwrap() {
                spoil(entry.unwrap());
            }
        }
        Ok(())
    };
    let failed = place.acts.apply_until(&session, &all, "A1", NOW, &mut sabotage);
    assert!(failed.is_err());
    assert_eq!(tree(&place.base), before);
    assert_eq!(place.acts.recover().unwrap(), []);
    // What was taken back is no change of the host's.
    let all = place.changes(&session);
    assert_eq!(all.iter().filter(|it| it.both).count(), 0);
    place.acts.apply(&session, &lock, &all, "A2", NOW).unwrap();
    assert_eq!(fs::read(place.base.join("a")).unwrap(), b"changed\n");
}

/// An apply that fails is no reason to take what the host has done for rung's own.
#[test]
fn what_the_host_had_done_before_an_apply_failed_stays_and_counts() {
    let place = place();
    for name in ["a", "m", "n"] {
        place.put(name, "before\n");
    }
    let session = place.session();
    for name in ["a", "m", "n", "x"] {
        fs::write(upper(&session, name), "after\n").unwrap();
    }
    fs::write(upper(&session, "z"), "last\n").unwrap();
    fs::write(place.base.join("m"), "by the host\n").unwrap();
    let all = place.changes(&session);
    let both = |all: &[Change]| {
        let both: Vec<_> = all.iter().filter(|it| it.both).map(|it| it.path.clone()).collect();
        both
    };
    assert_eq!(both(&all), [Path::new("m")]);
    // What `--overwrite` asks for: all of them, and the last one fails.
    let act = place.state.join("acts/A1");
    let objects = act.join("objects");
    let mut sabotage = || {
        if act.join("act.json").exists() {
            // The host comes to the same, and to something else.
            if !place.base.join("x").exists() {
                fs::write(place.base.join("x"), "after\n").unwrap();
                fs::set_permissions(
                    place.base.join("x"),
                    fs::metadata(upper(&session, "x")).unwrap().permissions(),
                )
                .unwrap();
                fs::write(place.base.join("n"), "by the host too\n").unwrap();
            }
            for entry in fs::read_dir(&objects).unwrap().map(Result::unwrap) {
                if fs::read(entry.path()).is_ok_and(|it| it == b"last\n") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        Ok(())
    };
    place.acts.apply_until(&session, &all, "A1", NOW, &mut sabotage).unwrap_err();
    let read = |name: &str| fs::read_to_string(place.base.join(name)).unwrap();
    assert_eq!([read("a"), read("m")], ["before\n", "by the host\n"]);
    assert_eq!([read("n"), read("x")], ["by the host too\n", "after\n"]);
    assert!(!place.base.join("z").exists());
    let both = both(&place.changes(&session));
    assert_eq!(both, [Path::new("m"), Path::new("n")]);
}

/// The host writes to a file before each of the changes of an apply: whatever becomes of the apply,
/// that is what the file says.
#[test]
fn what_the_host_writes_while_an_apply_goes_on_is_not_lost() {
    if !makes_layers() {
        return;
    }
    let (mut at, mut refused) = (0, 0);
    loop {
        let place = place();
        let session = everything(&place);
        let all = place.changes(&session);
        let names = ["edited", "gone", "new/moved", "removed/a/b"];
        let name = names.get(at % names.len()).unwrap();
        let file = place.base.join(name);
        let mut count = 0;
        let mut written = false;
        let mut write = || {
            count += 1;
            // Nobody writes to a file of a directory that is not there.
            if count > at && !written && file.parent().unwrap().exists() {
                written = true;
                fs::write(&file, "by the host\n").unwrap();
            }
            Ok(())
        };
        let result = place.acts.apply_until(&session, &all, "A1", NOW, &mut write);
        if count <= at {
            result.unwrap();
            break;
        }
        refused += usize::from(result.is_err());
        if written {
            let found = fs::read(&file);
            assert!(found.is_ok_and(|it| it == b"by the host\n"), "{name} at {at}: {result:?}");
        }
        let staged = |it: &fs::DirEntry| it.file_name().to_str().unwrap().starts_with("staged");
        let act = fs::read_dir(place.state.join("acts/A1")).into_iter().flatten();
        assert_eq!(act.flatten().filter(staged).count(), 0, "at {at}");
        at += 1;
    }
    assert!(at > 40 && refused > 20, "{at}, {refused} of them refused");
    println!("the host wrote before each of {at} changes; {refused} applies were taken back");
}

/// An apply that is killed when it has written down what it is about to do.
fn begun(place: &Place, session: &Session) {
    let all = place.changes(session);
    for at in 0.. {
        let killed = place.acts.apply_until(session, &all, "A1", NOW, &mut until(at));
        assert!(killed.is_err(), "the act was never begun and not finished");
        if place.state.join("acts/A1/act.json").exists() {
            return;
        }
        place.acts.recover().unwrap();
    }
}

#[test]
fn an_act_that_cannot_be_finished_is_named_with_the_way_to_give_it_up() {
    let place = place();
    let session = place.session();
    fs::write(upper(&session, "new"), "new\n").unwrap();
    begun(&place, &session);
    let act = place.state.join("acts/A1");
    fs::remove_dir_all(act.join("objects")).unwrap();
    let error = place.acts.recover().unwrap_err();
    assert!(error.to_string().contains(&format!("removing `{}`", act.display())), "{error}");
    fs::remove_dir_all(act).unwrap();
    assert_eq!(place.acts.recover().unwrap(), []);
}

/// Otherwise no session could be changed any more.
#[test]
fn a_directory_that_the_host_took_away_does_not_hold_up_the_next_start() {
    let place = place();
    place.put("d/old", "before\n");
    let session = place.session();
    fs::write(upper(&session, "d/new"), "new\n").unwrap();
    fs::write(upper(&session, "other"), "other\n").unwrap();
    begun(&place, &session);
    fs::remove_dir_all(place.base.join("d")).unwrap();
    let [recovered] = place.acts.recover().unwrap().try_into().unwrap();
    assert_eq!(recovered.left, [Path::new("d/new")]);
    assert_eq!(fs::read(place.base.join("other")).unwrap(), b"other\n");
    assert_eq!(place.acts.recover().unwrap(), []);
}

/// A directory of the tree is something else while an act is taken back: what is behind it is not
/// believed to be gone, and the next start goes on.
#[test]
fn what_cannot_be_reached_is_not_taken_for_done() {
    if !makes_layers() {
        return;
    }
    let place = place();
    place.put("d/first", "before\n");
    place.put("d/second", "before\n");
    let session = place.session();
    fs::write(upper(&session, "d/new"), "new\n").unwrap();
    whiteout(&session, "d/first");
    whiteout(&session, "d/second");
    let all = place.changes(&session);
    let before = tree(&place.base);
    let directory = place.base.join("d");
    let aside = place.state.join("aside");
    let mut swap = || {
        if directory.join("new").exists() && !aside.exists() {
            fs::rename(&directory, &aside).unwrap();
            symlink("/usr", &directory).unwrap();
        }
        Ok(())
    };
    let result = place.acts.apply_until(&session, &all, "A1", NOW, &mut swap);
    let Err(SessionError::HalfBack { paths, .. }) = &result else { panic!("{result:?}") };
    // The other one was not touched.
    assert_eq!(paths, &["d/new", "d/second"].map(|it| place.base.join(it)));
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    let [recovered] = place.acts.recover().unwrap().try_into().unwrap();
    assert!(recovered.back && recovered.left.is_empty(), "{recovered:?}");
    assert_eq!(tree(&place.base), before);
    // The same for a deletion on the way there.
    fs::rename(&directory, &aside).unwrap();
    symlink("/usr", &directory).unwrap();
    let result = place.acts.apply_until(&session, &all, "A2", NOW, &mut || Ok(()));
    assert!(matches!(&result, Err(SessionError::Changed { .. })), "{result:?}");
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    assert_eq!(tree(&place.base), before);
}

#[test]
fn names_and_contents_of_every_sort_come_through() {
    use std::ffi::OsStr;
    let place = place();
    let session = place.session();
    let names: [&[u8]; 7] = [b"-rf", b"a\nb", b"\x1b[2J", b"\xff\xfe", b" ", b"a\\b", &[b'n'; 255]];
    for name in names {
        fs::write(session.written().join(OsStr::from_bytes(name)), name).unwrap();
    }
    for text in place.lines(&session) {
        assert!(!text.contains(['\u{1b}', '\n']), "{text:?}");
    }
    let all = place.changes(&session);
    assert_eq!(all.len(), names.len());
    let lock = session.lock(false).unwrap();
    place.acts.apply(&session, &lock, &all, "A1", NOW).unwrap();
    for name in names {
        assert_eq!(fs::read(place.base.join(OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[test]
fn a_mode_that_shuts_out_its_own_user_hides_nothing() {
    if !makes_layers() {
        return;
    }
    let place = place();
    let session = place.session();
    fs::write(upper(&session, "shut/file"), "text\n").unwrap();
    fs::set_permissions(upper(&session, "shut/file"), Permissions::from_mode(0o000)).unwrap();
    let shut = session.written().join("shut");
    fs::set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let all = place.changes(&session);
    assert_eq!(all.iter().map(line).collect::<Vec<_>>(), ["A shut/", "A shut/file"]);
    let lock = session.lock(false).unwrap();
    place.acts.apply(&session, &lock, &all, "A1", NOW).unwrap();
    assert_eq!(fs::metadata(place.base.join("shut")).unwrap().mode() & 0o777, 0);
    fs::set_permissions(place.base.join("shut"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::metadata(place.base.join("shut/file")).unwrap().mode() & 0o777, 0);
    place.sessions.remove("one", &lock).unwrap();
    assert!(place.sessions.names().unwrap().is_empty());
}

#[test]
fn a_deep_tree_is_removed_and_too_deep_a_one_not_read() {
    let place = place();
    let session = place.session();
    let mut at = fs::File::open(session.written()).unwrap();
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, Mode::empty()).unwrap().into();
    }
    let refused = changes(&session, &|_| false);
    assert!(matches!(refused, Err(SessionError::TooMuch { .. })), "{refused:?}");
    let lock = session.lock(false).unwrap();
    place.sessions.remove("one", &lock).unwrap();
    assert!(!session.directory.exists());
    assert_eq!(fs::read_dir(place.state.join("sessions")).unwrap().count(), 0);
}

#[test]
fn what_was_copied_and_not_touched_is_no_change() {
    let place = place();
    for name in ["kept", "edited", "gone", "d/inner"] {
        place.put(name, "before\n");
    }
    let mut manifest = place.manifest("copy");
    manifest.backend = Backend::Copy;
    let session = place.sessions.create(manifest).unwrap();
    assert_eq!(place.lines(&session), Vec::<String>::new());
    // The clock of the file system has to go on first.
    let copied = session.manifest.copied.unwrap();
    loop {
        fs::write(session.written().join("edited"), "after\n").unwrap();
        let facts = fs::metadata(session.written().join("edited")).unwrap();
        if (facts.ctime(), facts.ctime_nsec()) > (copied.seconds, copied.nanoseconds) {
            break;
        }
    }
    fs::remove_file(session.written().join("gone")).unwrap();
    fs::write(session.written().join("d/new"), "new\n").unwrap();
    place.put("by-the-host", "not the session's\n");
    assert_eq!(place.lines(&session), ["A d/new", "M edited", "D gone  [deletion]"]);
    let before = tree(&place.base);
    let lock = session.lock(false).unwrap();
    place.acts.apply(&session, &lock, &place.changes(&session), "A1", NOW).unwrap();
    assert!(!place.base.join("gone").exists() && place.base.join("by-the-host").exists());
    assert_eq!(place.lines(&session), Vec::<String>::new());
    place.acts.rollback("A1", "B1", NOW).unwrap();
    assert_eq!(tree(&place.base), before);
}

#[test]
fn a_run_is_shown_the_layer_before_the_tree() {
    if !makes_layers() {
        return;
    }
    let place = place();
    place.put("below", "x");
    place.put("gone/inner", "x");
    place.put("hidden/inner", "x");
    let session = place.session();
    fs::write(upper(&session, "made"), "x").unwrap();
    symlink("made", upper(&session, "link")).unwrap();
    whiteout(&session, "gone");
    opaque(&session, "hidden");
    let sight = session.sight().unwrap();
    let look = |name: &str| sight.look(&place.base.join(name)).unwrap();
    assert_eq!(look("below"), Seen::Through);
    assert_eq!(look("gone"), Seen::Gone);
    assert_eq!(look("gone/inner"), Seen::Gone);
    assert_eq!(look("hidden/inner"), Seen::Gone);
    assert!(matches!(look("made"), Seen::This(..)));
    let (object, _) = sight.object(&place.base.join("link")).unwrap().unwrap();
    assert_eq!(object.canonical, place.base.join("made"));
}
