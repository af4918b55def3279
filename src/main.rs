//! The provider's binary: started by Terraform it serves the provider; started by hand it says what it is.

use std::process::ExitCode;
use std::sync::Arc;

use bluegreen::resource::Bluegreen;
use bluegreen::tf_provider::{Provider, handshake};
use bluegreen::variables;
use bluegreen::{compose, process::supervisor};

/// The provider's address in a Terraform configuration.
const ADDRESS: &str = "registry.terraform.io/bluegreen/bluegreen";
const NAME: &str = "bluegreen";

fn provider() -> Arc<dyn Provider> {
    Arc::new(Bluegreen::new(compose::on_aws))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == supervisor::ARGUMENT) {
        return supervisor::supervise(arguments);
    }
    variables::set_aside();
    supervisor::offer();
    if handshake::is_plugin_host() {
        return handshake::serve(provider, NAME);
    }
    match std::env::args().nth(1).as_deref() {
        Some("-debug" | "--debug") => handshake::serve_debug(provider, NAME, ADDRESS),
        Some("-version" | "--version") => {
            handshake::say(&format!("terraform-provider-bluegreen {}", env!("CARGO_PKG_VERSION")))
        }
        _ => handshake::refuse(
            "This is a Terraform provider: terraform starts it. To try it from a folder, name that folder in \
             dev_overrides of your CLI configuration (see the README).\n\nBy hand: -debug serves it to a terraform that is \
             given the printed TF_REATTACH_PROVIDERS, -version prints the version.",
        ),
    }
}
