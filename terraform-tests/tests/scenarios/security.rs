//! Nobody but the client that started the provider can call it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use terraform_tests::terraform::binaries;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

type Certificate = CertifiedKey<rcgen::KeyPair>;

struct Hosted {
    child: Child,
    socket: PathBuf,
    certificate: CertificateDer<'static>,
}

async fn host(folder: &Path, client: &Certificate) -> anyhow::Result<Hosted> {
    let mut command = Command::new(binaries().join("terraform-provider-bluegreen"));
    command.env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_CLIENT_CERT", client.cert.pem());
    command.env("PLUGIN_PROTOCOL_VERSIONS", "5,6").env("PLUGIN_UNIX_SOCKET_DIR", folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("no stdout")?;
    let line = BufReader::new(stdout).lines().next_line().await?.context("no handshake")?;
    let fields: Vec<&str> = line.split('|').collect();
    ensure!(fields[..3] == ["1", "6", "unix"] && fields[4] == "grpc", "{line}");
    let certificate = base64::engine::general_purpose::STANDARD_NO_PAD.decode(fields[5])?;
    Ok(Hosted { child, socket: fields[3].into(), certificate: certificate.into() })
}

/// Whether a client with this certificate is served: the first frame of HTTP/2 comes back.
async fn served(hosted: &Hosted, client: Option<&Certificate>) -> anyhow::Result<bool> {
    let mut roots = RootCertStore::empty();
    roots.add(hosted.certificate.clone())?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::try_from(client.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
            config.with_client_auth_cert(vec![client.cert.der().clone()], key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = UnixStream::connect(&hosted.socket).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let Ok(mut stream) = connector.connect(ServerName::try_from("localhost")?, stream).await else { return Ok(false) };
    drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await);
    let mut frame = [0; 9];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut frame)).await?;
    Ok(read.is_ok_and(|count| count > 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_client_with_the_certificate_is_served() -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir()?;
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let (right, wrong) = (make()?, make()?);
    let mut hosted = host(folder.path(), &right).await?;
    ensure!(served(&hosted, Some(&right)).await?, "the client that started it is not served");
    ensure!(!served(&hosted, None).await?, "a client without a certificate is served");
    ensure!(!served(&hosted, Some(&wrong)).await?, "a client with another certificate is served");
    let plain = async {
        let mut stream = UnixStream::connect(&hosted.socket).await?;
        drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
        let mut byte = [0; 64];
        Ok::<_, anyhow::Error>(tokio::time::timeout(Duration::from_secs(20), stream.read(&mut byte)).await??)
    };
    // A TLS alert may come back, and no HTTP/2 frame: its record type is 21.
    let answer = plain.await.unwrap_or_default();
    ensure!(answer <= 7, "a client without TLS was answered with {answer} bytes");
    ensure!(served(&hosted, Some(&right)).await?, "the refusals hurt the client that started it");

    let mode = |path: &Path| Ok::<_, anyhow::Error>(std::fs::metadata(path)?.permissions().mode() & 0o777);
    let parent = hosted.socket.parent().context("no folder")?.to_path_buf();
    ensure!(mode(&parent)? == 0o700 && mode(&hosted.socket)? == 0o600);
    other_user_is_refused(folder.path(), &hosted.socket)?;

    // Killed, it leaves its socket; the next one tidies up.
    hosted.child.kill().await?;
    ensure!(parent.exists());
    let next = host(folder.path(), &right).await?;
    // It answers its host first.
    for _ in 0..200 {
        if !parent.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    ensure!(!parent.exists(), "the socket of a killed provider is left");
    drop(next);
    Ok(())
}

/// Another user can't even reach the socket. Only root can try it.
fn other_user_is_refused(folder: &Path, socket: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.connect(sys.argv[1])\nexcept PermissionError:\n    sys.exit(13)\n";
    let mut python = std::process::Command::new("/usr/bin/env");
    python.args(["python3", "-c", script]).arg(socket).uid(65534).gid(65534).stderr(Stdio::null());
    // A python that this user can't start proves nothing, and hurts nothing: the modes were checked already.
    if let Ok(status) = python.status() {
        ensure!(status.code() != Some(0), "another user reached the socket");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_it_says_what_it_is() -> anyhow::Result<()> {
    let binary = binaries().join("terraform-provider-bluegreen");
    let output = Command::new(&binary).env_remove("TF_PLUGIN_MAGIC_COOKIE").output().await?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty());
    ensure!(String::from_utf8_lossy(&output.stderr).contains("This is a Terraform provider"));
    let output = Command::new(&binary).arg("-version").output().await?;
    ensure!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
    // A host without a certificate would let anybody call.
    let hosted =
        Command::new(&binary).env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env_remove("PLUGIN_CLIENT_CERT").output().await?;
    ensure!(hosted.status.code() == Some(1));
    ensure!(String::from_utf8_lossy(&hosted.stderr).contains("no certificate"));
    Ok(())
}
