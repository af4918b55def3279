//! The schema of a migration: its arguments, and what is known of it afterwards.

use std::collections::BTreeMap;

use crate::argument::Arguments as _;
use crate::migration::spec::Migration;
use crate::rollout::spec::Contracted;
use crate::tf_provider::{Attribute, Schema, Type};

pub(super) fn schema() -> Schema {
    let description = "A change of the schema of a database that both colors can work with at all times, in three phases: \
                       `expand` adds what the next release needs, `backfill` copies, `contract` removes what no release needs \
                       any more. Each phase runs once, under a lock, and is recorded in the table `bluegreen_migrations` of \
                       that database. That table is what counts: a second or a lost state runs nothing again. Destroying the \
                       resource leaves database and table as they are.";
    let mut attributes = Attribute::all(Migration::arguments());
    attributes.extend(computed());
    Schema::new(description, attributes)
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

fn computed() -> Vec<Attribute> {
    vec![
        Attribute::string("id").computed().describe("The name."),
        Attribute::strings("runbook").computed().describe("The steps that the apply will take, in words, known in the plan."),
        Attribute::plain("phases", Type::map(phase_type())).computed().describe(
            "What the table in the database says of each phase: `status` (`done`, `running` or `dirty`), `checksum`, \
             `statements`, `rows`, `started_at`, `finished_at` and `by`.",
        ),
        contracted_for().computed().describe(
            "Once `contract` has run with a `guard`: the `color` that was live, the time (`at`) and the `migration`. Pass it to the \
             switch, which then refuses to go back to a color that still has an older release.",
        ),
    ]
}

/// What a contract says, in the shape in which a switch takes it.
fn contracted_for() -> Attribute {
    let members = Attribute::all(Contracted::arguments());
    let types = members.iter().map(|member| (member.name().to_owned(), member.ty())).collect();
    Attribute::plain("contracted_for", Type::Object(types))
}
