//! What a path names inside the sandbox, and what the kernel will load for it.
//!
//! The supervisor looks as the task would: from the root of the view, where absolute links and `..`
//! stay. What depends on who looks (`/proc/self`) is looked up as the task's. Where that cannot be
//! told, the answer is [`Resolved::Unclear`], and what was loaded decides.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::task::{self, PATH_BYTES_MAX, Words, as_path};
use crate::model::{Image, ProgramFact, ProgramLocation, is_plain};
use crate::plan::ExecPlan;
use crate::sys::descriptor::{self, Identity};
use crate::sys::xattr;

/// As many interpreters as the kernel follows (fs/exec.c).
const INTERPRETERS_MAX: usize = 5;
/// What the kernel reads of a script's first line (`BINPRM_BUF_SIZE`), less the NUL byte it wants.
const LINE_BYTES_MAX: usize = 255;
/// Of a program's file, enough for its table of segments and for the name of its interpreter.
const HEAD_BYTES: usize = 4096;

/// The view, seen from its root.
pub(super) struct View<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) plan: &'a ExecPlan,
}

/// What a path leads to.
pub(super) enum Resolved {
    /// Exec fails like this, without anybody's decision.
    Fails(Errno),
    /// Only the kernel can tell.
    Unclear,
    Unreadable(PathBuf),
    Program(Box<Program>),
}

/// What will be loaded, if nothing changes meanwhile.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) image: Image,
    /// Of the image.
    pub(super) identity: Identity,
    /// The script that was asked for, where the image is its interpreter.
    pub(super) script: Option<ProgramFact>,
    /// Which words the image gets instead of the first one, where it is an interpreter.
    pub(super) prefix: Option<Words>,
    /// The dynamic loader that the image names.
    pub(super) loader: Option<Vec<u8>>,
}

/// One file on the way.
struct File {
    fact: ProgramFact,
    identity: Identity,
    kind: Kind,
}

enum Kind {
    Script(Line),
    /// With the path of its dynamic loader, where it has one.
    Other {
        loader: Option<Vec<u8>>,
    },
}

/// The first line of a script.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    interpreter: Vec<u8>,
    option: Option<Vec<u8>>,
}

impl View<'_> {
    /// Follows a path to the image that the kernel would load for it.
    pub(super) fn program(&self, task: i32, spelled: &[u8], cwd: &Path) -> Resolved {
        let mut name = spelled.to_vec();
        let mut script: Option<ProgramFact> = None;
        let mut prefix: Option<Words> = None;
        for _ in 0..=INTERPRETERS_MAX {
            let file = match self.file(task, &name, cwd) {
                Ok(file) => file,
                Err(resolved) => return resolved,
            };
            match file.kind {
                Kind::Script(line) => {
                    script = Some(less_trusted(script, file.fact));
                    let mut words = Words::default();
                    words.push(&line.interpreter);
                    if let Some(option) = &line.option {
                        words.push(option);
                    }
                    words.push(&name);
                    if let Some(prefix) = &prefix {
                        words.bytes.extend_from_slice(prefix.rest());
                    }
                    prefix = Some(words);
                    name = line.interpreter;
                }
                Kind::Other { loader } => {
                    let (identity, image) = (file.identity, Image::File(file.fact));
                    let program = Program { image, identity, script, prefix, loader };
                    return Resolved::Program(Box::new(program));
                }
            }
        }
        Resolved::Fails(Errno::ELOOP)
    }

    /// The object that a path names, for one whose identity is all that matters.
    pub(super) fn identity(&self, path: &[u8]) -> Result<Identity, Errno> {
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        let object = descriptor::open_inside(self.root, &path, libc::O_PATH)?;
        descriptor::identity(object.as_raw_fd(), c"")
    }

    fn file(&self, task: i32, name: &[u8], cwd: &Path) -> Result<File, Resolved> {
        if name.is_empty() {
            return Err(Resolved::Fails(Errno::ENOENT));
        }
        let (spelled, opened) = self.open(task, name, cwd)?;
        let failed = Resolved::Fails;
        let identity = descriptor::identity(opened.as_raw_fd(), c"").map_err(failed)?;
        if identity.mode & libc::S_IFMT != libc::S_IFREG || identity.mode & 0o111 == 0 {
            return Err(Resolved::Fails(Errno::EACCES));
        }
        let canonical = path_of(&opened).map_err(failed)?;
        if identity.links == 0 {
            return Err(Resolved::Program(Box::new(Program {
                image: Image::Nameless { shown: canonical.display().to_string() },
                identity,
                script: None,
                prefix: None,
                loader: None,
            })));
        }
        let kind = kind(opened.as_fd()).map_err(failed)?;
        let path = match spelled {
            Some(spelled) if spelled != canonical => self.found_at(&spelled).unwrap_or(spelled),
            Some(_) | None => canonical.clone(),
        };
        let raises = xattr::open_gives_capabilities(opened.as_fd());
        let fact = self.fact(path, canonical, identity, raises);
        Ok(File { fact, identity, kind })
    }

    /// Opens what the task's path names, and says how it is spelled from the root where that means
    /// anything.
    fn open(
        &self,
        task: i32,
        name: &[u8],
        cwd: &Path,
    ) -> Result<(Option<PathBuf>, OwnedFd), Resolved> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let whole = cwd.join(as_path(name));
        let whole = match own_files(&whole) {
            Own::Elsewhere => whole,
            Own::Inside(rest) => rest,
            Own::Cwd(rest) => cwd.join(rest),
            Own::File(file) => {
                let path = task::file(task, &file).map_err(Resolved::Fails)?;
                let opened = descriptor::open_at(descriptor::HERE, &path, flags, 0);
                return Ok((None, opened.map_err(|errno| refused(errno, &whole))?));
            }
            Own::Unclear => return Err(Resolved::Unclear),
        };
        let path = match c_path(&whole) {
            // Longer from the root than from where the task is.
            Err(Resolved::Fails(Errno::ENAMETOOLONG)) => return Err(Resolved::Unclear),
            path => path?,
        };
        match descriptor::open_inside(self.root, &path, flags) {
            Ok(opened) => Ok((Some(whole), opened)),
            // Links that only the kernel can follow.
            Err(Errno::EXDEV | Errno::ELOOP) => Err(Resolved::Unclear),
            Err(Errno::ENOENT) if self.is_link(&whole) => Err(Resolved::Unclear),
            Err(errno) => Err(refused(errno, &whole)),
        }
    }

    /// Whether the last name is a link, which may lead to what only the task can see.
    fn is_link(&self, path: &Path) -> bool {
        let Ok(path) = c_path(path) else { return false };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let found = descriptor::open_inside(self.root, &path, flags)
            .and_then(|it| descriptor::identity(it.as_raw_fd(), c""));
        found.is_ok_and(|it| it.mode & libc::S_IFMT == libc::S_IFLNK)
    }

    /// The path with the links before its last name followed: that name decides the rule.
    fn found_at(&self, spelled: &Path) -> Option<PathBuf> {
        let (directory, name) = (spelled.parent()?, spelled.file_name()?);
        let path = c_path(directory).ok()?;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let opened = descriptor::open_inside(self.root, &path, flags).ok()?;
        Some(path_of(&opened).ok()?.join(name))
    }

    /// Whether the run can neither change what the path leads to, nor where it leads.
    pub(super) fn is_out_of_reach(&self, spelled: &[u8], program: &Program) -> bool {
        let kept = |path: &Path| {
            let place = self.plan.location(path);
            matches!(place, ProgramLocation::System | ProgramLocation::Toolchain)
        };
        let is_kept = |it: &ProgramFact| match it {
            ProgramFact::Found { path, canonical, .. } => kept(path) && kept(canonical),
            ProgramFact::Missing { .. } => false,
        };
        let Image::File(image) = &program.image else { return false };
        let path = as_path(spelled);
        is_plain(&path)
            && self.plan.location(&path) != ProgramLocation::Workspace
            && is_kept(image)
            && program.script.as_ref().is_none_or(is_kept)
    }

    /// An object as the rules see it. Whose capabilities cannot be told may have some.
    pub(super) fn fact(
        &self,
        path: PathBuf,
        canonical: PathBuf,
        identity: Identity,
        raises: Result<bool, Errno>,
    ) -> ProgramFact {
        let location = self.plan.location(&path).max(self.plan.location(&canonical));
        ProgramFact::Found {
            location,
            device: identity.device,
            inode: identity.inode,
            setid: identity.mode & 0o6000 != 0 || raises.unwrap_or(true),
            executable: identity.mode & 0o111 != 0,
            path,
            canonical,
        }
    }
}

/// Of two scripts on the way to one image the one that is less trusted stands for both.
fn less_trusted(known: Option<ProgramFact>, other: ProgramFact) -> ProgramFact {
    let place = |it: &ProgramFact| match it {
        ProgramFact::Found { location, .. } => Some(*location),
        ProgramFact::Missing { .. } => None,
    };
    match known {
        Some(known) if place(&known) >= place(&other) => known,
        Some(_) | None => other,
    }
}

/// The kernel's own refusal, but that what may be run and not read is something to know of.
fn refused(errno: Errno, path: &Path) -> Resolved {
    match errno {
        Errno::EACCES => Resolved::Unreadable(path.to_owned()),
        // Of this process, and no reason to say that there is no such program.
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENXIO => {
            Resolved::Fails(Errno::EACCES)
        }
        errno => Resolved::Fails(errno),
    }
}

/// A path that means something else to everybody who looks.
enum Own {
    Elsewhere,
    /// Below the task's root, which is the view's.
    Inside(PathBuf),
    Cwd(PathBuf),
    /// A file of the task's in `/proc`.
    File(String),
    Unclear,
}

fn own_files(path: &Path) -> Own {
    let text = path.as_os_str().as_bytes();
    if let Some(number) = text.strip_prefix(b"/dev/fd/") {
        return descriptor_file(number);
    }
    let own = [&b"/proc/self/"[..], b"/proc/thread-self/"];
    let Some(rest) = own.iter().find_map(|it| text.strip_prefix(*it)) else {
        return Own::Elsewhere;
    };
    let below = |name: &[u8]| match rest.strip_prefix(name)? {
        [] => Some(PathBuf::new()),
        [b'/', rest @ ..] => Some(as_path(rest.trim_ascii_start())),
        _ => None,
    };
    if rest == b"exe" {
        return Own::File("exe".to_owned());
    }
    if let Some(number) = rest.strip_prefix(b"fd/") {
        return descriptor_file(number);
    }
    if let Some(rest) = below(b"root") {
        return Own::Inside(Path::new("/").join(rest));
    }
    below(b"cwd").map_or(Own::Unclear, Own::Cwd)
}

fn descriptor_file(number: &[u8]) -> Own {
    match std::str::from_utf8(number).ok().and_then(|it| it.parse::<u32>().ok()) {
        Some(number) => Own::File(format!("fd/{number}")),
        None => Own::Unclear,
    }
}

fn c_path(path: &Path) -> Result<CString, Resolved> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= PATH_BYTES_MAX {
        return Err(Resolved::Fails(Errno::ENAMETOOLONG));
    }
    CString::new(bytes).map_err(|_| Resolved::Fails(Errno::EINVAL))
}

/// Where an open object lies, as a path of the view.
fn path_of(opened: &OwnedFd) -> Result<PathBuf, Errno> {
    let own = CString::new(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let mut buffer = [0; PATH_BYTES_MAX];
    let own = own.map_err(|_| Errno::EINVAL)?;
    Ok(as_path(descriptor::read_link(descriptor::HERE, &own, &mut buffer)?))
}

fn kind(opened: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let mut head = [0; HEAD_BYTES];
    let count = descriptor::read(opened, &mut head)?;
    let head = head.get(..count).unwrap_or_default();
    Ok(match script_line(head) {
        Some(line) => Kind::Script(line),
        None => Kind::Other { loader: loader(head) },
    })
}

/// The first line of a script, read as `fs/binfmt_script.c` does. What it would refuse is no script
/// here either, and then the kernel refuses it.
fn script_line(head: &[u8]) -> Option<Line> {
    let line = head.strip_prefix(b"#!")?;
    let blank = |it: &u8| matches!(it, b' ' | b'\t');
    let line = line.get(..LINE_BYTES_MAX - 2).unwrap_or(line);
    let whole = line.iter().position(|it| *it == b'\n');
    let line = line.get(..whole.unwrap_or(line.len()))?;
    let start = line.iter().position(|it| !blank(it))?;
    let end = line.iter().rposition(|it| !blank(it))? + 1;
    let line = line.get(start..end)?;
    let name_end = line.iter().position(|it| blank(it) || *it == 0).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at_checked(name_end)?;
    let option = match rest {
        [b' ' | b'\t', rest @ ..] => {
            let start = rest.iter().position(|it| !blank(it));
            let option = start.and_then(|it| rest.get(it..)).unwrap_or_default();
            option.split(|it| *it == 0).next().filter(|it| !it.is_empty())
        }
        _ => None,
    };
    let line = Line { interpreter: interpreter.to_vec(), option: option.map(<[u8]>::to_vec) };
    (!interpreter.is_empty()).then_some(line)
}

/// The dynamic loader that a 64-bit ELF file names, if its head says so (elf(5)).
fn loader(head: &[u8]) -> Option<Vec<u8>> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(bytes)?)?;
        bytes.iter().rev().try_fold(0_usize, |value, byte| {
            value.checked_mul(256)?.checked_add(usize::from(*byte))
        })
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut segments = (0..count).filter_map(|it| table.checked_add(it.checked_mul(size)?));
    let segment = segments.find(|it| number(*it, 4) == Some(INTERPRETER as usize))?;
    let (offset, length) =
        (number(segment.checked_add(8)?, 8)?, number(segment.checked_add(32)?, 8)?);
    let path = head.get(offset..offset.checked_add(length)?)?;
    path.split(|it| *it == 0).next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], expected: Option<(&str, Option<&str>)>) {
        let line = expected.map(|(interpreter, option)| Line {
            interpreter: interpreter.into(),
            option: option.map(Into::into),
        });
        assert_eq!(script_line(head), line, "{:?}", String::from_utf8_lossy(head));
    }

    #[test]
    fn a_first_line_is_read_as_the_kernel_reads_it() {
        check(b"#!/bin/sh\nexit", Some(("/bin/sh", None)));
        check(b"#! \t/bin/sh -e  \nexit", Some(("/bin/sh", Some("-e"))));
        check(b"#!/usr/bin/env -S a b\n", Some(("/usr/bin/env", Some("-S a b"))));
        check(b"#!/bin/sh", Some(("/bin/sh", None)));
        check(b"#!sh x", Some(("sh", Some("x"))));
        check(b"#!\n", None);
        check(b"#!   \n", None);
        check(b"\x7fELF", None);
        check(b"", None);
        let long = [b"#!/".as_slice(), &[b'x'; 300], b"\n"].concat();
        // The kernel refuses a name that may be cut off; here it names nothing that exists.
        assert_eq!(script_line(&long).unwrap().interpreter.len(), LINE_BYTES_MAX - 2);
    }

    #[test]
    fn a_program_names_its_loader() {
        let head = |path: &str| {
            let mut head = [0; HEAD_BYTES];
            let file = std::fs::File::open(path).unwrap();
            let count = std::io::Read::read(&mut &file, &mut head).unwrap();
            head[..count].to_vec()
        };
        let found = loader(&head("/bin/sh")).map(|it| String::from_utf8(it).unwrap());
        assert!(found.as_deref().is_some_and(|it| it.contains("ld")), "{found:?}");
        assert_eq!(loader(b"\x7fELF\x02\x01"), None);
        assert_eq!(loader(&[0xff; 128]), None);
    }

    #[test]
    fn what_means_something_else_to_everybody_is_the_tasks_own() {
        let of = |path: &str| own_files(Path::new(path));
        assert!(matches!(of("/usr/bin/ls"), Own::Elsewhere));
        assert!(matches!(of("/proc/self/exe"), Own::File(it) if it == "exe"));
        assert!(matches!(of("/proc/thread-self/fd/7"), Own::File(it) if it == "fd/7"));
        assert!(matches!(of("/dev/fd/3"), Own::File(it) if it == "fd/3"));
        assert!(
            matches!(of("/proc/self/root/usr/bin/ls"), Own::Inside(it) if it == Path::new("/usr/bin/ls"))
        );
        assert!(matches!(of("/proc/self/cwd/x"), Own::Cwd(it) if it == Path::new("x")));
        assert!(matches!(of("/proc/self/fd/../exe"), Own::Unclear));
        assert!(matches!(of("/proc/self/task/1/exe"), Own::Unclear));
        assert!(matches!(of("/proc/1/exe"), Own::Elsewhere));
    }
}
