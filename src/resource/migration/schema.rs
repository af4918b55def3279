//! The arguments of a migration, as the documentation shows them.

use std::collections::BTreeMap;

use crate::database::TlsMode;
use crate::duration;
use crate::migration::Phase;
use crate::resource::switch;
use crate::tf_provider::{Attribute, Nesting, Schema, Type, Value};

pub(super) fn schema() -> Schema {
    let description = "A change of a database's schema that both colours can work with all the time, in three phases: \
                       `expand` adds what the next release needs, `backfill` copies, `contract` takes away what no release \
                       needs any more. Each phase runs once, under a lock, and is written down in the table \
                       `bluegreen_migrations` of that database, which is what counts: a second state, or a lost one, runs \
                       nothing again. Destroying the resource leaves database and table as they are.";
    let text = |name, text| Attribute::string(name).describe(text);
    let mut attributes = vec![
        Attribute::string("name").required().check(name).describe(
            "The name of the migration in that table. It can't be changed: under another name its phases would run again.",
        ),
        Attribute::nested("database", Nesting::Single, database()).required().describe("Where it runs."),
        text("expand", "SQL that adds. Like all phases it may have several statements, as `psql` and `mysql` take them, but none that begins or ends a transaction: where the database can, a phase is one."),
        text("backfill", "SQL that copies what is there into what was added."),
        text("contract", "SQL that takes away. It should have a `guard`."),
        Attribute::bool("batched").describe(
            "Whether `backfill` is repeated, each time in a transaction of its own, until it changes no row. Its statement \
             limits itself and passes over rows that it has changed already, and those that have nothing to copy. A run that is interrupted is gone on with.",
        ),
        Attribute::string("phase").required().check(phase).describe(
            "The phase up to which it shall have run: `expand`, `backfill` or `contract`. Only forward.",
        ),
        Attribute::nested("guard", Nesting::Single, guard()).describe(
            "What must hold before `contract` runs; it is looked at when planning and again right before. While it runs no \
             rollout of that record can begin.",
        ),
        Attribute::string("resolve").check(resolve).describe(
            "For a phase that died half-way where the database can't undo it: `applied` (all of it has happened, be it by \
             hand) or `reverted` (nothing of it is left; it runs again), in an apply of its own with `phase` at that phase. \
             Remove it afterwards: no phase begins while it is there for nothing.",
        ),
        Attribute::string("lock_timeout").check(lock_timeout).describe(
            "How long a statement may wait for locks, `2s` if left out: so long all other users of the table wait behind it. \
             Then it gives way and tries again, eight times.",
        ),
        Attribute::string("statement_timeout").check(positive).describe(
            "How long a statement of `expand` or `contract`, or a batch, may take; `1m` if left out. Indexes that are built \
             `CONCURRENTLY`, and a backfill that is not batched, have the whole time.",
        ),
        Attribute::string("pause")
            .check(pause)
            .describe("The rest between two batches, up to `1m`; `100ms` if left out."),
        Attribute::nested("timeouts", Nesting::Single, timeouts()).describe("How long operations may take."),
    ];
    attributes.extend(computed());
    Schema::new(description, attributes)
}

fn database() -> Vec<Attribute> {
    let tls = vec![
        Attribute::string("mode").check(tls_mode).describe(
            "`disable`, `prefer`, `require`, `verify-ca` or `verify-full`, instead of the URL's `sslmode`. `verify-full` is the \
             default, and `prefer` on this machine (a socket, `localhost`, a loopback address). To another machine `prefer` is \
             `require`: nothing is sent in the clear. `require` encrypts without asking who answers.",
        ),
        Attribute::string("ca_bundle").describe("A PEM file with the authorities to trust, such as that of RDS; `~` is the user's own folder."),
    ];
    vec![
        Attribute::string("url").sensitive().describe(
            "`postgres://user:password@host:5432/database` or `mysql://…`, with `sslmode`, `sslrootcert` (MySQL: `ssl-mode`, \
             `ssl-ca`) and `connect_timeout` as parameters. It is kept in the state; `url_wo` is not.",
        ),
        Attribute::string("url_wo").sensitive().write_only().describe(
            "The same, not kept anywhere: Terraform 1.11 or later. A refresh then looks at nothing; plans do.",
        ),
        Attribute::nested("tls", Nesting::Single, tls).describe("How the connection is encrypted."),
        Attribute::bool("iam_auth").describe(
            "Whether the password is a token that is made from the provider's AWS credentials, as RDS and Aurora take it \
             (`rds-db:connect`). The URL then has none. Whoever is sent a token has it: the connection is always `verify-full`, \
             unless `tls.mode` says `require` or `verify-ca`.",
        ),
    ]
}

fn guard() -> Vec<Attribute> {
    vec![
        Attribute::string("parameter")
            .required()
            .check(switch::parameter)
            .describe("The record: the `parameter` of the switch."),
        Attribute::string("live").required().describe("The colour that must be live: the one with the new release."),
        Attribute::string("stable_for")
            .check(duration::check)
            .describe("How long it must have been live, such as `24h`; any time if left out."),
    ]
}

fn timeouts() -> Vec<Attribute> {
    let timeout = |name, text| Attribute::string(name).check(positive).describe(text);
    vec![timeout("create", "`1h` if left out."), timeout("update", "`1h` if left out.")]
}

fn object(pairs: &[(&str, Type)]) -> Type {
    Type::Object(pairs.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect::<BTreeMap<_, _>>())
}

/// What is known of a phase.
fn phase_type() -> Type {
    let texts = ["checksum", "status", "started_at", "finished_at", "by"];
    let mut pairs: Vec<(&str, Type)> = texts.iter().map(|name| (*name, Type::String)).collect();
    pairs.extend(["statements", "rows"].map(|name| (name, Type::Number)));
    object(&pairs)
}

/// What a switch needs to know of a contract.
pub(in crate::resource) fn contracted_for() -> Type {
    object(&[("color", Type::String), ("at", Type::String), ("migration", Type::String)])
}

fn computed() -> Vec<Attribute> {
    vec![
        Attribute::string("id").computed().describe("The name."),
        Attribute::strings("runbook").computed().describe("What this apply runs, in words; known when planning."),
        Attribute::plain("phases", Type::map(phase_type())).computed().describe(
            "What the database's table says, by phase: `status` (`done`, `running`, `dirty`), `checksum`, `statements`, \
             `rows`, `started_at`, `finished_at`, `by`.",
        ),
        Attribute::plain("contracted_for", contracted_for()).computed().describe(
            "Once `contract` ran with a guard: the colour that was live (`color`), when (`at`), and the `migration`. Give it \
             to the switch, which then refuses to go back to a colour that still has an older release.",
        ),
    ]
}

fn one_of(value: &Value, allowed: &[&str]) -> Result<(), String> {
    let Some(text) = value.as_str().filter(|text| !allowed.contains(text)) else { return Ok(()) };
    Err(format!("{text:?} is none of {}", allowed.join(", ")))
}

fn name(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    // What MySQL's indexes hold of four-byte characters.
    let fits = (1..=190).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err("must have 1 to 190 characters".to_owned()) }
}

fn phase(value: &Value) -> Result<(), String> {
    one_of(value, &Phase::ALL.map(Phase::name))
}

fn resolve(value: &Value) -> Result<(), String> {
    one_of(value, &["applied", "reverted"])
}

fn tls_mode(value: &Value) -> Result<(), String> {
    one_of(value, &TlsMode::NAMES.map(|(name, _)| name))
}

fn within(value: &Value, least: &str, most: &str) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let (given, least_time, most_time) = (duration::parse(text)?, duration::parse(least)?, duration::parse(most)?);
    if (least_time..=most_time).contains(&given) { Ok(()) } else { Err(format!("must be from {least} to {most}")) }
}

fn positive(value: &Value) -> Result<(), String> {
    within(value, "1s", "168h")
}

fn lock_timeout(value: &Value) -> Result<(), String> {
    within(value, "1s", "1m")
}

fn pause(value: &Value) -> Result<(), String> {
    within(value, "0s", "1m")
}
