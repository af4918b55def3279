//! The pages in docs/ are what the schemas say. `UPDATE_EXPECT=1 cargo nextest run pages` writes them anew.

use std::path::{Path, PathBuf};

use expect_test::expect_file;

use super::Bluegreen;
use crate::tf_provider::docs::{Page, function_page, page};
use crate::tf_provider::{Provider as _, docs};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn example(path: &str) -> String {
    let path = root().join("examples").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_pages_are_fresh() {
    let provider = Bluegreen::new(crate::compose::on_aws);
    let of_provider = docs::Page {
        name: "bluegreen",
        kind: "Provider",
        provider: "bluegreen",
        example: &example("provider/provider.tf"),
        import: None,
    };
    expect_file![root().join("docs/index.md")].assert_eq(&page(&of_provider, provider.schema()));
    for (name, resource) in provider.resources() {
        let short = name.trim_start_matches("bluegreen_");
        let import = format!("resources/{name}/import.sh");
        // What can't be imported has none.
        let import = root().join("examples").join(&import).exists().then(|| example(&import));
        let of_resource = Page {
            name,
            kind: "Resource",
            provider: "bluegreen",
            example: &example(&format!("resources/{name}/resource.tf")),
            import: import.as_deref(),
        };
        let path = root().join(format!("docs/resources/{short}.md"));
        expect_file![path].assert_eq(&page(&of_resource, resource.schema()));
    }
    for (name, function) in provider.functions() {
        let text =
            function_page(name, "bluegreen", function.as_ref(), &example(&format!("functions/{name}/function.tf")));
        expect_file![root().join(format!("docs/functions/{name}.md"))].assert_eq(&text);
    }
}

/// Folders whose files the scenarios, the demo or the example apps' tests run.
const RUN_BY_TESTS: [&str; 3] = ["examples/app/", "examples/pipelines/", "examples/stacks/"];

#[test]
fn guides_show_only_what_tests_run() {
    let folder = root().join("docs/guides");
    let guides: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(guides.len(), 11);
    for guide in guides {
        let (name, text) = (guide.display(), std::fs::read_to_string(&guide).unwrap());
        assert!(text.starts_with("---\npage_title: \""), "{name}: the Registry wants a title");
        let mut source = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("<!-- ") {
                source = rest.strip_suffix(" -->");
            }
            if !line.starts_with("```") {
                continue;
            }
            let file = source.take().unwrap_or_else(|| panic!("{name}: a snippet without a file"));
            assert!(RUN_BY_TESTS.iter().any(|folder| file.starts_with(folder)), "{name}: {file} is run by no test");
            let snippet: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            let whole = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                !snippet.is_empty() && whole.contains(&snippet.join("\n")),
                "{name}: not in {file}:\n{}",
                snippet.join("\n")
            );
        }
    }
}
