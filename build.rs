//! Compiles the protocol files with a compiler written in Rust, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/tfplugin6.proto", "proto/plugin.proto", "proto/health.proto"];
    let set = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().build_client(false).build_transport(false).compile_fds(set)?;
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    // Terraform starts the provider several times a run. At a fixed address the loader has nothing to relocate, which
    // is a third of the time to the handshake: 800 KiB of pages that are otherwise touched for that alone.
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if (target("OS").as_str(), target("ENV").as_str()) == ("linux", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    Ok(())
}
