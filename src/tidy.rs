//! The laws of ARCHITECTURE.md, executed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longer functions do more than one thing. Schema literals are lists, not functions.
const MAX_FUNCTION_LINES: usize = 70;

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> =
        ["src", "terraform-tests/src", "terraform-tests/tests", "terraform-tests/local-aws/src"]
            .map(|folder| root.join(folder))
            .to_vec();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// A law: what is not allowed, in files that `applies` to.
fn forbid(words: &[&str], applies: impl Fn(&str) -> bool, law: &str) {
    for source in sources().iter().filter(|source| applies(&source.path) && source.path != "src/tidy.rs") {
        for (n, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!code.contains(word), "{}:{}: {word}: {law}", source.path, n + 1);
            }
        }
    }
}

/// Which rooms a room may use: a new arrow is a decision, and is made here.
///
/// The leaves know of nothing above them; the pure rooms of each other only where one domain asks another; what carries out
/// knows what decides; the adapters know the ports that they implement; resources know everything but the adapters, and
/// `compose` puts them together. A migration's address is a database's own.
const EDGES: [Edges; 27] = [
    ("arn", &[]),
    ("cancel", &[]),
    ("clock", &[]),
    ("digest", &[]),
    ("duration", &[]),
    ("home", &[]),
    ("shell", &["arn"]),
    ("variables", &[]),
    ("argument", &["duration"]),
    ("secrets", &["digest", "variables"]),
    ("settings", &["argument"]),
    ("network", &["argument", "home", "settings"]),
    ("tf_provider", &["argument", "cancel", "clock", "duration", "secrets"]),
    ("rollout", &["argument", "arn", "digest", "duration", "secrets"]),
    ("stack", &["argument", "arn", "digest", "rollout"]),
    ("migration", &["argument", "duration", "rollout"]),
    ("run", &["cancel"]),
    ("platform", &["run", "run::migration", "run::rollout", "run::stack", "settings"]),
    (
        "run::rollout",
        &["cancel", "clock", "duration", "migration", "network", "rollout", "run", "secrets", "settings", "variables"],
    ),
    ("run::stack", &["argument", "cancel", "duration", "rollout", "run", "run::rollout", "shell", "stack"]),
    ("run::migration", &["cancel", "clock", "duration", "migration", "rollout", "run", "run::rollout"]),
    (
        "aws",
        &[
            "arn",
            "cancel",
            "clock",
            "digest",
            "home",
            "migration",
            "network",
            "platform",
            "rollout",
            "run",
            "run::rollout",
            "run::stack",
            "secrets",
            "settings",
            "stack",
        ],
    ),
    ("database", &["digest", "home", "migration", "run::migration", "secrets", "variables"]),
    ("process", &["rollout", "run", "run::rollout", "variables"]),
    ("compose", &["aws", "database", "platform", "process", "run::rollout", "settings"]),
    (
        "resource",
        &[
            "argument",
            "arn",
            "clock",
            "database",
            "digest",
            "duration",
            "migration",
            "network",
            "platform",
            "rollout",
            "run",
            "run::migration",
            "run::rollout",
            "run::stack",
            "secrets",
            "settings",
            "shell",
            "stack",
            "tf_provider",
        ],
    ),
    ("main", &["compose", "process", "resource", "tf_provider", "variables"]),
];

/// The same for the local AWS: how calls come, the nodes that they tell, and what runs behind those.
const LOCAL_AWS: [Edges; 7] = [
    ("core", &[]),
    ("node", &["core"]),
    ("compute", &["core", "node"]),
    ("state", &["compute", "core", "node"]),
    ("control", &["core", "state"]),
    ("front", &["compute", "control", "core", "node", "state"]),
    ("main", &[]),
];

/// A room, and those that it may use.
type Edges = (&'static str, &'static [&'static str]);

/// The folders that have rooms, and their tables.
const HOUSES: [(&str, &[Edges]); 2] = [("src/", &EDGES), ("terraform-tests/local-aws/src/", &LOCAL_AWS)];

/// Whether tests are what a file is for: they may put together whatever they need.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["/tests", "/stories/"].iter().any(|part| path.contains(part))
        || name.ends_with("tests.rs")
        || ["in_memory.rs", "testing.rs", "tidy.rs", "declarations.rs", "numbers.rs", "pages.rs"].contains(&name)
}

/// The room of a path such as `crate::run::stack::ports`.
fn room(path: &str) -> String {
    let mut parts = path.split("::");
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        Some(second) if first == "run" && ["rollout", "stack", "migration"].contains(&second) => {
            format!("run::{second}")
        }
        _ => first.to_owned(),
    }
}

/// What a file's code uses of this crate: each path after `crate::`, grouped imports taken apart.
fn uses(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for start in ["crate::", "bluegreen::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &code[at + start.len()..];
            let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            match rest[path.len()..].strip_prefix('{') {
                Some(group) => found.extend(members(group).into_iter().map(|one| format!("{path}{one}"))),
                None => found.push(path),
            }
        }
    }
    found
}

/// The members of a grouped import, up to the brace that closes it; of a group within it the path before its brace.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut members) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            c if depth == 0 && !c.is_whitespace() => members.last_mut().expect("one").push(c),
            _ => {}
        }
    }
    members
}

/// The arrows that a table doesn't allow, and those that it allows and nobody needs.
fn wrong_arrows(root: &str, edges: &[Edges]) -> Vec<String> {
    let (mut drawn, mut wrong) = (BTreeSet::new(), Vec::new());
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        let Some(path) = source.path.strip_prefix(root) else { continue };
        let own = room(&path.trim_end_matches(".rs").replace('/', "::"));
        if own == "lib" {
            continue;
        }
        let Some((_, allowed)) = edges.iter().find(|(room, _)| *room == own) else {
            panic!("{}: {own} is no room of the table", source.path)
        };
        for path in uses(&source.text) {
            let other = room(&path);
            if other == own || !edges.iter().any(|(room, _)| *room == other) {
                continue;
            }
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{}: {own} may not use {other} ({path})", source.path));
            }
            drawn.insert((own.clone(), other));
        }
    }
    for (room, allowed) in edges {
        let unused = allowed.iter().filter(|other| !drawn.contains(&((*room).to_owned(), (**other).to_owned())));
        wrong.extend(unused.map(|other| format!("{room} → {other} is allowed, and not used")));
    }
    wrong
}

#[test]
fn no_room_uses_one_that_it_should_not_know() {
    let wrong: Vec<String> = HOUSES.iter().flat_map(|(root, edges)| wrong_arrows(root, edges)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files beside a file that its code uses: by `super::` and by the folder's own path.
fn neighbors(path: &str, text: &str) -> BTreeSet<String> {
    let (folder, name) = path.trim_end_matches(".rs").rsplit_once('/').unwrap_or_default();
    if name == "mod" {
        return BTreeSet::new();
    }
    let inside = folder.rsplit_once("src").unwrap_or_default().1.trim_start_matches('/').replace('/', "::");
    let inside = format!("{inside}::");
    let text = text.replace("super::", "crate::here::");
    let uses = uses(&text).into_iter();
    let path = uses.filter_map(|path| Some(path.strip_prefix("here::").or(path.strip_prefix(&inside))?.to_owned()));
    path.filter_map(|path| Some(path.split("::").next()?.to_owned())).filter(|one| one != name).collect()
}

/// One of the files that use each other in a circle.
fn circle(files: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let mut left: BTreeSet<&String> = files.keys().collect();
    loop {
        let bottom = |name: &&&String| files[**name].iter().all(|other| !left.contains(other));
        let Some(next) = left.iter().find(bottom).copied() else { break };
        left.remove(next);
    }
    left.first().map(|name| (*name).clone())
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut folders: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let has_rooms = |path: &str| HOUSES.iter().any(|(root, _)| path.starts_with(root));
    for source in sources().iter().filter(|source| has_rooms(&source.path) && !is_test(&source.path)) {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or_default();
        let uses = neighbors(&source.path, &source.text);
        folders.entry(folder.to_owned()).or_default().insert(file.trim_end_matches(".rs").to_owned(), uses);
    }
    for (folder, files) in &folders {
        assert_eq!(circle(files), None, "{folder}: {files:?}");
    }
    let planted = "use super::b::B;\nuse crate::run::stack::c::{C, D};\nuse crate::run::d;";
    let found = neighbors("src/run/stack/a.rs", planted);
    assert_eq!(found, ["b", "c"].map(str::to_owned).into());
    let of = |name: &str| BTreeSet::from([name.to_owned()]);
    let files = BTreeMap::from([("a".to_owned(), of("b")), ("b".to_owned(), of("a")), ("c".to_owned(), of("b"))]);
    assert!(circle(&files).is_some());
}

#[test]
fn a_wrong_arrow_is_seen() {
    let planted =
        "use std::fmt;\nuse crate::{aws, clock};\nfn f() { crate::run::stack::observe() }\n// crate::database";
    let rooms: Vec<String> = uses(planted).iter().map(|path| room(path)).collect();
    assert_eq!(rooms, ["aws", "clock", "run::stack"]);
    assert_eq!(members("a::{b, c::{d}}, e}, f"), ["a::", "e"]);
    assert!(uses("#[cfg(test)]\nmod tests {\n    use crate::aws;\n}").is_empty());
}

#[test]
fn every_room_keeps_its_secrets() {
    let in_crate = |path: &str| path.starts_with("src/");
    let sdk = ["aws_sdk_", "aws_config::", "aws_smithy_", "aws_credential_types"];
    forbid(&sdk, |path| in_crate(path) && !path.starts_with("src/aws/"), "only src/aws knows the SDK");
    let wire = ["tonic::", "prost::", "rmp::", "rcgen::"];
    forbid(
        &wire,
        |path| in_crate(path) && !path.starts_with("src/tf_provider/"),
        "only src/tf_provider knows the wire",
    );
    let driver = ["sqlx::"];
    forbid(&driver, |path| in_crate(path) && !path.starts_with("src/database/"), "only src/database knows the driver");
    let across = ["super::rollout", "super::stack", "super::migration"];
    forbid(&across, |path| path.starts_with("src/run/"), "a path to another room begins at the crate");
    forbid(&["super::super::"], |path| in_crate(path) && path != "src/tidy.rs", "a path that far begins at the crate");
    forbid(
        &["bluegreen_"],
        |path| path.starts_with("src/tf_provider/"),
        "the wire layer knows nothing of blue and green",
    );
}

#[test]
fn the_pure_rooms_are_pure() {
    let effects = ["tokio", "async ", "std::fs", "std::net", "std::env", "::now("];
    for room in ["rollout", "stack", "migration"] {
        forbid(&effects, |path| path.starts_with(&format!("src/{room}/")), "what decides does nothing");
    }
}

#[test]
fn every_file_says_what_lives_there() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} must begin with a //! line", source.path);
        let name = source.path.rsplit('/').next().unwrap_or_default();
        assert!(
            !matches!(name, "utils.rs" | "util.rs" | "common.rs" | "helpers.rs"),
            "{}: name what it is",
            source.path
        );
    }
}

#[test]
fn functions_are_short() {
    for source in sources().iter().filter(|source| !source.path.ends_with("/schema.rs")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let body = line.trim_start();
            let words: Vec<&str> = body.split(['(', ' ']).take(5).collect();
            if !words.contains(&"fn") || body.starts_with("//") {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - body.len()]);
            let Some(length) = lines[start..].iter().position(|line| *line == end) else { continue };
            assert!(length < MAX_FUNCTION_LINES, "{}:{}: {} lines in a function", source.path, start + 1, length + 1);
        }
    }
}

#[test]
fn the_map_is_short_and_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(map.lines().count() <= 150, "{} lines", map.lines().count());
    let (_, entries) = map.split_once("## Entry points").expect("entry points");
    let entries = entries.split("\n## ").next().unwrap_or_default();
    let named: Vec<&str> =
        entries.split('`').skip(1).step_by(2).filter(|name| name.contains('/') && name.contains('.')).collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        assert!(root.join(name).exists(), "ARCHITECTURE.md sends newcomers to {name}");
    }
}

/// Forms that a machine can find in what users read: the rest of the style is for eyes.
#[test]
fn what_users_read_is_plain() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let british = ["colo", "behavio", "hono", "favo", "neighbo"].map(|start| format!("{start}ur"));
    let forms = ["if left out", " shall ", "-0 ", "\"Or "].map(str::to_owned);
    let mut read: Vec<(String, String)> = Vec::new();
    for source in sources() {
        // Texts are in literals; a line of code has no prose outside of them, but in its comments.
        let texts = source.text.lines().filter(|line| line.contains('"')).collect::<Vec<_>>().join("\n");
        read.push((
            source.path.clone(),
            if ["src/tidy.rs", "src/resource/declarations.rs"].contains(&source.path.as_str()) {
                String::new()
            } else {
                texts
            },
        ));
        for word in &british {
            assert!(
                source.path == "src/tidy.rs" || !source.text.to_lowercase().contains(word),
                "{}: {word}",
                source.path
            );
        }
    }
    let mut open = vec![root.join("docs"), root.join("examples")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() && !name.ends_with("node_modules") && !name.ends_with("target") {
                open.push(path);
            } else if [".md", ".tf", ".sh", ".yml", ".hcl"].iter().any(|ending| name.ends_with(ending)) {
                read.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    for page in ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "DEPENDENCIES.md"] {
        read.push((page.to_owned(), fs::read_to_string(root.join(page)).unwrap()));
    }
    for (name, text) in read {
        for form in forms.iter().chain(&british) {
            assert!(!text.contains(form), "{name}: {form:?}");
        }
    }
}
