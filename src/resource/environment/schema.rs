//! The schema of an environment: the arguments of a stack, and what is known of it afterwards.

use crate::argument::Arguments as _;
use crate::stack::Spec;
use crate::tf_provider::{Attribute, Schema, Type};

pub(super) fn schema() -> Schema {
    let description = "One color of a mirrored stack: a target group with EC2 instances, an ECS service or fixed targets \
                       behind it. Use it with `for_each = toset([\"blue\", \"green\"])` and pass the result to \
                       `bluegreen_switch` as `environments`. A color that serves users is not replaced, shrunk or \
                       destroyed: such a plan is an error that names the routes.\n\nOf a stack that was made elsewhere \
                       and imported, every update leaves what no argument describes as it is: further target groups \
                       of an ECS service, its Service Connect, registries, volumes, placement, lifecycle hooks and \
                       thresholds of the circuit breaker; warm pools, lifecycle hooks, scaling policies and suspended \
                       processes of an Auto Scaling group; other settings of a launch template and tags of others in \
                       it. Where that can't be done, as with a launch configuration, several network interfaces, or a \
                       service that moves its traffic itself (`BLUE_GREEN`, `LINEAR`, `CANARY`, CodeDeploy), the \
                       import and every plan that would change it are refused.";
    let mut attributes = Attribute::all(Spec::arguments());
    attributes.extend(computed());
    Schema::new(description, attributes)
}

fn computed() -> Vec<Attribute> {
    let text = |name, text| Attribute::string(name).computed().describe(text);
    vec![
        text("id", "`name/color`."),
        text("target_group_name", "The name of the target group."),
        text("security_group_id", "The security group of the instances."),
        text("launch_template_id", "The launch template."),
        Attribute::number("launch_template_version")
            .computed()
            .describe("The version of the launch template that instances are made of."),
        text("autoscaling_group_name", "The Auto Scaling group."),
        text("service_arn", "The ECS service."),
        text("task_definition_arn", "The revision of the task definition that runs."),
        text("mirror", "Everything that must be equal in all colors, as one document, which the switch compares."),
        text(
            "mirror_verbatim",
            "The values in `mirror` that contain the name of the color, as they are written. The switch compares them too.",
        ),
        Attribute::plain("tags_all", Type::map(Type::String))
            .computed()
            .describe(
                "The tags of `tags` and of `default_tags` in the provider block. What is made has `Name` and tags of the provider's \
                 own, too.",
            ),
    ]
}
