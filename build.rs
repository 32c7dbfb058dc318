//! Reads the built-in profiles with the very code that reads overrides, compiles the system call
//! filters, and embeds the results.
//!
//! A profile that does not load fails the build with the errors its author needs.

#![expect(unreachable_pub, reason = "the modules below are public in the library")]
#![expect(dead_code, unused_imports, reason = "a build needs a part of the modules below")]
#![expect(clippy::print_stderr, reason = "that is how a build script speaks to people")]

#[path = "src/model/mod.rs"]
mod model;
#[path = "src/profile/mod.rs"]
mod profile;
#[path = "src/plan/syscalls/mod.rs"]
mod syscalls;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-cfg=rung_built");
    println!("cargo::rerun-if-changed=profiles");
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=src/model");
    println!("cargo::rerun-if-changed=src/profile");
    println!("cargo::rerun-if-changed=src/plan/syscalls");
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rustc-env=RUNG_PROFILES={}", code(&package)?);
    let root = package.join("profiles");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let files = files(&root)?;
    let layer = profile::Layer { name: "built-in".to_owned(), sources: sources(&root, &files)? };
    let profiles = match profile::load_all(std::slice::from_ref(&layer)) {
        Ok(profiles) => profiles,
        Err(error) => {
            eprintln!("the built-in profiles do not load:\n\n{error}\n");
            return Err("the built-in profiles do not load".into());
        }
    };
    let mut code = "const LEVELS: &[Embedded] = &[\n".to_owned();
    for (level, profile) in profiles {
        let file = out.join(format!("level-{level}.postcard"));
        let (bytes, entry) = embed(profile)?;
        std::fs::write(&file, bytes)?;
        writeln!(
            code,
            "    Embedded {{ level: {level}, bytes: include_bytes!({}), {entry} }},",
            quoted(&file)
        )?;
    }
    code.push_str("];\nconst SOURCES: &[(&str, &str)] = &[\n");
    for (source, file) in layer.sources.iter().zip(&files) {
        writeln!(code, "    ({:?}, include_str!({})),", source.name, quoted(file))?;
    }
    code.push_str("];\n");
    std::fs::write(out.join("profiles.rs"), code)?;
    std::fs::write(out.join("filters.rs"), filters()?)?;
    Ok(())
}

/// Every filter as Rust text: the columns for one architecture, then for the next.
fn filters() -> Result<String, std::fmt::Error> {
    let mut code = "static FILTERS: [[Filter; 6]; 2] = [\n".to_owned();
    for gate in [syscalls::Gate::With, syscalls::Gate::Without] {
        code.push_str("[\n");
        for arch in [model::Arch::X86_64, model::Arch::Aarch64] {
            for table in [profile::Table::Strict, profile::Table::Standard, profile::Table::Debug] {
                let filter = syscalls::compile(table, arch, gate);
                let digest = filter.digest();
                writeln!(code, "Filter {{ digest: Digest::from_bytes({:?}),", digest.as_bytes())?;
                code.push_str("instructions: Cow::Borrowed(&[");
                for it in filter.instructions() {
                    write!(code, "i({},{},{},{}),", it.code, it.jt, it.jf, it.k)?;
                }
                code.push_str("]) },\n");
            }
        }
        code.push_str("],\n");
    }
    code.push_str("];\n");
    Ok(code)
}

/// The bytes of a level, and the Rust fields that say what lies where in them.
fn embed(profile: profile::Profile) -> Result<(Vec<u8>, String), Box<dyn Error>> {
    let (bytes, index) = profile::encode(profile)?;
    let mut entry = format!("head: {:?}, programs: &[", index.head);
    for (name, stretch) in &index.programs {
        write!(entry, "({name:?}, {stretch:?}), ")?;
    }
    entry.push_str("], rules: &[");
    for (names, stretch) in &index.rules {
        write!(entry, "(&{names:?}, {stretch:?}), ")?;
    }
    entry.push(']');
    Ok((bytes, entry))
}

/// Names the code that reads profiles: a profile that was read by other code may mean something else,
/// and its bytes may have another form.
fn code(root: &Path) -> Result<model::Digest, Box<dyn Error>> {
    let mut files = vec![root.join("Cargo.lock")];
    for directory in ["src/model", "src/profile", "profiles", "profiles/packs"] {
        for entry in std::fs::read_dir(root.join(directory))? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let texts = files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    Ok(model::Digest::of("profile-code", &texts))
}

/// A path as a Rust string.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// The levels, then the packs, each by name.
fn files(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for (directory, prefix) in [(root.to_owned(), "level-"), (root.join("packs"), "")] {
        let mut here = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            if name.starts_with(prefix) && path.extension().is_some_and(|it| it == "toml") {
                here.push(path);
            }
        }
        here.sort();
        files.extend(here);
    }
    Ok(files)
}

fn sources(root: &Path, files: &[PathBuf]) -> Result<Vec<profile::Source>, Box<dyn Error>> {
    let mut sources = Vec::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        sources.push(profile::Source { name, text: std::fs::read_to_string(file)? });
    }
    Ok(sources)
}
