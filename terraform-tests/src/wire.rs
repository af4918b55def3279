//! Terraform's protocol by hand: a provider started for a test, called with messages that no Terraform would send.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bluegreen::tf_provider::{Type, Value, msgpack};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::terraform::binaries;

/// A message of protocol buffers, written field by field.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty one.
    #[must_use]
    pub fn new() -> Message {
        Message::default()
    }

    /// With bytes, a text or a message in a field.
    #[must_use]
    pub fn with(mut self, field: u64, bytes: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// With a number in a field.
    #[must_use]
    pub fn number(mut self, field: u64, number: u64) -> Message {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    /// With a value of Terraform's in a field, as it is encoded.
    #[must_use]
    pub fn encoded(self, field: u64, msgpack: &[u8]) -> Message {
        let value = Message::new().with(1, msgpack);
        self.with(field, &value.0)
    }

    /// With a value of Terraform's in a field.
    #[must_use]
    pub fn value(self, field: u64, value: &Value, ty: &Type) -> Message {
        self.encoded(field, &msgpack::encode(value, ty))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }
}

/// The fields of a message that hold bytes, with their numbers.
#[must_use]
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (&first, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u64::from(first & 0x7f).checked_shl(shift)?;
            shift += 7;
            if first & 0x80 == 0 {
                return Some(number);
            }
        }
    }
    let mut found = Vec::new();
    while let Some(key) = varint(&mut bytes) {
        let Some(length) = varint(&mut bytes) else { break };
        if key & 7 == 2 {
            let Some((value, rest)) = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length))
            else {
                break;
            };
            found.push((key >> 3, value.to_vec()));
            bytes = rest;
        }
    }
    found
}

/// What a call came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// gRPC's status: 0 is well, 3 is an argument that can't be read.
    pub status: String,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A provider that serves whoever knows its socket.
pub struct Served {
    /// The process.
    pub child: Child,
    socket: PathBuf,
    /// Its log goes with the folder.
    _folder: tempfile::TempDir,
}

impl Served {
    /// Starts the provider that was just built.
    ///
    /// # Errors
    /// When it doesn't say where it is.
    pub async fn start() -> anyhow::Result<Served> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(binaries().join("terraform-provider-bluegreen"));
        command.arg("-debug").env("TMPDIR", folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        while let Some(line) = lines.next_line().await? {
            let Some((_, json)) = line.split_once("TF_REATTACH_PROVIDERS='") else { continue };
            let reattach: serde_json::Value = serde_json::from_str(json.trim_end_matches('\''))?;
            let socket = reattach["registry.terraform.io/bluegreen/bluegreen"]["Addr"]["String"].as_str();
            return Ok(Served { child, socket: socket.context("no socket")?.into(), _folder: folder });
        }
        anyhow::bail!("it ended")
    }

    /// A connection, as Terraform keeps one.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Calls a procedure of the provider, such as `PlanResourceChange`.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn call(&self, procedure: &str, message: &Message) -> anyhow::Result<Answer> {
        let mut sender = self.0.clone();
        sender.ready().await?;
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.0.len())?.to_be_bytes());
        framed.extend_from_slice(&message.0);
        let request = hyper::Request::post(format!("http://localhost/tfplugin6.Provider/{procedure}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(framed)))?;
        let response = tokio::time::timeout(Duration::from_secs(60), sender.send_request(request)).await;
        let response = response.with_context(|| format!("{procedure}: no answer"))??;
        let early = response.headers().get("grpc-status").cloned();
        let body = tokio::time::timeout(Duration::from_secs(60), response.into_body().collect()).await??;
        let trailer = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        let status = early.or(trailer).context("no status")?.to_str()?.to_owned();
        let bytes = body.to_bytes();
        ensure!(bytes.len() >= 5 || bytes.is_empty(), "{procedure}: half a message");
        Ok(Answer { status, bytes: bytes.get(5..).unwrap_or_default().to_vec() })
    }
}
