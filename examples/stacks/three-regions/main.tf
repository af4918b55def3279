# One application in three regions, released in a wave: the next region begins
# when the one before has passed. If one goes back, the others aren't touched.
#
#   terraform apply -var active=green \
#     -var 'stacks={eu-central-1={listener_arn="…",target_group_arns={blue="…",green="…"}},eu-west-1=…,us-east-1=…}'

terraform {
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

# Credentials and endpoints come from the environment, the region from each switch.
provider "bluegreen" {}

variable "active" {
  description = "The color that is to be live, in all regions."
  type        = string
}

variable "stacks" {
  description = "The listener and the target groups of each region."
  type = map(object({
    listener_arn      = string
    target_group_arns = map(string)
  }))
}

variable "hold" {
  description = "How long a region is watched before the next one begins."
  type        = string
  default     = "10m"
}

locals {
  environments = {
    for region, stack in var.stacks :
    region => { for color, arn in stack.target_group_arns : color => { target_group_arn = arn } }
  }

  # Metrics, alarms and requests are checked as in any other switch.
  strategy     = { steps = [{ weight = 10, hold = var.hold }] }
  verification = { duration = var.hold, healthy = { min_percent_of_live = 100 } }
}

# The region with the fewest users goes first.
resource "bluegreen_switch" "first" {
  region       = "eu-west-1"
  name         = "shop"
  active       = var.active
  environments = local.environments["eu-west-1"]
  routes       = [{ listener_arn = var.stacks["eu-west-1"].listener_arn }]
  parameter    = "/shop/current-live"
  strategy     = local.strategy
  verification = local.verification
}

resource "bluegreen_switch" "second" {
  region       = "eu-central-1"
  name         = "shop"
  active       = var.active
  environments = local.environments["eu-central-1"]
  routes       = [{ listener_arn = var.stacks["eu-central-1"].listener_arn }]
  parameter    = "/shop/current-live"
  strategy     = local.strategy
  verification = local.verification

  depends_on = [bluegreen_switch.first]
}

resource "bluegreen_switch" "third" {
  region       = "us-east-1"
  name         = "shop"
  active       = var.active
  environments = local.environments["us-east-1"]
  routes       = [{ listener_arn = var.stacks["us-east-1"].listener_arn }]
  parameter    = "/shop/current-live"
  strategy     = local.strategy
  verification = local.verification

  depends_on = [bluegreen_switch.second]
}

output "live" {
  value = { for switch in [bluegreen_switch.first, bluegreen_switch.second, bluegreen_switch.third] : switch.region => switch.live }
}
