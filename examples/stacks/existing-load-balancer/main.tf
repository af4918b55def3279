# A switch over a load balancer and two target groups that exist already. This is
# what `make demo` applies; it works as it is in an AWS account, too.
#
#   terraform apply -var active=green -var listener_arn=… -var 'target_group_arns={blue="…",green="…"}'

terraform {
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

# Region, credentials and endpoints come from the environment.
provider "bluegreen" {}

variable "active" {
  description = "The color that is to be live."
  type        = string
}

variable "listener_arn" {
  description = "The listener whose default action leads to the app."
  type        = string
}

variable "target_group_arns" {
  description = "The target group of each color."
  type        = map(string)
}

variable "parameter" {
  description = "The SSM parameter that says which color is live."
  type        = string
  default     = "/myapp/current-live"
}

resource "bluegreen_switch" "app" {
  name         = "myapp"
  active       = var.active
  environments = { for color, arn in var.target_group_arns : color => { target_group_arn = arn } }
  routes       = [{ listener_arn = var.listener_arn }]
  parameter    = var.parameter

  validation = {
    healthy = { min_count = 2, timeout = "2m", interval = "1s" }
  }
}

output "live" {
  value = bluegreen_switch.app.live
}

output "steps" {
  description = "What the last apply did."
  value       = bluegreen_switch.app.last_rollout == null ? [] : bluegreen_switch.app.last_rollout.steps
}
