//! A listed host that has something for every client: a page, a repository, and a package for each
//! of the package managers; and the clients that are made here.

use std::sync::PoisonError;

use super::fs;
use super::network::{BODY, Files, Net, Says, V4};
use super::secure::Secure;
use crate::harness::{Place, put};

/// It is `a.test` in the clear, carried unread, and `s.test` over TLS, read by the gateway.
pub(super) struct Shop {
    pub(super) net: Net,
    pub(super) server: Secure,
    pub(super) place: Place,
}

impl Shop {
    /// With what a client needs beside the shipped profile.
    pub(super) fn new(more: &str) -> Self {
        let net = Net::new();
        let server = Secure::new(&["s.test"]);
        net.name("s.test", Says::Addresses(vec![V4]));
        let place = net.place(&format!(
            "[[network.destination]]\nhost = \"s.test\"\nports = [{}]\nmethods = [\"GET\", \"HEAD\"]\n\
             address = [\"127.0.0.0/8\"]\nbecause = \"the test's own server, over TLS\"\n{more}",
            server.port
        ));
        server.trusted_by(&place);
        let shop = Self { net, server, place };
        shop.fill();
        shop
    }

    /// Requests since the last time.
    pub(super) fn asked(&self) -> usize {
        self.net.requests().len() + self.server.requests().len()
    }

    fn fill(&self) {
        let files = make::files(&self.place, &format!("http://a.test:{}", self.net.port));
        let fill =
            |of: &Files| of.lock().unwrap_or_else(PoisonError::into_inner).extend(files.clone());
        fill(self.net.files());
        fill(&self.server.files);
        let work = |name: &str, text: &str| put(&self.place.workspace.join(name), text);
        work("fetch.mjs", make::NODE);
        work("fetch.py", make::PYTHON);
        work("Main.java", make::JAVA);
        work(".npmrc", "fetch-retries=0\naudit=false\nfund=false\nprogress=false\n");
        work("package.json", "{\"name\": \"own\", \"version\": \"1.0.0\"}\n");
        let port = self.net.port;
        let rustc = make::tool("rustc").map(|it| format!("[build]\nrustc = \"{it}\"\n"));
        let mut config = format!("[net]\nretry = 0\n{}", rustc.unwrap_or_default());
        for (name, host) in [
            ("listed", format!("a.test:{port}")),
            ("other", format!("b.test:{port}")),
            ("closed", "a.test:4".to_owned()),
        ] {
            config += &["[registries.", name, "]\nindex = \"sparse+http://", &host, "/index/\"\n"]
                .concat();
            let manifest = format!(
                "[package]\nname = \"own\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[workspace]\n\
                 [dependencies]\nthing = {{ version = \"1.0.0\", registry = \"{name}\" }}\n"
            );
            work(&format!("{name}/Cargo.toml"), &manifest);
            work(&format!("{name}/src/lib.rs"), "");
        }
        work(".cargo/config.toml", &config);
    }
}

/// What is made before a sandbox starts, by programs of the host.
pub(super) mod make {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{BODY, Place, fs, put};

    pub(super) const NODE: &str = "import dns from 'node:dns';\n\
        dns.setDefaultResultOrder(`ipv${process.argv[3]}first`);\n\
        console.log(await (await fetch(process.argv[2])).text());\n";
    pub(super) const PYTHON: &str = "import socket, sys, urllib.request\n\
        family = socket.AF_INET if sys.argv[2] == '4' else socket.AF_INET6\n\
        ask = socket.getaddrinfo\n\
        socket.getaddrinfo = lambda host, port, _=0, *rest: ask(host, port, family, *rest)\n\
        print(urllib.request.urlopen(sys.argv[1]).read().decode())\n";
    pub(super) const JAVA: &str = r#"
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Main {
    public static void main(String[] words) throws Exception {
        boolean old = words[1].equals("4");
        System.setProperty(old ? "java.net.preferIPv4Stack" : "java.net.preferIPv6Addresses", "true");
        URI to = URI.create(words[0]);
        System.out.println(new String(to.toURL().openStream().readAllBytes()));
        HttpRequest request = HttpRequest.newBuilder(to).build();
        HttpResponse.BodyHandler<String> text = HttpResponse.BodyHandlers.ofString();
        System.out.println(HttpClient.newHttpClient().send(request, text).body());
    }
}
"#;
    /// No pack knows it.
    pub(in crate::egress) const JAVA_RULE: &str = r#"
[[exec.program]]
name  = "java"
class = "interpreter"
style = "clap"

[[exec.rule]]
id        = "test.java"
program   = "java"
decision  = "allow"
power     = "exec"
because   = "runs a program of the workspace"
arguments = [{ operands = "path-workspace", min = 1, max = 1 }, { rest = "any" }]
match     = ["java Main.java x"]
not_match = ["java -jar x.jar"]
"#;
    const GO: &str = r#"
package main

import (
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	rest := strings.TrimPrefix(os.Args[1], "http://")
	host, path, _ := strings.Cut(rest, "/")
	to, err := net.Dial("tcp"+os.Args[2], host)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	io.WriteString(to, "GET /"+path+" HTTP/1.0\r\nHost: "+host+"\r\n\r\n")
	io.Copy(os.Stdout, to)
}
"#;
    const C: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    char host[256], port[16], path[256], text[1024];
    struct addrinfo hints = {0}, *found;
    if (count != 3 || sscanf(words[1], "http://%255[^:]:%15[^/]%255s", host, port, path) != 3)
        return 2;
    hints.ai_family = *words[2] == '4' ? AF_INET : AF_INET6;
    hints.ai_socktype = SOCK_STREAM;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) return fprintf(stderr, "%s\n", gai_strerror(error)), 1;
    int to = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(to, found->ai_addr, found->ai_addrlen)) return perror("connect"), 1;
    dprintf(to, "GET %s HTTP/1.0\r\nHost: %s:%s\r\n\r\n", path, host, port);
    for (ssize_t got; (got = read(to, text, sizeof text)) > 0;)
        write(1, text, got);
    return 0;
}
"#;

    /// A program of the host that has to succeed.
    #[track_caller]
    fn host(directory: &Path, words: &[&str]) -> bool {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(directory).stdin(Stdio::null());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@t");
        }
        let out = command.output();
        match out {
            Ok(out) if !out.status.success() => {
                println!("{words:?}: {}", String::from_utf8_lossy(&out.stderr));
                false
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    pub(in crate::egress) fn git(directory: &Path, words: &[&str]) -> bool {
        host(directory, &[&["git"], words].concat())
    }

    /// A client that links nothing, in this directory.
    pub(in crate::egress) fn program(name: &str, directory: &Path) -> bool {
        let at = directory.join(name).display().to_string();
        if name == "go-client" {
            put(&directory.join("client.go"), GO);
            let words = ["env", "CGO_ENABLED=0", "GO111MODULE=off", "go", "build", "-o", &at];
            host(directory, &[&words[..], &["client.go"]].concat())
        } else {
            put(&directory.join("client.c"), C);
            host(directory, &["musl-gcc", "-static", "-O1", "-w", "-o", &at, "client.c"])
        }
    }

    /// The path of a tool beside the cargo that builds this.
    pub(super) fn tool(name: &str) -> Option<String> {
        let path = Path::new(env!("CARGO")).with_file_name(name);
        fs::File::open(&path).ok().map(|_| path.display().to_string())
    }

    /// The cargo that builds this, and a profile in which it is a program of the system.
    pub(in crate::egress) fn cargo() -> Option<(String, String)> {
        let found = tool("cargo").zip(tool("rustc"));
        if !crate::harness::has_by_chance("a cargo that everybody may read", found.is_some()) {
            return None;
        }
        let (cargo, _) = found?;
        let sysroot = Path::new(&cargo).parent()?.parent()?.display().to_string();
        let rule = format!(
            "[filesystem]\nread = [{{ path = \"{sysroot}\", programs = true, \
             because = \"the compiler of the tests\" }}]\n"
        );
        Some((cargo, rule))
    }

    /// Everything that the host has, by path.
    pub(super) fn files(place: &Place, base: &str) -> BTreeMap<String, Vec<u8>> {
        let directory = place.outside.join("shop");
        fs::create_dir(&directory).unwrap();
        let mut files = BTreeMap::from([("/hello".to_owned(), BODY.into())]);
        repository(&directory, &mut files);
        wheel(&directory, &mut files);
        let pack = |name: &str, inside: &str, parts: &[(&str, &str)]| {
            for (part, text) in parts {
                put(&directory.join(inside).join(part), text);
            }
            assert!(host(&directory, &["tar", "czf", name, inside]));
            fs::read(directory.join(name)).unwrap()
        };
        let manifest = "{\"name\": \"thing\", \"version\": \"1.0.0\"}";
        let tarball = pack("thing.tgz", "package", &[("package.json", manifest)]);
        let dist = format!("{{\"tarball\": \"{base}/npm/thing-1.0.0.tgz\"}}");
        let described = format!(
            "{{\"name\": \"thing\", \"dist-tags\": {{\"latest\": \"1.0.0\"}}, \"versions\": \
             {{\"1.0.0\": {{\"name\": \"thing\", \"version\": \"1.0.0\", \"dist\": {dist}}}}}}}"
        );
        files.insert("/npm/thing".to_owned(), described.into());
        files.insert("/npm/thing-1.0.0.tgz".to_owned(), tarball);
        let manifest = "[package]\nname = \"thing\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
        let parts = [("Cargo.toml", manifest), ("src/lib.rs", "")];
        let package = pack("thing.crate", "thing-1.0.0", &parts);
        let sum = rung::model::Digest::plain(&package).to_string();
        let line = format!(
            "{{\"name\": \"thing\", \"vers\": \"1.0.0\", \"deps\": [], \"cksum\": \"{}\", \
             \"features\": {{}}, \"yanked\": false}}\n",
            sum.rsplit(':').next().unwrap_or_default()
        );
        files.insert("/crates/thing/1.0.0".to_owned(), package);
        files.insert("/index/th/in/thing".to_owned(), line.into());
        let config = format!("{{\"dl\": \"{base}/crates/{{crate}}/{{version}}\"}}");
        files.insert("/index/config.json".to_owned(), config.into());
        files
    }

    /// As files, which is all that a server of the old protocol needs.
    fn repository(directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        let source = directory.join("source");
        put(&source.join("hello"), BODY);
        let made = git(&source, &["init", "-q", "-b", "main"])
            && git(&source, &["add", "hello"])
            && git(&source, &["commit", "-q", "-m", "one"])
            && git(directory, &["clone", "-q", "--bare", "source", "repo.git"])
            && git(&directory.join("repo.git"), &["update-server-info"]);
        assert!(made);
        let mut open = vec![directory.join("repo.git")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
                continue;
            }
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            files.insert(format!("/{name}"), fs::read(&path).unwrap());
        }
    }

    fn wheel(directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        const MAKE: &str = "import zipfile\n\
            with zipfile.ZipFile('thing-1.0-py3-none-any.whl', 'w') as it:\n\
            \x20   it.writestr('thing.py', '')\n\
            \x20   info = 'thing-1.0.dist-info/'\n\
            \x20   it.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n')\n\
            \x20   it.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
            \x20   it.writestr(info + 'RECORD', '')\n";
        if !host(directory, &["/usr/bin/python3", "-c", MAKE]) {
            return;
        }
        let name = "thing-1.0-py3-none-any.whl";
        let page = format!("<!DOCTYPE html><a href=\"/{name}\">{name}</a>");
        files.insert("/simple/thing/".to_owned(), page.into());
        files.insert(format!("/{name}"), fs::read(directory.join(name)).unwrap());
    }
}
