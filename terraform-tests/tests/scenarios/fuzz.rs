//! Random messages to a running provider: whatever comes, it answers, and never by a panic. And so many calls at once that
//! a stop must find its way through them.
//!
//! `BLUEGREEN_FUZZ_MESSAGES` says how many; `BLUEGREEN_FUZZ_SEED` repeats a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bluegreen::resource::Bluegreen;
use bluegreen::tf_provider::{Number, Provider as _, Type, Value, msgpack};
use serde_json::json;
use terraform_tests::wire::{Connection, Message, Served, fields};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

/// In `make test`.
const MESSAGES: u64 = 10_000;
/// A busy machine takes its time over hundreds of calls; one that no stop reaches goes on for minutes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many are under way at once.
const LANES: u64 = 16;

/// A generator that a seed decides (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.roll(from.len())]
    }
}

/// Texts that mean something somewhere, and such as nobody expects.
const TEXTS: [&str; 44] = [
    "",
    "blue",
    "green",
    "myapp",
    "/myapp/current-live",
    "rollback",
    "hold",
    "keep",
    "restore",
    "error",
    "off",
    "5m",
    "0s",
    "-1s",
    "99999999h",
    "1h30m",
    "{color}",
    "https://{color}.myapp.com/health?a=b",
    "http://u:p@[::1]:99999/",
    "http:///x",
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/lb/50dc6c495c0c9188/f2f7dc8efc522ab2",
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/6d0ecf831eec9f09",
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener-rule/app/lb/1/2/3",
    "arn:aws:",
    ":::::::::::::",
    "HTTP",
    "TCP",
    "GENEVE",
    "lambda",
    "ip",
    "vpc-12345678",
    "ami-12345678",
    "10.0.0.0/8",
    "::/0",
    "200-299",
    "*",
    "postgres://app:x@127.0.0.1:1/db",
    "mysql://app@%2Ftmp/db",
    "SELECT 1; DROP TABLE a;",
    "CREATE INDEX CONCURRENTLY i ON t(a)",
    "{\"containerDefinitions\":[{}]}",
    "\u{1b}[31m\u{0}\u{202e}::error::",
    "ß\u{301}🦀\u{10ffff}",
    "((((((((((a{1000}){1000}",
];

/// A value of this type; now and then of another one.
fn value(ty: &Type, dice: &mut Dice, depth: usize) -> Value {
    match dice.roll(24) {
        0..=5 => return Value::Null,
        6 => return Value::UNKNOWN,
        _ => {}
    }
    let count = if depth > 6 { 0 } else { dice.roll(4) };
    match ty {
        Type::Bool => Value::Bool(dice.roll(2) == 0),
        Type::Number => number(dice),
        Type::String => Value::from(*dice.pick(&TEXTS)),
        Type::List(element) | Type::Set(element) => {
            Value::List((0..count).map(|_| value(element, dice, depth + 1)).collect())
        }
        Type::Map(element) => {
            let pairs = (0..count).map(|_| ((*dice.pick(&TEXTS)).to_owned(), value(element, dice, depth + 1)));
            Value::Map(pairs.collect::<Vec<_>>().into_iter().collect())
        }
        Type::Object(attributes) => {
            let pairs = attributes.iter().map(|(name, ty)| (name.clone(), value(ty, dice, depth + 1)));
            Value::Map(pairs.collect())
        }
        Type::Tuple(types) => Value::List(types.iter().map(|ty| value(ty, dice, depth + 1)).collect()),
        Type::Dynamic => Value::Null,
    }
}

fn number(dice: &mut Dice) -> Value {
    let texts = ["0", "1", "-1", "2", "80", "100", "65536", "1e400", "-1e999", "0.1", "9223372036854775808", "1e-320"];
    Value::Number(Number::from_decimal(dice.pick::<&str>(&texts)).unwrap_or(Number::Int(7)))
}

/// A value that a user could have written, with some of its leaves replaced.
fn changed(base: &Value, ty: &Type, dice: &mut Dice, depth: usize) -> Value {
    if dice.roll(if depth == 0 { 40 } else { 12 }) == 0 {
        return value(ty, dice, depth);
    }
    match (base, ty) {
        (Value::Map(map), Type::Object(attributes)) => {
            let pair = |(name, ty): (&String, &Type)| {
                (name.clone(), changed(map.get(name).unwrap_or(&Value::Null), ty, dice, depth + 1))
            };
            Value::Map(attributes.iter().map(pair).collect())
        }
        (Value::Map(map), Type::Map(element)) => {
            Value::Map(map.iter().map(|(name, item)| (name.clone(), changed(item, element, dice, depth + 1))).collect())
        }
        (Value::List(items), Type::List(element) | Type::Set(element)) => {
            Value::List(items.iter().map(|item| changed(item, element, dice, depth + 1)).collect())
        }
        (Value::Null, _) if dice.roll(20) > 0 => Value::Null,
        (Value::Null, _) => value(ty, dice, depth + 1),
        (base, _) => base.clone(),
    }
}

/// Bytes, some of which fell over.
fn broken(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u8::try_from(dice.roll(256)).unwrap_or_default()),
            _ if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).unwrap_or_default(),
            _ => {}
        }
    }
    bytes
}

/// What a message is made of: a resource with a state or configuration that it could really have.
struct Thing {
    name: &'static str,
    ty: Type,
    base: Value,
}

fn things(provider: &Bluegreen) -> anyhow::Result<Vec<Thing>> {
    let arn = |what: &str| format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:{what}");
    let (blue, green) = (arn("targetgroup/blue/6d0ecf831eec9f09"), arn("targetgroup/green/6d0ecf831eec9f0a"));
    let http = json!([{ "url": "https://{color}.myapp.com/health", "status": [200], "headers": { "A": "b" } }]);
    let switch = json!({
        "id": "myapp", "name": "myapp", "active": "green", "parameter": "/myapp/current-live",
        "environments": { "blue": { "target_group_arn": blue }, "green": { "target_group_arn": green } },
        "routes": [
            { "listener_arn": arn("listener/app/lb/50dc6c495c0c9188/f2f7dc8efc522ab2") },
            { "listener_arn": arn("listener/app/lb/50dc6c495c0c9188/f2f7dc8efc522ab2"), "priority": 10,
              "conditions": { "host_headers": ["app.example.com"] } },
        ],
        "validation": { "http": http, "command": [{ "argv": ["true"] }], "healthy": { "min_count": 1 } },
        "strategy": { "steps": [{ "weight": 10, "hold": "2m" }] },
        "verification": { "duration": "5m", "metrics": [{ "metric": "error_rate", "max": 0.01 }] },
        "stickiness": { "duration": "1h" }, "live": "blue", "idle": "green", "weights": { "blue": 100, "green": 0 },
    });
    let environment = json!({
        "id": "myapp/blue", "name": "myapp", "color": "blue", "release": "v1", "vpc_id": "vpc-12345678",
        "target_group": { "port": 80, "protocol": "HTTP", "health_check": { "path": "/health", "interval": 30 } },
        "instances": { "image_id": "ami-12345678", "instance_type": "t3.medium", "subnet_ids": ["subnet-1"],
            "min_size": 2, "desired_capacity": 2, "max_size": 4, "user_data": "#!/bin/sh",
            "ingress": [{ "protocol": "tcp", "from_port": 80, "to_port": 80, "cidr_blocks": ["0.0.0.0/0"] }] },
        "tags": { "a": "b" }, "target_group_arn": blue, "target_group_name": "myapp-blue",
        "autoscaling_group_name": "myapp-blue", "launch_template_version": 1,
    });
    let migration = json!({
        "name": "rename", "database": { "url": "postgres://app:x@127.0.0.1:1/db" }, "phase": "expand",
        "expand": "ALTER TABLE a ADD COLUMN b text;", "backfill": "UPDATE a SET b = 'x';", "contract": "ALTER TABLE a DROP c;",
        "guard": { "parameter": "/myapp/current-live", "live": "green", "stable_for": "24h" },
    });
    let bases =
        [("bluegreen_switch", switch), ("bluegreen_environment", environment), ("bluegreen_migration", migration)];
    let thing = |(name, base): (&'static str, serde_json::Value)| {
        let found = provider.resources().iter().find(|(own, _)| *own == name).context("no such resource")?;
        let ty = found.1.schema().ty().clone();
        let base = msgpack::from_json(&base, &ty).map_err(anyhow::Error::msg)?;
        Ok(Thing { name, ty, base })
    };
    bases.into_iter().map(thing).collect()
}

/// A call with its message.
fn call(things: &[Thing], provider: &Type, dice: &mut Dice) -> (&'static str, Message) {
    let thing = dice.pick(things);
    let name = thing.name.as_bytes();
    let one = |dice: &mut Dice| {
        let value = match dice.roll(8) {
            0 => Value::Null,
            1 => value(&thing.ty, dice, 0),
            2 => thing.base.clone(),
            _ => changed(&thing.base, &thing.ty, dice, 0),
        };
        let bytes = msgpack::encode(&value, &thing.ty);
        if dice.roll(10) == 0 { broken(bytes, dice) } else { bytes }
    };
    let private = |dice: &mut Dice| match dice.roll(3) {
        0 => Vec::new(),
        1 => broken(b"{\"version\":1,\"owner\":\"a\",\"world\":{\"routes\":{}}}".to_vec(), dice),
        _ => b"{\"owner\":\"a\",\"name\":\"b\"}".to_vec(),
    };
    match dice.roll(12) {
        0..=2 => ("ValidateResourceConfig", Message::new().with(1, name).encoded(2, &one(dice))),
        3..=6 => {
            let message = Message::new().with(1, name).encoded(2, &one(dice)).encoded(3, &one(dice));
            ("PlanResourceChange", message.encoded(4, &one(dice)).with(5, &private(dice)))
        }
        7 | 8 => ("ReadResource", Message::new().with(1, name).encoded(2, &one(dice)).with(3, &private(dice))),
        9 => {
            let text =
                dice.pick(&["{}", "null", "[]", "{\"name\":7}", "{\"environments\":{\"a\":1e999}}", "{\"name\":"]);
            let json =
                if dice.roll(2) == 0 { text.as_bytes().to_vec() } else { broken(text.as_bytes().to_vec(), dice) };
            let raw = Message::new().with(1, &json);
            let version = dice.roll(3) as u64;
            ("UpgradeResourceState", Message::new().with(1, name).number(2, version).with(3, raw.bytes()))
        }
        10 => ("ImportResourceState", Message::new().with(1, name).with(2, dice.pick(&TEXTS).as_bytes())),
        _ if dice.roll(2) == 0 => {
            let config = value(provider, dice, 0);
            ("ValidateProviderConfig", Message::new().value(1, &config, provider))
        }
        _ => {
            let list = Type::list(Type::String);
            let message = Message::new().with(1, b"other").value(2, &value(&Type::String, dice, 0), &Type::String);
            ("CallFunction", message.value(2, &value(&list, dice, 0), &list))
        }
    }
}

/// An AWS that answers at once, and never what it should.
async fn strange_aws() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let answers: [(&str, &str); 6] = [
            ("200 OK", ""),
            (
                "200 OK",
                "{\"Parameters\":[{\"Name\":\"/myapp/current-live\",\"Value\":\"\\u001bpurple\",\"Version\":-7}]}",
            ),
            (
                "400 Bad Request",
                "<ErrorResponse><Error><Code>ValidationError</Code><Message>\u{1b}[31m no</Message></Error></ErrorResponse>",
            ),
            (
                "200 OK",
                "<DescribeListenersResponse><DescribeListenersResult><Listeners><member/></Listeners></DescribeListenersResult></DescribeListenersResponse>",
            ),
            ("400 Bad Request", "{\"__type\":\"ParameterNotFound\"}"),
            ("200 OK", "<<<<"),
        ];
        let mut n = 0_usize;
        while let Ok((mut stream, _)) = listener.accept().await {
            n += 1;
            let (status, body) = answers[n % answers.len()];
            tokio::spawn(async move {
                let mut part = [0; 16 * 1024];
                // One request a connection, of which the rest doesn't matter.
                let _ = stream.read(&mut part).await;
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    Ok(format!("http://{address}"))
}

async fn configure(connection: &Connection, ty: &Type, config: serde_json::Value) -> anyhow::Result<()> {
    let config = msgpack::from_json(&config, ty).map_err(anyhow::Error::msg)?;
    let answer = connection.call("ConfigureProvider", &Message::new().with(1, b"1.15.0").value(2, &config, ty)).await?;
    ensure!(answer.status == "0" && fields(&answer.bytes).is_empty(), "{answer:?}");
    Ok(())
}

/// What an answer says to a person.
fn diagnostics(procedure: &str, bytes: &[u8]) -> String {
    let number = match procedure {
        "ValidateResourceConfig" => 1,
        "PlanResourceChange" => 4,
        _ => 2,
    };
    let texts = fields(bytes).into_iter().filter(|(field, _)| *field == number).flat_map(|(_, one)| fields(&one));
    let texts = texts.filter(|(field, _)| matches!(field, 2 | 3));
    texts.map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).collect()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_makes_it_panic() -> anyhow::Result<()> {
    let messages = variable("BLUEGREEN_FUZZ_MESSAGES").unwrap_or(MESSAGES);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed()?;
    let seed = variable("BLUEGREEN_FUZZ_SEED").unwrap_or(clock.as_secs() << 20 | u64::from(clock.subsec_micros()));
    let provider = Bluegreen::new(bluegreen::compose::on_aws);
    let (things, ty) = (Arc::new(things(&provider)?), provider.schema().ty().clone());
    let mut served = Served::start().await?;
    let connection = served.connect().await?;
    let aws = strange_aws().await?;
    let config = json!({
        "region": "eu-central-1", "access_key": "a", "secret_key": "b", "endpoint_url": aws, "max_retries": 0,
        "skip_requesting_account_id": true,
    });
    configure(&connection, &ty, config).await?;
    let (answered, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let lane = |lane: u64| {
        let (things, ty, connection) = (things.clone(), ty.clone(), connection.clone());
        let (answered, refused) = (answered.clone(), refused.clone());
        tokio::spawn(async move {
            for n in (lane..messages).step_by(usize::try_from(LANES)?) {
                let mut dice = Dice(seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
                for _ in 0..4 {
                    dice.roll(2);
                }
                let (procedure, message) = call(&things, &ty, &mut dice);
                let answer = connection.call(procedure, &message).await;
                let about = || String::from_utf8_lossy(message.bytes()).into_owned();
                let answer = answer.with_context(|| format!("{procedure}, message {n} of seed {seed}: {}", about()))?;
                let text = String::from_utf8_lossy(&answer.bytes);
                let words = format!("{procedure}, message {n} of seed {seed}: {} {text}", answer.status);
                ensure!(!text.contains("ended by a panic"), "{words}");
                ensure!(!diagnostics(procedure, &answer.bytes).contains(['\u{1b}', '\0']), "{words}");
                ensure!(matches!(answer.status.as_str(), "0" | "3"), "{words}");
                let count = if answer.status == "0" { &answered } else { &refused };
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        })
    };
    let mut failed = Ok(());
    for lane in (0..LANES).map(lane).collect::<Vec<_>>() {
        failed = failed.and(lane.await?);
    }
    let gone = served.child.try_wait()?;
    ensure!(gone.is_none(), "the provider is gone: {gone:?} (seed {seed})");
    failed?;
    let (answered, refused) = (answered.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    eprintln!("{messages} messages: {answered} answered, {refused} refused as unreadable, 0 panics; seed {seed}");
    ensure!(answered > messages / 2 && answered + refused == messages);
    Ok(())
}

/// Terraform runs as many operations at once as it is told, and HTTP/2 has a limit of its own: a stop must not wait behind
/// them, nor may what cancels them all close the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gets_through_however_many_calls_there_are() -> anyhow::Result<()> {
    let provider = Bluegreen::new(bluegreen::compose::on_aws);
    let (things, ty) = (things(&provider)?, provider.schema().ty().clone());
    let served = Served::start().await?;
    let connection = served.connect().await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let aws = format!("http://{}", silent.local_addr()?);
    let config = json!({ "region": "eu-central-1", "access_key": "a", "secret_key": "b", "endpoint_url": aws });
    configure(&connection, &ty, config).await?;
    let switch = &things[0];
    let message = Message::new().with(1, switch.name.as_bytes()).value(2, &switch.base, &switch.ty);
    let reads: Vec<_> = (0..600)
        .map(|_| {
            let (connection, message) = (connection.clone(), message.clone());
            tokio::spawn(async move { connection.call("ReadResource", &message).await })
        })
        .collect();
    // Somebody connects, so they are under way.
    let _stream = timeout(Duration::from_secs(20), silent.accept()).await.context("nobody reads")??;
    let start = Instant::now();
    let stopped = connection.call("StopProvider", &Message::new()).await?;
    ensure!(stopped.status == "0" && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    for read in reads {
        let answer = timeout(PATIENCE, read).await.context("a read goes on")???;
        ensure!(answer.status == "0" && String::from_utf8_lossy(&answer.bytes).contains("Interrupted"));
    }
    eprintln!("600 reads ended {:?} after the stop", start.elapsed());
    Ok(())
}
