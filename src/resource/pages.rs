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
    let provider = Bluegreen::new();
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
