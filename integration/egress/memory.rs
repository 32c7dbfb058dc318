//! Where the gateway and what it keeps cannot be found: not as a process of the run, and not in the
//! memory or the files of one.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use super::credential::{SECRET, place, python};
use super::network::{Net, probe};
use super::secure::Secure;
use super::{allow_client, gateway_of};
use crate::harness::{Place, Sibling, has_by_chance};

/// Tries everything by which one process looks into another, and says what worked.
const LOOK: &str = "import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
c.syscall.restype = ctypes.c_long
print('ready', flush=True)
pid = int(sys.stdin.readline())
buffer = ctypes.create_string_buffer(8)
class Io(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
ours, theirs = Io(ctypes.addressof(buffer), 8), Io(int(sys.argv[1], 16), 8)
X86 = os.uname().machine == 'x86_64'
def call(x86, arm, *words):
  words = [ctypes.c_long(it) if isinstance(it, int) else it for it in words]
  return c.syscall(ctypes.c_long(x86 if X86 else arm), *words) >= 0
def opens(name):
  try: return len(os.open(f'/proc/{pid}/{name}', os.O_RDONLY).to_bytes(4, 'big')) == 4
  except OSError: return False
did = []
if call(62, 129, pid, 0): did.append('kill')
if call(434, 434, pid, 0): did.append('pidfd_open')
if call(310, 270, pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0): did.append('process_vm_readv')
did += [it for it in ('environ', 'maps', 'mem', 'cmdline', 'status', 'fd') if opens(it)]
if call(101, 117, 0x4206, pid, 0, 0): did.append('ptrace')
print(*did)
";

/// What `LOOK` does about this process, inside or outside.
fn look(place: &Place, inside: bool, of: impl FnOnce(nix::unistd::Pid) -> i32) -> Option<String> {
    let found = allow_client(place, "/usr/bin/python3");
    if !has_by_chance("/usr/bin/python3", found.is_some()) {
        return None;
    }
    let program = found?;
    let name = program.file_name()?.to_str()?;
    // Any address will do: what is asked is whether it may be read at all.
    let words = format!("v:{name}|-c|{LOOK}|1000");
    let words = ["do", "execve", &format!("s:{}", program.display()), &words, "own:environment"];
    let run = if inside { probe(place, &words) } else { place.outside_probe(&words) };
    let mut run = run.stdin(Stdio::piped()).start();
    let mut to = run.child.stdin.take()?;
    run.wait_for_line("ready");
    let pid = of(run.pid());
    writeln!(to, "{pid}").unwrap();
    drop(to);
    let ended = run.end(place);
    assert_eq!(ended.code(), 0, "{}", ended.err);
    Some(ended.text().trim().to_owned())
}

#[test]
fn nobody_inside_looks_into_the_gateway() {
    let net = Net::new();
    let place = net.place("");
    let sibling = Sibling::new(&place);
    let other = i32::try_from(sibling.0.id()).unwrap();
    let Some(outside) = look(&place, false, |_| other) else { return };
    for act in ["kill", "pidfd_open", "environ", "maps", "mem", "ptrace"] {
        assert!(outside.split(' ').any(|it| it == act), "the control: {act} is not in {outside}");
    }
    let gateway = |supervisor| gateway_of(supervisor).expect("there is a gateway").as_raw();
    assert_eq!(look(&place, true, gateway).unwrap(), "", "the gateway");
    assert_eq!(look(&place, true, |_| other).unwrap(), "", "another process");
}

/// Searches every process that it can read for a text that it has in no place itself.
const SCAN: &str = "
import re
wanted = re.compile(b''.join(b'[' + bytes([it]) + b']' for it in LETTERS))
def scan():
  processes = places = 0
  for pid in [it for it in os.listdir('/proc') if it.isdigit()]:
    try:
      maps = open(f'/proc/{pid}/maps').read().splitlines()
      memory = open(f'/proc/{pid}/mem', 'rb', 0)
    except OSError: continue
    processes += 1
    for line in maps:
      range, mode = line.split()[:2]
      if 'r' not in mode or '[v' in line: continue
      at, end = (int(it, 16) for it in range.split('-'))
      while at < end:
        try:
          memory.seek(at)
          part = memory.read(min(1 << 20, end - at))
        except (OSError, ValueError): break
        if not part: break
        places += len(wanted.findall(part))
        at += len(part) if len(part) < 4096 or at + len(part) == end else len(part) - 64
  files = 0
  for top in ('/run', '/tmp', '/dev/shm', os.path.expanduser('~'), os.getcwd()):
    for directory, _, names in os.walk(top):
      for name in names:
        try: text = open(os.path.join(directory, name), 'rb').read(1 << 20)
        except OSError: continue
        files += 1
        places += len(wanted.findall(text))
  return processes, files, places
";

#[test]
fn the_secret_is_in_no_memory_and_no_file_of_the_run() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test", "i.test"]);
    let letters = SCAN.replace("LETTERS", &format!("{:?}", SECRET.as_bytes()));
    for source in ["file = \"~/token\"", "command = [\"cat\", \"{}\"]", "variable = \"OUTSIDE\""] {
        let place = place(&net, &server, source);
        let level = place.home.join(".config/rung/level-3.toml");
        let text = fs::read_to_string(&level).unwrap();
        let token = place.home.join("token").display().to_string();
        fs::write(&level, text.replace("\"{}\"]", &format!("\"{token}\"]"))).unwrap();
        let ask = "get(Authorization='Bearer ' + token)\n";
        let say = format!("{ask}{letters}print('found', *scan())");
        let Some(ended) = python(&place, &server, "r.test", &say) else { return };
        let ended = ended.exited(0);
        assert!(server.requests().concat().contains(SECRET), "the server has it");
        let found = |text: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix("found "))?;
            let mut numbers = line.split(' ').map(|it| it.parse::<usize>().unwrap());
            Some([numbers.next()?, numbers.next()?, numbers.next()?])
        };
        let [processes, files, places] = found(&ended.text()).unwrap();
        println!("{source}: searched {processes} processes and {files} files");
        assert!(processes > 0 && files > 2, "{}", ended.text());
        assert_eq!(places, 0, "{}", ended.text());
        // The control: the same search finds what is planted in memory, and in a file.
        let plant = "planted = ''.join(map(chr, LETTERS))\n";
        let plant = plant.replace("LETTERS", &format!("{:?}", SECRET.as_bytes()));
        let say = format!("{letters}{plant}print('found', *scan())");
        let ended = python(&place, &server, "r.test", &say).unwrap().exited(0);
        let [_, _, places] = found(&ended.text()).unwrap();
        assert!(places > 0, "what is planted is found: {}", ended.text());
    }
}

/// Init has the memory of the supervisor, which has fetched the secret.
#[test]
fn the_secret_is_wiped_out_where_it_was_fetched() {
    if !has_by_chance("the right to read rung's own memory", nix::unistd::geteuid().is_root()) {
        return;
    }
    let net = Net::new();
    let server = Secure::new(&["r.test"]);
    for source in ["file = \"~/token\"", "command = [\"cat\", \"{}\"]"] {
        let place = place(&net, &server, source);
        let level = place.home.join(".config/rung/level-3.toml");
        let text = fs::read_to_string(&level).unwrap();
        let token = place.home.join("token").display().to_string();
        fs::write(&level, text.replace("\"{}\"]", &format!("\"{token}\"]"))).unwrap();
        let mut run = probe(&place, &["wait"]).start();
        run.wait_for_line("ready");
        let gateway = gateway_of(run.pid()).expect("there is a gateway");
        assert!(count(gateway.as_raw()) > 0, "the control: the gateway keeps it");
        assert_eq!(count(run.pid().as_raw()), 0, "{source}");
        run.signal(nix::sys::signal::Signal::SIGTERM);
        drop(run.end(&place));
    }
}

/// How often the secret is in the memory of a process.
fn count(pid: i32) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|it| !it.contains("[v")) {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r') {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let at = |it: &str| u64::from_str_radix(it, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(at(end) - at(start)).unwrap()];
        // What cannot be read belongs to a device.
        if memory.read_exact_at(&mut bytes, at(start)).is_ok() {
            found += bytes.windows(SECRET.len()).filter(|it| *it == SECRET.as_bytes()).count();
        }
    }
    found
}
