//! An AWS that answers at once: every listener of every load balancer leads to blue, every record says so. For
//! measuring what the provider costs, with nothing else in between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::REGION;

/// How many listeners a load balancer has here; AWS's own limit is 50.
pub const LISTENERS: usize = 50;

/// The stub; it ends when this is dropped.
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    task: JoinHandle<()>,
}

/// The ARN of the n-th listener of all.
#[must_use]
pub fn listener_arn(n: usize) -> String {
    let (load_balancer, listener) = (n / LISTENERS, n % LISTENERS);
    format!("arn:aws:elasticloadbalancing:{REGION}:123456789012:listener/app/lb/{load_balancer:016x}/{listener:016x}")
}

/// The ARN of a color's target group.
#[must_use]
pub fn group_arn(color: &str) -> String {
    format!("arn:aws:elasticloadbalancing:{REGION}:123456789012:targetgroup/{color}/1111111111111111")
}

impl Stub {
    /// Starts it.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> anyhow::Result<Stub> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let calls: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let log = calls.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone()));
            }
        });
        Ok(Stub { address, calls, task })
    }

    /// The calls by operation since the last time; forgets them.
    #[must_use]
    pub fn take_calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, calls: Arc<Mutex<BTreeMap<String, usize>>>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut buffer).await {
        let ssm = head.lines().find_map(|line| line.strip_prefix("x-amz-target: AmazonSSM."));
        let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let action = ssm.map(str::to_owned).or_else(|| form.get("Action").cloned()).unwrap_or_default();
        let answer = match action.as_str() {
            "DescribeListeners" => listeners(form.get("LoadBalancerArn").map_or("", String::as_str)),
            "GetParameters" => parameters(&body),
            _ => String::new(),
        };
        *calls.lock().unwrap_or_else(PoisonError::into_inner).entry(action).or_default() += 1;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if buffer.len() >= whole {
                let body = String::from_utf8_lossy(&buffer[end + 4..whole]).into_owned();
                buffer.drain(..whole);
                return Some((head, body));
            }
        }
        let mut part = [0; 16 * 1024];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&part[..count]),
        }
    }
}

fn listeners(load_balancer: &str) -> String {
    let group = |color: &str, weight: u32| {
        format!("<member><TargetGroupArn>{}</TargetGroupArn><Weight>{weight}</Weight></member>", group_arn(color))
    };
    let forward = format!(
        "<member><Type>forward</Type><ForwardConfig><TargetGroups>{}{}</TargetGroups></ForwardConfig></member>",
        group("blue", 100),
        group("green", 0)
    );
    let base = load_balancer.replacen(":loadbalancer/", ":listener/", 1);
    let member = |n: usize| {
        format!("<member><ListenerArn>{base}/{n:016x}</ListenerArn><DefaultActions>{forward}</DefaultActions></member>")
    };
    let members: String = (0..LISTENERS).map(member).collect();
    format!(
        "<DescribeListenersResponse><DescribeListenersResult><Listeners>{members}</Listeners>\
         </DescribeListenersResult></DescribeListenersResponse>"
    )
}

fn parameters(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let names = body["Names"].as_array().cloned().unwrap_or_default();
    let found: Vec<_> =
        names.into_iter().map(|name| serde_json::json!({ "Name": name, "Value": "blue", "Type": "String" })).collect();
    serde_json::json!({ "Parameters": found }).to_string()
}
