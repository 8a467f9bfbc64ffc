//! Order in the house: manifests, documents and code say the same thing.
//!
//! Each test reads the tree as it is; none of them knows a list that stands somewhere else already.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of the tree that is not ignored: what git knows, or all but build output where there is no git.
fn files() -> Vec<String> {
    let known = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = known.ok().filter(|output| output.status.success() && !output.stdout.is_empty());
    let mut all: Vec<String> = match listed {
        Some(output) => String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(),
        None => walk(&root(), &root()),
    };
    all.retain(|file| root().join(file).is_file());
    all.sort();
    assert!(all.len() > 50, "only {} files found", all.len());
    all
}

fn walk(folder: &Path, root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            all.extend(walk(&path, root));
        } else if path.is_file() {
            all.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
    all
}

/// Rows of the first table under the heading, as cells.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let below = text.split_once(heading).unwrap_or_else(|| panic!("no heading {heading:?}")).1;
    let lines =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = lines
        .map(|line| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(rows.len() > 2, "no table under {heading:?}");
    rows[2..].to_vec()
}

/// `a`, `b` in a cell.
fn code_words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let allowed: BTreeMap<String, BTreeSet<String>> = table(&read("docs/architecture.md"), "## The crates")
        .iter()
        .map(|row| (code_words(&row[0]).pop_first().expect("a crate name"), code_words(&row[1])))
        .collect();
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let folders = members.iter().map(|member| member.as_str().unwrap()).chain(["."]);

    let mut actual = BTreeMap::new();
    for folder in folders {
        let manifest: toml::Table = read(Path::new(folder).join("Cargo.toml")).parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let uses = manifest
            .get("dependencies")
            .and_then(|table| table.as_table())
            .into_iter()
            .flat_map(|table| table.keys());
        // A test or bench of a lower crate that pulls a higher one in would turn the arrow round just the same.
        let tests = manifest.get("dev-dependencies").and_then(|table| table.as_table());
        let uses = uses.chain(tests.into_iter().flat_map(|table| table.keys()));
        let ours: BTreeSet<String> = uses.filter(|name| name.starts_with("wattlog")).cloned().collect();
        actual.insert(name, ours);
    }
    assert_eq!(actual, allowed, "manifests (left) against docs/architecture.md (right)");
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> = files()
        .into_iter()
        .filter(|file| file.ends_with(".rs") && !file.ends_with("/tests.rs"))
        .filter(|file| {
            let text = read(file);
            !text.lines().take(5).any(|line| line.starts_with("//!") && line.len() > 20)
        })
        .collect();
    assert!(silent.is_empty(), "no `//!` head that says something: {silent:?}");
}

#[test]
fn nothing_is_left_undone_and_no_path_of_a_machine_is_named() {
    // Put together from halves, so that this file does not find itself.
    let undone: Vec<String> = [
        ("todo", "!("),
        ("unimplemented", "!("),
        ("dbg", "!("),
        ("FIX", "ME"),
        ("TO", "DO"),
        ("X", "XX"),
        ("HA", "CK"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    // The folder around this checkout and the home of whoever builds it; shared ones like /tmp tell nothing.
    let folder =
        |path: &Path| Some(format!("{}/", path.display())).filter(|text| text.len() > 5 && text != "/home/");
    let home = std::env::var("HOME").ok().map(PathBuf::from);
    let machine: Vec<String> =
        [root().parent().and_then(folder), home.as_deref().and_then(folder)].into_iter().flatten().collect();

    let mut found = Vec::new();
    for file in files() {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        if file == "Cargo.lock" || file.starts_with("LICENSE") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let is_code = file.ends_with(".rs") || file.ends_with(".py") || file.ends_with(".sh");
            let words = undone.iter().filter(|word| is_code && whole_word(line, word));
            let paths =
                machine.iter().filter(|path| line.contains(path.as_str()) && !line.contains("target/"));
            found.extend(words.chain(paths).map(|what| format!("{file}:{}: {what}", number + 1)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn whole_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (!joins(after) || word.ends_with('('))
    })
}

#[test]
fn decisions_are_numbered_without_gaps_and_carry_their_parts() {
    let adr: Vec<String> = files().into_iter().filter(|file| file.starts_with("docs/adr/")).collect();
    for (index, file) in adr.iter().enumerate() {
        let name = file.trim_start_matches("docs/adr/");
        let number = format!("{:04}", index + 1);
        assert!(name.starts_with(&format!("{number}-")), "{file} should be number {number}");
        let text = read(file);
        let title = text.lines().next().unwrap_or_default();
        assert!(title.starts_with(&format!("# {number} ")), "{file} begins with {title:?}");
        for part in
            ["Status: ", "Date: ", "Context", "Options", "Decision", "Consequences", "We were wrong if"]
        {
            assert!(text.contains(part), "{file} has no {part:?}");
        }
    }
    assert!(adr.len() >= 9, "{adr:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in files().into_iter().filter(|file| file.ends_with(".md")) {
        let text = read(&file);
        let folder = Path::new(&file).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            if !root().join(&folder).join(path).exists() {
                broken.push(format!("{file}: {path}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn documents_name_files_that_are_there() {
    let files = files();
    let folders: BTreeSet<&str> = files.iter().filter_map(|file| Some(file.split_once('/')?.0)).collect();
    let mut gone = Vec::new();
    for document in files.iter().filter(|file| file.ends_with(".md")) {
        for word in code_words(&read(document)) {
            let is_path = word.split_once('/').is_some_and(|(first, _)| folders.contains(first))
                && !word.contains([' ', '<', '*', ':'])
                && word.chars().next().is_some_and(|first| first.is_ascii_lowercase() || first == '.');
            // `docs/adr/NNNN-title.md` and the like name a form.
            if is_path && !word.contains("NNNN") && !root().join(&word).exists() {
                gone.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn unsafe_code_stays_in_its_two_files() {
    let marker = ["un", "safe "].concat();
    let users: Vec<String> = files()
        .into_iter()
        .filter(|file| file.ends_with(".rs"))
        .filter(|file| {
            let text = read(file);
            text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                ["{", "fn", "impl", "extern"].iter().any(|what| code.contains(&format!("{marker}{what}")))
            })
        })
        .collect();
    let outside: Vec<&String> = users
        .iter()
        .filter(|file| {
            *file != "engine/src/io/map.rs"
                && !file.starts_with("engine/src/codec/")
                && !file.starts_with("fuzz/")
        })
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    let kernels = users.iter().filter(|file| file.starts_with("engine/src/codec/")).count();
    assert!(kernels <= 1, "one codec kernel may opt out: {users:?}");
}

/// The binary's own word on its configuration, without any of this machine's.
fn default_configuration() -> serde_json::Value {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wattlog"))
        .args(["config", "print", "--json"])
        .env_clear()
        .env("HOME", empty.path())
        .current_dir(empty.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_configuration_table_of_the_readme_tells_the_defaults() {
    let tree = default_configuration();
    for row in table(&read("README.md"), "## Configuration") {
        let key = code_words(&row[0]).pop_first().expect("a key");
        let value = tree.pointer(&format!("/{}", key.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("README.md tells of {key}, which does not exist"));
        let nothing = value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
        if nothing {
            assert!(row[1].starts_with('('), "README.md: {key} has no default");
        } else {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(code_words(&row[1]), BTreeSet::from([shown]), "README.md: {key}");
        }
    }
}

#[test]
fn every_command_stands_in_the_readme() {
    let readme = read("README.md");
    let help = Command::new(env!("CARGO_BIN_EXE_wattlog")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let list = readme.lines().find(|line| line.starts_with("Commands: ")).expect("a list of commands");
    let listed: BTreeSet<String> = code_words(list).first().unwrap().split(' ').map(str::to_owned).collect();
    let real: BTreeSet<String> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, real);
}

/// Rows of all tables of format-spec.md that place parts of a file: those with an `offset` and a `size`. The name stands
/// under `field`, or under a heading that begins with `part`.
fn placed_parts(text: &str) -> Vec<(String, u64, u64, Option<String>)> {
    let mut parts = Vec::new();
    let mut columns: Option<(usize, usize, usize, Option<usize>)> = None;
    let mut is_head = true;
    for line in text.lines() {
        if !line.starts_with('|') {
            (columns, is_head) = (None, true);
            continue;
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if is_head {
            let place = |is: fn(&str) -> bool| cells.iter().position(|cell| is(cell));
            let name = place(|cell| cell == "field").or(place(|cell| cell.starts_with("part")));
            let found = name.zip(place(|cell| cell == "offset")).zip(place(|cell| cell == "size"));
            columns = found.map(|((name, offset), size)| (name, offset, size, place(|cell| cell == "type")));
            is_head = false;
        } else if let Some((name, offset, size, kind)) = columns
            && !cells[0].starts_with("---")
        {
            let number = |cell: &str| cell.parse::<u64>().unwrap_or_else(|_| panic!("no number in {line:?}"));
            let name = code_words(cells[name]).pop_first().unwrap_or_else(|| panic!("no name in {line:?}"));
            let kind = kind.map(|kind| cells[kind].to_owned());
            parts.push((name, number(cells[offset]), number(cells[size]), kind));
        }
    }
    parts
}

#[test]
fn the_tables_of_the_format_are_the_parts_that_the_code_knows() {
    let written = placed_parts(&read("format-spec.md"));
    let known: Vec<_> = wattlog_engine::check::parts().collect();
    let only_written: Vec<_> = written
        .iter()
        .filter(|(name, offset, size, kind)| {
            !known.iter().any(|part| {
                (part.name, part.offset, part.size) == (name.as_str(), *offset, *size)
                    && kind.as_ref().is_none_or(|kind| kind == part.type_name)
            })
        })
        .collect();
    let only_known: Vec<_> = known
        .iter()
        .filter(|part| {
            !written.iter().any(|(name, offset, size, _)| {
                (part.name, part.offset, part.size) == (name.as_str(), *offset, *size)
            })
        })
        .collect();
    assert!(
        only_written.is_empty() && only_known.is_empty(),
        "text: {only_written:#?}\ncode: {only_known:#?}"
    );
    // As many rows as parts: a part that stands in two structures has a row in each.
    assert_eq!(written.len(), known.len());
    assert!(known.len() > 50, "{}", known.len());
}

#[test]
fn a_table_of_parts_is_found_by_its_headings() {
    let text = "| part of x | offset | size |\n| --- | --- | --- |\n| `a` | 0 | 4 |\n\n| offset | size | type | field |\n\
                |---|---|---|---|\n| 8 | 2 | u16 | `b.c` |\n\n| part | form |\n|---|---|\n| `d` | u8 |\n";
    let expected = [("a".to_owned(), 0, 4, None), ("b.c".to_owned(), 8, 2, Some("u16".to_owned()))];
    assert_eq!(placed_parts(text), expected);
}
