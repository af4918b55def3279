//! The schema of a switch: its arguments, and what is known of it afterwards.

use crate::argument::Arguments as _;
use crate::rollout::spec::Switch;
use crate::tf_provider::{Attribute, Nesting, Schema, Type};

pub(super) fn schema() -> Schema {
    let description = "The live color of an application. Moves the traffic of listeners and rules from one target group to \
                       another: checks the color that is to become live, moves all routes together, writes the record, and \
                       puts everything back if something is wrong.";
    let mut attributes = Attribute::all(Switch::arguments());
    attributes.extend(computed());
    Schema::new(description, attributes)
}

fn computed() -> Vec<Attribute> {
    let text = |name, text| Attribute::string(name).computed().describe(text);
    let last_rollout = vec![
        text("id", "The ID of the rollout."),
        text("from", "The color that was live."),
        text("to", "The color that should become live."),
        text(
            "status",
            "One of `completed`, `waiting`, `rolled_back`, `held`, `stuck` or `unknown`. With `waiting` it came as far as `strategy.up_to`; with \
             `unknown` a call was not answered, and may still take effect.",
        ),
        text("started_at", "The time of its start (RFC 3339)."),
        text("finished_at", "The time of its end (RFC 3339)."),
        Attribute::strings("steps").computed().describe("The steps that were taken, in words."),
        text("reason", "The reason why it did not complete."),
    ];
    vec![
        text("id", "The name."),
        text("live", "The color that gets the traffic; while traffic is split, the one with the most weight."),
        text("idle", "The color that the next release goes to: the one that follows the live color."),
        text("previous", "The color that was live before another one last became live."),
        Attribute::plain("weights", Type::map(Type::Number))
            .computed()
            .describe("The percentage of the traffic per color."),
        text("switched_at", "The time when this switch last made another color live (RFC 3339)."),
        Attribute::strings("runbook").computed().describe(
            "The steps that the apply will take, in words, known in the plan; afterwards the steps of the last apply.",
        ),
        Attribute::nested("last_rollout", Nesting::Single, last_rollout).computed().describe("The last rollout."),
    ]
}
