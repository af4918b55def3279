//! The laws of ARCHITECTURE.md, executed.

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
    let others = ["crate::rollout", "crate::aws", "crate::run", "crate::resource", "bluegreen_"];
    forbid(&others, |path| path.starts_with("src/tf_provider/"), "the wire layer knows nothing of blue and green");
}

#[test]
fn the_rollout_is_pure() {
    let effects = [
        "tokio",
        "async ",
        "std::fs",
        "std::net",
        "std::env",
        "::now(",
        "crate::aws",
        "crate::run",
        "crate::tf_provider",
        "crate::clock",
    ];
    forbid(&effects, |path| path.starts_with("src/rollout/"), "src/rollout decides without doing");
    forbid(&effects, |path| path.starts_with("src/stack/"), "src/stack decides without doing");
    forbid(&effects, |path| path.starts_with("src/migration/"), "src/migration decides without doing");
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
