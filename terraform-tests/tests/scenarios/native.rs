//! Terraform's own tests: the `.tftest.hcl` files beside the examples, as a user of the provider would write them.

use anyhow::Context as _;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, engines, repository};

#[tokio::test(flavor = "multi_thread")]
async fn terraform_test_passes() -> anyhow::Result<()> {
    for engine in engines() {
        let mut stage = Stage::empty().await?;
        stage.listener(Leads::Unavailable).await?;
        let mut terraform = Terraform::on(engine)?;
        let folder = repository().join("terraform-tests/native");
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
            terraform.file(&name, &std::fs::read_to_string(entry.path())?)?;
        }
        stage.lend_to(&mut terraform);
        for (name, value) in [
            ("TF_VAR_blue", stage.group("blue")),
            ("TF_VAR_green", stage.group("green")),
            ("TF_VAR_listener_arn", &stage.listeners[0]),
        ] {
            terraform.set(name, value);
        }
        terraform.run(&["test", "-no-color"]).await?.ok()?.has(&["Success!"])?;
    }
    Ok(())
}
