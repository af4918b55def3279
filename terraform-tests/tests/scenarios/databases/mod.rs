//! Migrations on a real PostgreSQL and a real MariaDB.

mod kills;
mod refusals;
mod rename;

use terraform_tests::database::Database;
use terraform_tests::servers::{Kind, Server};
use terraform_tests::stage::Stage;

/// A server, and a client of its database.
fn database(kind: Kind) -> anyhow::Result<(Server, Database)> {
    let server = Server::start(kind)?;
    let database = Database::at(&server.url())?;
    Ok((server, database))
}

/// The provider block of a configuration that calls no AWS.
fn offline() -> String {
    "terraform {\n  required_providers {\n    bluegreen = { source = \"bluegreen/bluegreen\" }\n  }\n}\n\n\
     provider \"bluegreen\" {\n  region = \"eu-central-1\"\n  access_key = \"testing\"\n  secret_key = \"testing\"\n  \
     endpoint_url = \"http://127.0.0.1:9\"\n  max_retries = 0\n}\n\n"
        .to_owned()
}

/// A migration; `more` has its phases and all else.
fn migration(url: &str, phase: &str, more: &str) -> String {
    // Terraform shows the line that a diagnostic points at: the URL is in another one.
    format!(
        "variable \"database_url\" {{\n  default   = \"{url}\"\n  sensitive = true\n}}\n\n\
         resource \"bluegreen_migration\" \"it\" {{\n  name     = \"rename-preference\"\n  database = {{ url = \
         var.database_url }}\n  phase    = \"{phase}\"\n{more}\n}}\n\noutput \"runbook\" {{ value = \
         bluegreen_migration.it.runbook }}\n"
    )
}

/// SQL as a heredoc argument.
fn sql(name: &str, text: &str) -> String {
    format!("  {name} = <<-SQL\n{text}\n  SQL\n")
}

/// A guard by the stage's record.
fn guard(live: &str, stable_for: &str) -> String {
    format!("  guard = {{ parameter = \"/myapp/current-live\", live = \"{live}\", stable_for = \"{stable_for}\" }}\n")
}

/// A configuration with the stage's provider.
fn on(stage: &Stage, rest: &str) -> String {
    format!("{}{rest}", stage.provider())
}
